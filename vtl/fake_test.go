package vtl

import (
	"sync"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/bus"
	"keel/vtl/irq"

	"golang.org/x/sys/unix"
)

// fakeHz is the frequency of the fake's time stamp counter.
const fakeHz = 1_000_000_000

// fakePartition is a substrate whose VPs play scripts instead of running code.
type fakePartition struct {
	mu      sync.Mutex
	scripts map[int]script
	vps     map[int]*fakeVP
}

// script is what one VP does: every call is one Run.
type script func(vp *fakeVP, turn int) (hcl.Exit, error)

func (p *fakePartition) MapMemory(x86.GPA, []byte) error           { return nil }
func (p *fakePartition) TSCHz() uint64                             { return fakeHz }
func (p *fakePartition) SupportedCPUID() ([]hcl.CPUIDEntry, error) { return nil, nil }
func (p *fakePartition) Close() error                              { return nil }

func (p *fakePartition) NewVP(c hcl.VPConfig) (hcl.VP, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	vp := &fakeVP{index: c.Index, tid: unix.Gettid(), script: p.scripts[c.Index]}
	p.vps[c.Index] = vp
	return vp, nil
}

type exception struct {
	vector uint8
	code   uint32
}

type fakeVP struct {
	index, tid, turn int
	script           script
	interruptible    bool
	windowWanted     bool
	cr8              uint8
	injected         []uint8
	nmis, resets     int
	exceptions       []exception
	regs             hcl.Registers
	sregs            hcl.SpecialRegisters
	msrValue         uint64
	msrFault         bool
	cr4s             []uint64 // that were set
	finished         bool     // the instruction of the last exit was
}

func (v *fakeVP) Run() (hcl.Exit, error) {
	v.turn++
	return v.script(v, v.turn-1)
}

// untilKicked is a guest that computes: only a kick gets it out.
func (v *fakeVP) untilKicked() (hcl.Exit, error) {
	sys.WaitKick(-1)
	return hcl.Exit{Kind: hcl.ExitKick}, nil
}

func (v *fakeVP) Kick()                                { sys.Kick(v.tid) }
func (v *fakeVP) CompleteMSR(value uint64, fault bool) { v.msrValue, v.msrFault = value, fault }
func (v *fakeVP) CanInject() bool                      { return v.interruptible }
func (v *fakeVP) InterruptFlag() bool                  { return v.interruptible }
func (v *fakeVP) Inject(vector uint8) error            { v.injected = append(v.injected, vector); return nil }
func (v *fakeVP) InjectNMI() error                     { v.nmis++; return nil }
func (v *fakeVP) InjectException(vector uint8, code uint32, _ bool) error {
	v.exceptions = append(v.exceptions, exception{vector, code})
	return nil
}
func (v *fakeVP) RequestInterruptWindow(on bool)      { v.windowWanted = on }
func (v *fakeVP) CR8() uint8                          { return v.cr8 }
func (v *fakeVP) SetCR8(c uint8)                      { v.cr8 = c }
func (v *fakeVP) Registers() (hcl.Registers, error)   { return v.regs, nil }
func (v *fakeVP) SetRegisters(r *hcl.Registers) error { v.regs = *r; return nil }
func (v *fakeVP) SetMSR(uint32, uint64) error         { return nil }
func (v *fakeVP) TSC() uint64                         { return uint64(sys.MonotonicNow()) }
func (v *fakeVP) Reset() error                        { v.resets++; return nil }
func (v *fakeVP) SpecialRegisters() (hcl.SpecialRegisters, error) {
	return v.sregs, nil
}

func (v *fakeVP) SetSpecialRegisters(r *hcl.SpecialRegisters) error {
	v.sregs = *r
	v.cr4s = append(v.cr4s, r.CR4)
	return nil
}

// newFake makes a started guest whose VPs play the scripts.
func newFake(tb testing.TB, scripts ...script) (*Guest, *fakePartition, *bus.Ports, *bus.Memory) {
	tb.Helper()
	return newFakeWith(tb, nil, scripts...)
}

// newFakeWith makes such a guest with a hypervisor interface, if one is asked for.
func newFakeWith(tb testing.TB, h *HyperV, scripts ...script) (*Guest, *fakePartition, *bus.Ports, *bus.Memory) {
	tb.Helper()
	p := &fakePartition{scripts: map[int]script{}, vps: map[int]*fakeVP{}}
	for i, s := range scripts {
		p.scripts[i] = s
	}
	ports, memory := &bus.Ports{}, &bus.Memory{}
	g, err := New(Config{
		Partition: p, VPs: len(scripts), Ports: ports, Memory: memory,
		ExtINT:   func() irq.Vector { return 0x30 },
		Firmware: func(hcl.VP) error { return nil },
		HyperV:   h,
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := g.Start(); err != nil {
		tb.Fatal(err)
	}
	return g, p, ports, memory
}

// run runs the guest and fails the test when it does not end.
func run(tb testing.TB, g *Guest) End {
	tb.Helper()
	type result struct {
		end End
		err error
	}
	done := make(chan result, 1)
	go func() {
		end, err := g.Run(func(hcl.VP) error { return nil })
		done <- result{end, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			tb.Fatal(r.err)
		}
		return r.end
	case <-time.After(time.Minute):
		tb.Fatal("the guest did not end")
		return End{}
	}
}
