package kvm

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/kvm"
)

// Offsets in the run page: struct kvm_regs, struct kvm_sregs and struct
// kvm_vcpu_events of struct kvm_sync_regs, and what lies in them (<asm/kvm.h>).
const (
	syncRAX      = kvm.RunSyncRIP - 16*8
	syncRDI      = syncRAX + 5*8
	syncSegments = kvm.RunSyncRIP + 2*8
	syncTables   = syncSegments + 8*segmentSize
	syncControl  = syncTables + 2*tableSize
	syncBitmap   = syncControl + 7*8
	syncEvent    = syncBitmap + 4*8

	segmentSize = 24
	tableSize   = 16
)

// Offsets in struct kvm_vcpu_events beyond those of exceptions, in bytes, and its flags.
const (
	interruptInjected = 8
	interruptVector   = 9
	interruptShadow   = 11
	nmiInjected       = 12
	nmiPending        = 13
	nmiMasked         = 14
	eventFlags        = 20

	validNMIPending = 1 << 0
	validShadow     = 1 << 2
)

// loadState puts a state into the run page and returns which parts differ from what
// KVM has.
func (vp *VP) loadState(s *hcl.State) (dirty uint64) {
	changed := false
	for i, r := range general(&s.Registers) {
		changed = vp.put(syncRAX+8*i, *r) || changed
	}
	if changed {
		dirty |= kvm.SYNC_X86_REGS
	}
	if vp.loadSpecial(s) {
		dirty |= syncSRegs
	}
	if vp.loadEvents(s) {
		dirty |= syncEvents
	}
	return dirty
}

func (vp *VP) loadSpecial(s *hcl.State) (changed bool) {
	for i, g := range segmentsOf(&s.Special) {
		changed = vp.putSegment(syncSegments+i*segmentSize, g) || changed
	}
	for i, t := range [...]*hcl.Table{&s.Special.GDT, &s.Special.IDT} {
		changed = vp.put(syncTables+i*tableSize, t.Base) || changed
		changed = vp.put16(syncTables+i*tableSize+8, t.Limit) || changed
	}
	for i, c := range control(&s.Special) {
		changed = vp.put(syncControl+controlAt[i], *c) || changed
	}
	vp.put(syncControl+6*8, vp.powerOn.sregs.Apic_base)
	// An interrupt that is under way belongs to the events.
	clear(vp.run[syncBitmap:syncEvent])
	if changed {
		vp.put(syncControl+4*8, uint64(s.CR8))
	}
	return changed
}

func (vp *VP) loadEvents(s *hcl.State) bool {
	old := vp.run[syncEvent : syncEvent+kvm.SizeofVCPUEvents]
	var b [kvm.SizeofVCPUEvents]byte
	copy(b[:], old)
	clear(b[:nmiMasked+1])
	e := &s.Event
	switch e.Kind {
	case hcl.EventInterrupt:
		b[interruptInjected], b[interruptVector] = 1, e.Vector
	case hcl.EventNMI:
		b[nmiInjected] = 1
	case hcl.EventException:
		b[eventInjected], b[eventVector], b[eventHasCode] = 1, e.Vector, bit(e.HasCode)
		binary.LittleEndian.PutUint32(b[eventCode:], e.Code)
	case hcl.EventNone:
	}
	// KVM tells more about a shadow than it needs to be told.
	if b[interruptShadow] = old[interruptShadow]; (old[interruptShadow] != 0) != s.Shadow {
		b[interruptShadow] = bit(s.Shadow)
	}
	b[nmiPending], b[nmiMasked] = bit(s.NMIPending), bit(s.NMIMasked)
	binary.LittleEndian.PutUint32(b[eventFlags:], validNMIPending|validShadow)
	changed := [nmiMasked + 1]byte(b[:]) != [nmiMasked + 1]byte(old)
	copy(old, b[:])
	return changed
}

