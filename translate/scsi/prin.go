package scsi

import "math/bits"

// header begins the data of PERSISTENT RESERVE IN. Preconditions: locked.
func (r *reservations) header() []byte {
	b := make([]byte, 8, 8+MaxInitiators*48)
	be.PutUint32(b, r.generation)
	return b
}

// replyReservations ends PERSISTENT RESERVE IN.
func (c *Command) replyReservations(b []byte) {
	be.PutUint32(b[4:], uint32(len(b)-8))
	c.reply(b, uint32(be.Uint16(c.CDB[7:])))
}

// runReadKeys answers READ KEYS (SPC-4, 6.15.2).
func runReadKeys(c *Command) {
	r := &c.u.reservations
	r.mu.Lock()
	b := r.header()
	for left := r.registered; left != 0; left &= left - 1 {
		b = be.AppendUint64(b, r.keys[bits.TrailingZeros32(left)])
	}
	r.mu.Unlock()
	c.replyReservations(b)
}

// runReadReservation answers READ RESERVATION (SPC-4, 6.15.3).
func runReadReservation(c *Command) {
	r := &c.u.reservations
	r.mu.Lock()
	b := r.header()
	if r.kind != 0 {
		var key uint64 // zero when all registrants hold it
		if !allRegistrants(r.kind) {
			key = r.keys[r.holder]
		}
		b = be.AppendUint64(b, key)
		b = append(b, 0, 0, 0, 0, 0, r.kind, 0, 0)
	}
	r.mu.Unlock()
	c.replyReservations(b)
}

// runCapabilities answers REPORT CAPABILITIES (SPC-4, 6.15.4).
func runCapabilities(c *Command) {
	b := [8]byte{0, 8, 0, 0x80, prSupportedTypes, prSupportedTypesSecond, 0, 0} // TMV
	c.reply(b[:], uint32(be.Uint16(c.CDB[7:])))
}

// runReadFullStatus answers READ FULL STATUS (SPC-4, 6.15.5). Nexuses appear as SAS
// initiator ports with locally assigned names, since neither front end has
// TransportIDs.
func runReadFullStatus(c *Command) {
	r := &c.u.reservations
	r.mu.Lock()
	b := r.header()
	for left := r.registered; left != 0; left &= left - 1 {
		i := uint8(bits.TrailingZeros32(left))
		b = be.AppendUint64(b, r.keys[i])
		var holder, kind uint8
		if r.holds(i) {
			holder, kind = 0x01, r.kind
		}
		b = append(b, 0, 0, 0, 0, holder, kind, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24)
		b = append(b, protocolSAS, 0, 0, 0)
		b = be.AppendUint64(b, naa([]byte{'i', 'n', 'i', 't', i}))
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	r.mu.Unlock()
	c.replyReservations(b)
}
