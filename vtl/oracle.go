package vtl

import (
	"fmt"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// The oracle lets a second substrate run what Keel has executed: a shadow VP of an
// ordinary partition over the same memory gets the registers from before, runs the one
// instruction, and sees the same data from devices. Accesses and registers must agree.

// The first comparedFirst instructions of a VP are compared, then one of comparedLater:
// loading a VP's registers takes longer than most instructions.
const (
	comparedFirst = 500
	comparedLater = 32
)

// maxAccesses bounds the accesses of an instruction that is compared.
const maxAccesses = 64

// maxKicks bounds how often a run of the shadow VP is disturbed.
const maxKicks = 1000

// access is one access to a device, or of string I/O to a port.
type access struct {
	isPort bool
	gpa    x86.GPA // or the port
	size   int
	write  bool
	data   uint64
}

// oracle is the shadow of one VP.
type oracle struct {
	vp       hcl.VP
	special  hcl.SpecialRegisters // that it has, once loaded
	loaded   bool
	before   hcl.Registers
	accesses [maxAccesses]access
	count    int // of accesses, also beyond the bound
	faults   uint64
	stats    *oracleStats
}

// oracleStats are those of a guest.
type oracleStats struct {
	compared, skipped, different atomic.Uint64
	first                        atomic.Pointer[string]
}

// OracleStats counts what the oracle has seen.
type OracleStats struct {
	Compared  uint64 // instructions
	Skipped   uint64 // for sampling, or because they did not complete in one go
	Different uint64
	First     string // difference, empty when there is none
}

// Oracle returns what the oracle has seen. Any goroutine may call it.
func (g *Guest) Oracle() OracleStats {
	s := OracleStats{Compared: g.oracle.compared.Load(), Skipped: g.oracle.skipped.Load(), Different: g.oracle.different.Load()}
	if first := g.oracle.first.Load(); first != nil {
		s.First = *first
	}
	return s
}

// begin notes the registers before an instruction.
func (o *oracle) begin(r *hcl.Registers) {
	if o != nil {
		o.before, o.count = *r, 0
	}
}

// note takes an access of the instruction.
func (o *oracle) note(gpa x86.GPA, b []byte, write bool) {
	if o != nil {
		o.add(access{false, gpa, len(b), write, load(b)})
	}
}

// notePort takes one to a port.
func (o *oracle) notePort(port uint16, size int, value uint64, write bool) {
	if o != nil {
		o.add(access{true, x86.GPA(port), size, write, value})
	}
}

func (o *oracle) add(a access) {
	if o.count < maxAccesses {
		o.accesses[o.count] = a
	}
	o.count++
}

// end compares an instruction that completed, or skips one that did not. The error means
// that the substrate broke.
func (o *oracle) end(s *hcl.SpecialRegisters, after *hcl.Registers, completed bool) error {
	o.faults++
	if !completed || o.count > maxAccesses || o.faults > comparedFirst && o.faults%comparedLater != 0 {
		o.stats.skipped.Add(1)
		return nil
	}
	difference, err := o.compare(s, after)
	if err != nil {
		return err
	}
	o.stats.compared.Add(1)
	if difference == "" {
		return nil
	}
	difference = fmt.Sprintf("instruction at %#x: %s", o.before.RIP, difference)
	o.stats.different.Add(1)
	o.stats.first.CompareAndSwap(nil, &difference)
	o.loaded = false
	return o.vp.Reset() // it may be in the middle of something
}

// compare runs the instruction on the shadow VP and says what differs.
func (o *oracle) compare(s *hcl.SpecialRegisters, after *hcl.Registers) (string, error) {
	if !o.loaded || o.special != *s {
		if err := o.vp.SetSpecialRegisters(s); err != nil {
			return "", err
		}
		o.special, o.loaded = *s, true
	}
	if err := o.vp.SetRegisters(&o.before); err != nil {
		return "", err
	}
	for done := 0; done < o.count; {
		e, err := o.run()
		if err != nil {
			return "", err
		}
		n := o.answer(done, &e)
		if n == 0 {
			return fmt.Sprintf("access %d is %+v, Keel's %+v", done+1, e, o.accesses[done]), nil
		}
		done += n
	}
	// The next run completes the instruction and goes no further.
	o.vp.Kick()
	e, err := o.vp.Run()
	if err != nil {
		return "", err
	}
	if e.Kind != hcl.ExitKick {
		return fmt.Sprintf("%+v follows %d accesses", e, o.count), nil
	}
	got, err := o.vp.Registers()
	if err != nil {
		return "", err
	}
	o.stepOver(&got, after)
	if got == *after {
		return "", nil
	}
	return fmt.Sprintf("registers are %+v, Keel's %+v", got, *after), nil
}

// stepOver completes a repeated instruction whose count has come to 0 in the shadow VP: KVM
// leaves it for the processor to find that there is nothing more to do (x86_emulate_insn of
// Linux), with RF set as within any such instruction.
func (o *oracle) stepOver(got, after *hcl.Registers) {
	if got.RIP == o.before.RIP && got.RCX == 0 && o.before.RCX != 0 && got.RFLAGS&x86.RFLAGS_RF != 0 {
		got.RIP = after.RIP
		got.RFLAGS &^= x86.RFLAGS_RF
	}
}

// answer compares an exit of the shadow VP with Keel's accesses from one on, and gives it
// what those have read. It returns how many they were, 0 where they differ.
func (o *oracle) answer(first int, e *hcl.Exit) int {
	want := o.accesses[first:min(o.count, maxAccesses)]
	size := want[0].size
	n, address, kind := 1, e.GPA, hcl.ExitMMIO
	if want[0].isPort { // several elements may come at once
		n, address, kind = len(e.Data)/size, x86.GPA(e.Port), hcl.ExitPIO
	}
	if e.Kind != kind || address != want[0].gpa || n > len(want) || len(e.Data) != n*size {
		return 0
	}
	for i, a := range want[:n] {
		data := e.Data[i*size : (i+1)*size]
		switch {
		case a.isPort != want[0].isPort || a.gpa != want[0].gpa || a.size != size || a.write != e.Write || a.write && load(data) != a.data:
			return 0
		case !a.write:
			store(data, a.data)
		}
	}
	return n
}

// run enters the shadow VP until it leaves by itself. Kicks that come meanwhile are not
// its own.
func (o *oracle) run() (hcl.Exit, error) {
	for n := 0; ; n++ {
		e, err := o.vp.Run()
		if err != nil || e.Kind != hcl.ExitKick || n == maxKicks {
			return e, err
		}
	}
}
