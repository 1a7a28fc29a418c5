// Package scsi is a SCSI target: direct access devices (SBC-3) and DVD drives
// (a subset of MMC-6) over disks of package blk, as SPC-4 and SAM-5 want them.
// Front ends hand it commands from any number of goroutines.
package scsi

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"keel/translate/blk"
)

const (
	// MaxLUNs bounds the logical units of a controller.
	MaxLUNs = 64
	// MaxInitiators bounds the I_T nexuses of a controller.
	MaxInitiators = 32
	// ReportLUNs is the REPORT LUNS well known logical unit, as the first two
	// bytes of its LUN (SAM-5, 4.7.7; SPC-4, 8.2).
	ReportLUNs = 0xc101
)

// Errors of adding and removing logical units.
var (
	ErrLUN  = errors.New("logical unit number is not usable")
	ErrDisk = errors.New("disk cannot be a logical unit")
)

// Kind is what a logical unit is to the guest.
type Kind uint8

// The kinds.
const (
	Disk Kind = iota // a direct access block device
	DVD              // a DVD drive with a medium of 2048-byte blocks, read only
)

// EventKind is a change that a front end tells its guest about.
type EventKind uint8

// The events.
const (
	LUNAdded EventKind = iota
	LUNRemoved
	LUNResized
	MediumChanged // of a DVD drive
)

// Event is a change of a logical unit. Unit attentions are set before it is sent.
type Event struct {
	Kind EventKind
	LUN  uint16
}

// Controller is a SCSI target device with its logical units.
type Controller struct {
	units  [MaxLUNs]atomic.Pointer[unit]
	absent *unit // answers for logical units that are not there
	known  *unit // the well known logical unit
	pool   pool
	notify func(Event)

	counters counters
	mu       sync.Mutex // of adding and removing
}

// New returns a controller without logical units. notify, which may be nil, is
// called after each change of a logical unit, on the goroutine that caused it; no
// lock is held.
func New(notify func(Event)) *Controller {
	c := &Controller{notify: notify}
	if notify == nil {
		c.notify = func(Event) {}
	}
	c.absent = &unit{ctl: c, kind: kindAbsent, scale: 1}
	c.known = &unit{ctl: c, kind: kindWellKnown, scale: 1}
	return c
}

// Add makes a disk a logical unit. The disk belongs to the controller from now
// on, also after Remove: it calls Watch, which a disk takes once.
func (ct *Controller) Add(lun uint16, kind Kind, disk blk.Disk) error {
	if lun >= MaxLUNs {
		return fmt.Errorf("%w: %d", ErrLUN, lun)
	}
	u, err := newUnit(ct, lun, kind, disk)
	if err != nil {
		return err
	}
	if !ct.install(u) {
		return fmt.Errorf("%w: %d is taken", ErrLUN, lun)
	}
	ct.lunsChanged(u)
	ct.notify(Event{LUNAdded, lun})
	return nil
}

// install publishes a logical unit, unless the number is taken.
func (ct *Controller) install(u *unit) bool {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if ct.units[u.lun].Load() != nil {
		return false
	}
	u.disk.Watch(u.diskEvent)
	ct.units[u.lun].Store(u)
	return true
}

// Remove takes a logical unit away. Its commands end as Removed, some of them
// after Remove has returned.
func (ct *Controller) Remove(lun uint16) error {
	if lun >= MaxLUNs {
		return fmt.Errorf("%w: %d", ErrLUN, lun)
	}
	u := ct.units[lun].Load()
	if u == nil || !ct.drop(u) {
		return fmt.Errorf("%w: %d is empty", ErrLUN, lun)
	}
	return nil
}

// drop removes a logical unit and tells whether it was there.
func (ct *Controller) drop(u *unit) bool {
	ct.mu.Lock()
	ok := ct.units[u.lun].CompareAndSwap(u, nil)
	ct.mu.Unlock()
	if !ok {
		return false
	}
	u.tasks.close()
	u.abort(Removed, nil, func(*Command) bool { return true })
	ct.lunsChanged(u)
	ct.notify(Event{LUNRemoved, u.lun})
	return true
}

// lunsChanged tells the other logical units' nexuses (SPC-4, 6.33). Who has not
// yet heard of the power on will look at everything anyway.
func (ct *Controller) lunsChanged(except *unit) {
	for u := range ct.each() {
		if u == except {
			continue
		}
		for i := range u.attentions {
			if u.attentions[i].Load()&attentionPowerOn == 0 {
				u.attend(uint8(i), attentionLUNs)
			}
		}
	}
}

// each yields the logical units.
func (ct *Controller) each() iter.Seq[*unit] {
	return func(yield func(*unit) bool) {
		for i := range ct.units {
			if u := ct.units[i].Load(); u != nil && !yield(u) {
				return
			}
		}
	}
}

// LUNs returns the logical units that are there, ascending.
func (ct *Controller) LUNs() []uint16 {
	var luns []uint16
	for u := range ct.each() {
		luns = append(luns, u.lun)
	}
	return luns
}

// Reached tells whether a logical unit that is there has ever been sent a command. The
// unit of a guest that has no driver for its front never is.
func (ct *Controller) Reached(lun uint16) bool {
	return lun < MaxLUNs && ct.unit(lun).reached.Load()
}

// unit returns who answers for a LUN.
func (ct *Controller) unit(lun uint16) *unit {
	if lun == ReportLUNs {
		return ct.known
	}
	if lun < MaxLUNs {
		if u := ct.units[lun].Load(); u != nil {
			return u
		}
	}
	return ct.absent
}

// Submit runs a command. It does not block. Done may be called before it returns,
// or on a goroutine of the disk, or on one that ended another command: it must not
// block either.
//
// Preconditions: the command is not under way, and Out and In stay as they are
// until Done.
func (ct *Controller) Submit(c *Command) {
	// In the order of SAM-5: logical unit, unit attention, operation code,
	// reservation; then the command looks at its own fields.
	u := ct.unit(c.LUN)
	c.u = u
	if !u.reached.Load() {
		u.reached.Store(true)
	}
	c.begin(ct)
	if c.Initiator >= MaxInitiators {
		c.fail(sense{key: keyHardwareError, code: ascTargetFailure})
		return
	}
	op, known := u.lookup(&c.CDB)
	c.op = op
	if u.attentions[c.Initiator].Load() != 0 && (op == nil || op.flags&quiet == 0) {
		if s, pending := u.takeAttention(c.Initiator); pending {
			c.fail(s)
			return
		}
	}
	switch {
	case u.kind == kindAbsent && op == nil:
		c.fail(illegal(ascBadLUN))
	case op == nil && known:
		c.fail(badCDB(1, 4)) // the service action
	case op == nil:
		c.fail(sense{key: keyIllegalRequest, code: ascBadOpcode, pointer: pointsToCDB, bit: -1})
	case c.CDB[op.length-1]&controlNACA != 0:
		c.fail(badCDB(uint16(op.length-1), 2))
	case u.reservations.conflict(op.accessOf(&c.CDB), c.Initiator):
		ct.counters.conflicts.Add(1)
		c.refuse(StatusReservationConflict)
	default:
		op.run(c)
	}
}
