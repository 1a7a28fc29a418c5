package hv

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// Status is a hypercall status (TLFS HV_STATUS).
type Status uint16

// The hypercall page traps with OUT, which leaves the guest at once: through
// TrapPort64 from 64-bit code and through TrapPort32 from 32-bit code. No device of
// a PC is at these ports. While the page is disabled they do nothing.
const (
	TrapPort64 = 0xBE
	TrapPort32 = 0xBF
)

// hypercallPage returns the code of the page. MOV with an immediate is four bytes
// longer in 64-bit mode, so that 32-bit code runs what is the immediate's upper half
// to the other mode:
//
//	        64-bit                       32-bit
//	f3 0f 1e fa                 endbr64                      (no operation)
//	50                          push rax                     push eax
//	48 b8 00 00 00 00           mov rax, …                   dec eax; mov eax, 0
//	58 e6 bf c3                   … the upper half           pop eax; out 0xbf, al; ret
//	58 e6 be c3                 pop rax; out 0xbe, al; ret
//
// Who may write to the ports may make hypercalls: the guest's kernel, unless it
// grants them to others. The rest of the page is INT3.
func hypercallPage() []byte {
	p := make([]byte, x86.PageSize)
	n := copy(p, []byte{
		0xF3, 0x0F, 0x1E, 0xFA, 0x50, 0x48, 0xB8, 0, 0, 0, 0,
		0x58, 0xE6, TrapPort32, 0xC3, 0x58, 0xE6, TrapPort64, 0xC3,
	})
	for i := range p[n:] {
		p[n+i] = 0xCC
	}
	return p
}

// Registers are those of a VP that has trapped. hcl.VP has them.
type Registers interface {
	Registers() (hcl.Registers, error)
	SetRegisters(r *hcl.Registers) error
}

// inputSize is the longest input: it may not cross a page.
const inputSize = x86.PageSize

// call is one hypercall under way.
type call struct {
	code     uint16
	fast     bool
	variable int // bytes of the variable header
	reps     int
	start    int
	gpa      x86.GPA   // of the input, unless fast
	direct   [2]uint64 // the input, if fast
}

// Hypercall answers a write to a trap port on a VP's thread. It returns false when
// the port is nothing special because the hypercall page is disabled. The error
// means that the substrate broke.
func (h *Hypervisor) Hypercall(vp int, port uint16, regs Registers) (bool, error) {
	v := h.vp(vp)
	if v == nil || port != TrapPort64 && port != TrapPort32 || !h.callable.Load() {
		return false, nil
	}
	var err error
	if v.regs, err = regs.Registers(); err != nil {
		return true, err
	}
	h.stats.hypercalls.Add(1)
	r := &v.regs
	if port == TrapPort64 {
		result, rep := h.enter(v, r.RCX, r.RDX, r.R8)
		r.RAX = result
		if rep {
			done := result >> hv.HYPERCALL_RESULT_REP_SHIFT
			r.RCX = r.RCX&^(hv.HYPERCALL_REP<<hv.HYPERCALL_START_SHIFT) | done<<hv.HYPERCALL_START_SHIFT
		}
	} else {
		result, _ := h.enter(v, pair(r.RDX, r.RAX), pair(r.RBX, r.RCX), pair(r.RDI, r.RSI))
		r.RDX, r.RAX = result>>32, result&0xFFFFFFFF
	}
	return true, regs.SetRegisters(r)
}

// pair joins two 32-bit registers.
func pair(high, low uint64) uint64 { return high<<32 | low&0xFFFFFFFF }

// enter makes a hypercall from its input value and the two parameters, which are
// addresses unless the call is fast. It returns the result value (TLFS "Hypercall
// Outputs") and whether reps were looked at. All reps are done at once: a page holds
// only some hundred.
func (h *Hypervisor) enter(v *vp, control, first, second uint64) (result uint64, rep bool) {
	c := &v.call
	*c = call{
		code:     uint16(control & hv.HYPERCALL_CODE),
		fast:     control&hv.HYPERCALL_FAST != 0,
		variable: int(control>>hv.HYPERCALL_VARIABLE_SHIFT&hv.HYPERCALL_VARIABLE) * 8,
		reps:     int(control >> hv.HYPERCALL_REP_SHIFT & hv.HYPERCALL_REP),
		start:    int(control >> hv.HYPERCALL_START_SHIFT & hv.HYPERCALL_REP),
		gpa:      x86.GPA(first),
		direct:   [2]uint64{first, second},
	}
	status, done := Status(hv.HV_STATUS_INVALID_HYPERCALL_CODE), 0
	if s := h.shape(c.code); s != nil {
		status = hv.HV_STATUS_INVALID_HYPERCALL_INPUT
		if s.fits(c, control) {
			var input []byte
			if input, status = h.fetch(v, c, s); status == hv.HV_STATUS_SUCCESS {
				status = s.run(h, v, c, input)
			}
			rep, done = s.rep > 0, c.start
		}
	}
	if status == hv.HV_STATUS_SUCCESS {
		done = c.reps
	} else {
		h.stats.callsRefused.Add(1)
	}
	return uint64(status) | uint64(done)<<hv.HYPERCALL_RESULT_REP_SHIFT, rep
}

// shape says what the input of a hypercall looks like and what answers it.
type shape struct {
	fixed    int  // bytes of the fixed header
	rep      int  // bytes of a rep's element, 0 for a simple call
	variable bool // has a variable header
	flush    bool // exists only where TLBs can be flushed
	run      func(h *Hypervisor, v *vp, c *call, input []byte) Status
}

// fits checks the input value against the shape (TLFS "Hypercall Inputs"). A fast
// call has what two registers hold; there are no XMM registers.
func (s *shape) fits(c *call, control uint64) bool {
	switch {
	case control&(hv.HYPERCALL_RESERVED|hv.HYPERCALL_NESTED) != 0:
		return false
	case c.variable != 0 && !s.variable:
		return false
	case s.rep == 0 && (c.reps != 0 || c.start != 0):
		return false
	case s.rep != 0 && c.start >= c.reps:
		return false
	}
	return !c.fast || s.size(c) <= len(c.direct)*8
}

// size is the length of the whole input in bytes.
func (s *shape) size(c *call) int { return s.fixed + c.variable + c.reps*s.rep }

// fetch copies the input. It must be aligned, within a page and in RAM (TLFS
// "Alignment Requirements").
func (h *Hypervisor) fetch(v *vp, c *call, s *shape) ([]byte, Status) {
	n := s.size(c)
	if c.fast {
		for i, word := range c.direct {
			binary.LittleEndian.PutUint64(v.input[i*8:], word)
		}
		return v.input[:n], hv.HV_STATUS_SUCCESS
	}
	if c.gpa%8 != 0 || n > x86.PageSize || c.gpa%x86.PageSize+x86.GPA(n) > x86.PageSize {
		return nil, hv.HV_STATUS_INVALID_ALIGNMENT
	}
	if h.config.Memory.ReadAt(c.gpa, v.input[:n]) != nil {
		return nil, hv.HV_STATUS_INVALID_ALIGNMENT
	}
	return v.input[:n], hv.HV_STATUS_SUCCESS
}
