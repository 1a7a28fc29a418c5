package scsi

// prOut is one PERSISTENT RESERVE OUT, and what comes of it.
type prOut struct {
	action, kind uint8
	scope        uint8
	initiator    uint8
	key, newKey  uint64 // RESERVATION KEY, SERVICE ACTION RESERVATION KEY

	conflict bool
	s        sense
	failed   bool
	// Who is told what, and whose commands are to be aborted: bit sets.
	cleared, released, lost uint32
}

// runReserveOut answers PERSISTENT RESERVE OUT (SPC-4, 6.16).
func runReserveOut(c *Command) {
	if be.Uint32(c.CDB[5:]) != prParamLength {
		c.fail(illegal(ascParamListLength))
		return
	}
	var b [prParamLength]byte
	if !c.parameters(b[:]) {
		return
	}
	if flags := b[20] & (prParamSpecIPT | prParamAllTargets | prParamAPTPL); flags != 0 {
		c.fail(badParam(20, -1)) // none of them is supported
		return
	}
	p := prOut{
		action: c.op.action, kind: c.CDB[2] & reservationMask, scope: c.CDB[2] & scopeMask, initiator: c.Initiator,
		key: be.Uint64(b[:]), newKey: be.Uint64(b[8:]),
	}
	u := c.u
	r := &u.reservations
	r.mu.Lock()
	r.out(&p)
	r.publish()
	r.mu.Unlock()
	switch {
	case p.conflict:
		c.ctl.counters.conflicts.Add(1)
		c.refuse(StatusReservationConflict)
		return
	case p.failed:
		c.fail(p.s)
		return
	}
	// Unit attentions are set before the command ends (SPC-4, 5.13.11).
	me := uint32(1) << c.Initiator
	u.attendSet(p.cleared&^me, attentionReservationsPreempted)
	u.attendSet(p.released&^me, attentionReservationsReleased)
	u.attendSet(p.lost&^me, attentionRegistrationsPreempted)
	if p.action == saPreemptAbort && p.lost != 0 {
		c.abortPreempted(p.lost)
		return
	}
	c.good()
}

// abortPreempted ends the commands of nexuses, and then this one.
func (c *Command) abortPreempted(set uint32) {
	t := &Task{Done: func(*Task) { c.good() }}
	t.left.Store(1)
	c.u.abort(Aborted, t, func(o *Command) bool { return o != c && set>>o.Initiator&1 != 0 })
	t.release()
}

// fail ends the action with CHECK CONDITION.
func (p *prOut) fail(s sense) { p.s, p.failed = s, true }

// out changes registrations and the reservation. Preconditions: locked.
func (r *reservations) out(p *prOut) {
	if p.action == saRegister || p.action == saRegisterIgnore {
		r.register(p)
		return
	}
	// All other actions are for registrants that know their key (SPC-4, table 66).
	if !r.isRegistered(p.initiator) || r.keys[p.initiator] != p.key {
		p.conflict = true
		return
	}
	switch p.action {
	case saReserve:
		r.reserve(p)
	case saRelease:
		r.release(p)
	case saClear:
		p.cleared = r.registered
		r.forget(r.registered)
		r.generation++
	case saPreempt, saPreemptAbort:
		r.preempt(p)
	}
}

// register answers REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4, 5.13.7).
func (r *reservations) register(p *prOut) {
	registered := r.isRegistered(p.initiator)
	if p.action == saRegister {
		if registered && r.keys[p.initiator] != p.key || !registered && p.key != 0 {
			p.conflict = true
			return
		}
	}
	switch {
	case p.newKey != 0:
		r.keys[p.initiator] = p.newKey
		r.registered |= 1 << p.initiator
		r.generation++
	case registered:
		// The others hear of it when a reservation for registrants ends.
		kind := r.kind
		r.forget(1 << p.initiator)
		if r.kind == 0 && registrantsOnly(kind) {
			p.released = r.registered
		}
		r.generation++
	}
}

// reserve answers RESERVE (SPC-4, 5.13.9).
func (r *reservations) reserve(p *prOut) {
	switch {
	case !r.checkType(p):
	case r.kind == 0:
		r.kind, r.holder = p.kind, p.initiator
	case !r.holds(p.initiator) || r.kind != p.kind:
		p.conflict = true
	}
}

// checkType refuses scopes and types that there are not.
func (r *reservations) checkType(p *prOut) bool {
	switch {
	case p.scope != 0:
		p.fail(badCDB(2, 7))
	case !knownReservation(p.kind):
		p.fail(badCDB(2, 3))
	default:
		return true
	}
	return false
}

// release answers RELEASE (SPC-4, 5.13.11.2).
func (r *reservations) release(p *prOut) {
	switch {
	case r.kind == 0 || !r.holds(p.initiator): // nothing to release is no error
	case p.scope != 0 || p.kind != r.kind:
		p.fail(illegal(ascBadRelease))
	default:
		if registrantsOnly(r.kind) || allRegistrants(r.kind) {
			p.released = r.registered
		}
		r.kind = 0
	}
}

// preempt answers PREEMPT and PREEMPT AND ABORT (SPC-4, 5.13.11.4 and .5).
func (r *reservations) preempt(p *prOut) {
	// The key names the holder: the reservation changes hands. Key zero names all
	// holders, where all registrants are.
	takeover := r.kind != 0 &&
		(allRegistrants(r.kind) && p.newKey == 0 || !allRegistrants(r.kind) && r.keys[r.holder] == p.newKey)
	if !takeover {
		r.preemptKeys(p)
		return
	}
	if !r.checkType(p) {
		return
	}
	victims := r.withKey(p.newKey)
	if allRegistrants(r.kind) {
		victims = r.registered
	}
	victims &^= 1 << p.initiator
	old := r.kind
	r.forget(victims)
	if old != p.kind && (registrantsOnly(old) || allRegistrants(old)) {
		p.released = r.registered
	}
	p.lost = victims
	r.kind, r.holder = p.kind, p.initiator
	r.generation++
}

// preemptKeys removes registrations, also the own one where it has the key, and
// leaves the reservation alone.
func (r *reservations) preemptKeys(p *prOut) {
	if p.newKey == 0 {
		p.fail(badParam(8, -1))
		return
	}
	victims := r.withKey(p.newKey)
	if victims == 0 {
		p.conflict = true
		return
	}
	p.lost = victims
	r.forget(victims)
	r.generation++
}
