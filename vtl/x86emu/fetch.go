package x86emu

import "keel/hcl/abi/x86"

// fetch reads and decodes the instruction at CS:RIP. A second page is touched
// only if the instruction reaches into it.
func (e *Emulator) fetch() bool {
	in := &e.in
	in.have = 0
	m := e.s.mode()
	for range 2 {
		limited, ok := e.fetchPage(m)
		if !ok {
			return false
		}
		switch in.decode(m) {
		case statusOK:
			e.res.Op, e.res.Length = in.op, uint8(in.pos)
			return e.featureCheck()
		case statusLong:
			return e.fault(vectorGP)
		case statusUndefined:
			return e.fault(vectorUD)
		case statusUnsupported:
			e.res.Op = OpNone
			return e.refuse(ReasonOpcode)
		case statusShort:
			if limited { // by the limit of CS
				return e.fault(vectorGP)
			}
		}
	}
	return e.refuse(ReasonFetch) // two pages hold 15 bytes
}

// fetchPage appends what the current page holds of up to 15 bytes. limited
// tells that the code segment ends there.
func (e *Emulator) fetchPage(m mode) (limited, ok bool) {
	in := &e.in
	offset := e.s.RIP + uint64(in.have)
	n := uint64(maxLength - in.have)
	linear := offset
	if m == mode64 {
		if !e.s.canonical(linear) {
			return false, e.fault(vectorGP)
		}
	} else {
		cs := &e.s.Segments[segCS]
		if offset > uint64(cs.Limit) {
			return false, e.fault(vectorGP)
		}
		if room := uint64(cs.Limit) - offset + 1; room <= n {
			n, limited = room, true
		}
		linear = truncate(cs.Base+offset, 4)
	}
	if room := x86.PageSize - linear%x86.PageSize; room < n {
		n, limited = room, false
	}
	gpa, ok := e.walk(linear, access{fetch: true})
	if !ok {
		return false, false
	}
	if e.mem.Kind(gpa, int(n), false) != KindRAM {
		return false, e.refuse(ReasonFetch)
	}
	if !e.mem.ReadRAM(gpa, in.code[in.have:in.have+int(n)]) {
		return false, e.refuse(ReasonFetch)
	}
	in.have += int(n)
	return limited, true
}

// featureCheck raises what the control registers make of vector instructions
// (Intel SDM vol. 2 tables 2-18 and 2-21, vol. 3 §14.1).
func (e *Emulator) featureCheck() bool {
	s, in := e.s, &e.in
	if in.form != formVE {
		return true
	}
	switch {
	case in.vex && (!s.protected() || s.CR4&cr4OSXSAVE == 0 || s.XCR0&xcr0AVX != xcr0AVX):
		return e.fault(vectorUD)
	case !in.vex && (s.CR0&cr0EM != 0 || s.CR4&cr4OSFXSR == 0):
		return e.fault(vectorUD)
	case s.CR0&cr0TS != 0:
		return e.fault(vectorNM)
	case e.vectors == nil:
		return e.refuse(ReasonPorts)
	}
	return true
}