// storeState reads the state that KVM has left in the run page.
func (vp *VP) storeState(s *hcl.State) {
	for i, r := range general(&s.Registers) {
		*r = vp.u64(syncRAX + 8*i)
	}
	for i, g := range segmentsOf(&s.Special) {
		*g = vp.segment(syncSegments + i*segmentSize)
	}
	for i, t := range [...]*hcl.Table{&s.Special.GDT, &s.Special.IDT} {
		t.Base = vp.u64(syncTables + i*tableSize)
		t.Limit = binary.LittleEndian.Uint16(vp.run[syncTables+i*tableSize+8:])
	}
	for i, c := range control(&s.Special) {
		*c = vp.u64(syncControl + controlAt[i])
	}
	b := vp.run[syncEvent : syncEvent+kvm.SizeofVCPUEvents]
	s.Event = hcl.Event{}
	switch {
	case b[eventInjected] != 0:
		s.Event = hcl.Event{
			Kind: hcl.EventException, Vector: b[eventVector], HasCode: b[eventHasCode] != 0,
			Code: binary.LittleEndian.Uint32(b[eventCode:]),
		}
	case b[nmiInjected] != 0:
		s.Event = hcl.Event{Kind: hcl.EventNMI, Vector: 2}
	case b[interruptInjected] != 0:
		s.Event = hcl.Event{Kind: hcl.EventInterrupt, Vector: b[interruptVector]}
	}
	s.Shadow, s.NMIPending, s.NMIMasked = b[interruptShadow] != 0, b[nmiPending] != 0, b[nmiMasked] != 0
	s.CR8, s.Next = vp.CR8(), 0
}

// general lists the registers in the order of struct kvm_regs.
func general(r *hcl.Registers) [18]*uint64 {
	return [...]*uint64{
		&r.RAX, &r.RBX, &r.RCX, &r.RDX, &r.RSI, &r.RDI, &r.RSP, &r.RBP,
		&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15, &r.RIP, &r.RFLAGS,
	}
}

// segmentsOf lists the segments in the order of struct kvm_sregs.
func segmentsOf(s *hcl.SpecialRegisters) [8]*hcl.Segment {
	return [...]*hcl.Segment{&s.CS, &s.DS, &s.ES, &s.FS, &s.GS, &s.SS, &s.TR, &s.LDT}
}

// control lists the control registers, and controlAt where they lie: CR8 is between.
func control(s *hcl.SpecialRegisters) [5]*uint64 {
	return [...]*uint64{&s.CR0, &s.CR2, &s.CR3, &s.CR4, &s.EFER}
}

var controlAt = [5]int{0, 8, 16, 24, 40}

// put writes a word of the run page and tells whether it changed.
func (vp *VP) put(offset int, v uint64) bool {
	if vp.u64(offset) == v {
		return false
	}
	binary.LittleEndian.PutUint64(vp.run[offset:], v)
	return true
}

func (vp *VP) put16(offset int, v uint16) bool {
	old := binary.LittleEndian.Uint16(vp.run[offset:])
	binary.LittleEndian.PutUint16(vp.run[offset:], v)
	return old != v
}

// segment reads struct kvm_segment.
func (vp *VP) segment(at int) hcl.Segment {
	b := vp.run[at : at+segmentSize]
	return fromKVM(kvm.Segment{
		Base: binary.LittleEndian.Uint64(b), Limit: binary.LittleEndian.Uint32(b[8:]), Selector: binary.LittleEndian.Uint16(b[12:]),
		Type: b[14], Present: b[15], Dpl: b[16], Db: b[17], S: b[18], L: b[19], G: b[20], Avl: b[21], Unusable: b[22],
	})
}

// putSegment writes struct kvm_segment.
func (vp *VP) putSegment(at int, s *hcl.Segment) bool {
	k := toKVM(*s)
	var b [segmentSize]byte
	binary.LittleEndian.PutUint64(b[:], k.Base)
	binary.LittleEndian.PutUint32(b[8:], k.Limit)
	binary.LittleEndian.PutUint16(b[12:], k.Selector)
	copy(b[14:], []byte{k.Type, k.Present, k.Dpl, k.Db, k.S, k.L, k.G, k.Avl, k.Unusable})
	old := [segmentSize]byte(vp.run[at:])
	copy(vp.run[at:], b[:])
	return old != b
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
