package x86emu

// Emulator runs instructions of one VP. It holds the scratch memory of a step,
// so a VP's steps must not overlap; it takes no lock and allocates nothing.
type Emulator struct {
	mem     Memory
	ports   Ports
	vectors Vectors

	s   *State
	in  instruction
	res Result

	buf   [32]byte // data of the operand in flight
	word  [16]byte // surroundings of a locked operand, paging entries
	marks [32]mark // accessed and dirty bits to set
	nmark int      // used marks
	pop   bool     // ModRM addresses see popSP as RSP
	popSP uint64
	moved bool // a string instruction has completed an element

	count counters
}

// New returns an emulator. Without ports INS and OUTS are unsupported, without
// vectors SSE and AVX are.
func New(mem Memory, ports Ports, vectors Vectors) *Emulator {
	return &Emulator{mem: mem, ports: ports, vectors: vectors}
}

// Step runs the instruction at CS:RIP, or a bounded number of elements of a
// repeated string instruction.
func (e *Emulator) Step(s *State) Result {
	e.s = s
	e.res = Result{}
	e.nmark, e.pop, e.moved = 0, false, false
	trap := s.RFLAGS&flagTF != 0
	if e.fetch() && e.execute() {
		s.RFLAGS &^= flagRF
	}
	switch e.res.Outcome {
	case Done, Continue:
		e.res.SingleStep = trap && (e.res.Outcome == Done || e.moved)
	case Unsupported:
		e.res.Bytes = e.in.code
		e.res.Length = uint8(min(e.in.have, maxLength))
	case Faulted:
	}
	e.s = nil
	e.tally(&e.res)
	return e.res
}

// fault ends the step with an exception that has error code zero or none.
func (e *Emulator) fault(vector uint8) bool {
	coded := vector == vectorGP || vector == vectorSS || vector == vectorAC
	e.res.Outcome = Faulted
	e.res.Fault = Fault{Vector: vector, HasCode: coded && e.s.CR0&cr0PE != 0}
	return false
}

// refuse ends the step as unsupported.
func (e *Emulator) refuse(r Reason) bool {
	e.res.Outcome, e.res.Reason = Unsupported, r
	return false
}

// again ends the step without progress: another VP was faster.
func (e *Emulator) again() bool {
	e.res.Outcome = Continue
	return false
}

// advance moves RIP past the instruction (Intel SDM vol. 1 §3.5: EIP and IP
// wrap with the width of the code).
func (e *Emulator) advance() {
	e.s.RIP = e.nextRIP()
}

// nextRIP is the address of the next instruction.
func (e *Emulator) nextRIP() uint64 {
	next := e.s.RIP + uint64(e.in.pos)
	switch e.in.mode {
	case mode64:
		return next
	case mode32:
		return truncate(next, 4)
	case mode16:
	}
	// A 16-bit segment may be larger than 64 KiB: only an EIP that began below
	// wraps there.
	if e.s.RIP <= 0xFFFF {
		return truncate(next, 2)
	}
	return truncate(next, 4)
}
