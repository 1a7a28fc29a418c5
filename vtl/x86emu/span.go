package x86emu

import "keel/hcl/abi/x86"

// part is a piece of an operand within one page.
type part struct {
	gpa    x86.GPA
	n      int
	device bool
}

// span is a translated memory operand of up to 32 bytes: one part, or two that
// meet at a page boundary.
type span struct {
	n     int
	parts [2]part
	used  int
}

// translate checks and translates a whole operand before any of it is used.
func (e *Emulator) translate(seg uint8, offset uint64, n int, a access) (span, bool) {
	linear, ok := e.linear(seg, offset, n, a.write)
	if !ok {
		return span{}, false
	}
	sp, ok := e.translateLinear(linear, n, a)
	if !ok {
		return span{}, false
	}
	// Alignment checks come after page faults (Intel SDM vol. 3 table 6-2).
	s := e.s
	if s.CR0&cr0AM != 0 && s.RFLAGS&flagAC != 0 && s.cpl() == 3 && linear&uint64(min(n, 8)-1) != 0 && e.in.form != formVE {
		return span{}, e.fault(vectorAC)
	}
	return sp, true
}

// translateLinear translates n bytes.
func (e *Emulator) translateLinear(linear uint64, n int, a access) (span, bool) {
	sp := span{n: n}
	for done := 0; done < n; sp.used++ {
		at := linear + uint64(done)
		if e.in.mode != mode64 && (!a.system || e.s.EFER&eferLMA == 0) {
			at = truncate(at, 4) // a TSS may lie high in compatibility mode
		}
		size := min(n-done, int(x86.PageSize-at%x86.PageSize))
		gpa, ok := e.walk(at, a)
		if !ok {
			return sp, false
		}
		kind := e.mem.Kind(gpa, size, a.write)
		if kind != KindRAM && kind != KindDevice {
			return sp, e.refuse(ReasonMemory)
		}
		sp.parts[sp.used] = part{gpa, size, kind == KindDevice}
		done += size
	}
	return sp, true
}

// device tells whether any part is device memory.
func (sp *span) device() bool {
	return sp.parts[0].device || sp.used > 1 && sp.parts[1].device
}

// load reads an operand into e.buf.
func (e *Emulator) load(sp *span) bool {
	at := 0
	for i := range sp.used {
		p := &sp.parts[i]
		b := e.buf[at : at+p.n]
		at += p.n
		if p.device {
			for done := 0; done < p.n; done += 8 {
				e.mem.ReadMMIO(p.gpa+x86.GPA(done), b[done:min(done+8, p.n)])
			}
		} else if !e.mem.ReadRAM(p.gpa, b) {
			return e.refuse(ReasonMemory)
		}
	}
	return true
}

// store writes an operand from e.buf.
func (e *Emulator) store(sp *span) bool {
	at := 0
	for i := range sp.used {
		p := &sp.parts[i]
		b := e.buf[at : at+p.n]
		at += p.n
		if p.device {
			for done := 0; done < p.n; done += 8 {
				e.mem.WriteMMIO(p.gpa+x86.GPA(done), b[done:min(done+8, p.n)])
			}
		} else if !e.mem.WriteRAM(p.gpa, b) {
			return e.refuse(ReasonMemory)
		}
	}
	return true
}

// loadInt reads an operand of up to 8 bytes.
func (e *Emulator) loadInt(sp *span) (uint64, bool) {
	if !e.load(sp) {
		return 0, false
	}
	return getInt(e.buf[:sp.n]), true
}

// storeInt writes an operand of up to 8 bytes.
func (e *Emulator) storeInt(sp *span, v uint64) bool {
	putInt(e.buf[:sp.n], v)
	return e.store(sp)
}
