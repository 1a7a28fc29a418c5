package x86emu

import "keel/hcl"

// linear turns segment and offset into a linear address and checks all n bytes
// against the segment, or for being canonical (Intel SDM vol. 3 §5.3 and §5.5).
func (e *Emulator) linear(seg uint8, offset uint64, n int, write bool) (uint64, bool) {
	s := e.s
	vector := uint8(vectorGP)
	if seg == segSS {
		vector = vectorSS
	}
	sg := &s.Segments[seg]
	if e.in.mode == mode64 {
		if seg == segFS || seg == segGS {
			offset += sg.Base
		}
		if !s.canonical(offset) || !s.canonical(offset+uint64(n)-1) {
			return 0, e.fault(vector)
		}
		return offset, true
	}
	if s.protected() && !usable(sg, write) {
		return 0, e.fault(vector)
	}
	first, last := uint64(0), uint64(sg.Limit)
	if sg.Attributes&(typeCode|typeExpandDown) == typeExpandDown {
		first, last = last+1, 0xFFFF
		if sg.Attributes&hcl.SegDefaultBig != 0 {
			last = 0xFFFFFFFF
		}
	}
	if offset < first || offset+uint64(n)-1 > last {
		return 0, e.fault(vector)
	}
	return truncate(sg.Base+offset, 4), true
}

// usable tells whether a segment of protected mode may be read, or written.
func usable(sg *hcl.Segment, write bool) bool {
	a := sg.Attributes
	switch {
	case a&hcl.SegUnusable != 0 || a&hcl.SegPresent == 0:
		return false
	case a&typeCode != 0:
		return !write && a&typeReadable != 0
	}
	return !write || a&typeWritable != 0
}

// effective computes the offset of the ModRM or direct memory operand.
func (e *Emulator) effective() uint64 {
	in, s := &e.in, e.s
	a := in.displacement
	if in.base != noRegister {
		if in.base == regRSP && e.pop {
			a += e.popSP
		} else {
			a += s.GPR[in.base]
		}
	}
	if in.index != noRegister {
		a += s.GPR[in.index] << in.scale
	}
	if in.relative {
		a += s.RIP + uint64(in.pos)
	}
	return truncate(a, in.address)
}

// stackWidth is the size in bytes of the stack pointer (SDM vol. 1 §6.2.3).
func (e *Emulator) stackWidth() int {
	switch {
	case e.in.mode == mode64:
		return 8
	case e.s.Segments[segSS].Attributes&hcl.SegDefaultBig != 0:
		return 4
	}
	return 2
}
