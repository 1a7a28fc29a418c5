package vtl

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/bus"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
)

// Where the code of the tests' guest lies: one-byte instructions in a loop.
const (
	loopAt  = 0x1000
	loopEnd = 0x1100
)

// steppable is a VP that executes the loop, and that can be stepped.
type steppable struct {
	*fakeVP
	ram      *guestmem.Memory
	stepping bool
	executed atomic.Uint64
}

func (v *steppable) Step(on bool) error         { v.stepping = on; return nil }
func (v *steppable) MSR(uint32) (uint64, error) { return 0, nil }

// Run executes instructions until a HLT, a kick, or the end of a step.
func (v *steppable) Run() (hcl.Exit, error) {
	for {
		if sys.WaitKick(0) {
			return hcl.Exit{Kind: hcl.ExitKick, RIP: v.regs.RIP}, nil
		}
		var code [1]byte
		if err := v.ram.ReadAt(x86.GPA(v.regs.RIP), code[:]); err != nil {
			return hcl.Exit{}, err
		}
		v.regs.RIP++
		if code[0] == plantedHLT {
			return hcl.Exit{Kind: hcl.ExitHalt, RIP: v.regs.RIP}, nil
		}
		v.executed.Add(1)
		if v.regs.RIP == loopEnd {
			v.regs.RIP = loopAt
		}
		if v.stepping {
			return hcl.Exit{Kind: hcl.ExitDebug, RIP: v.regs.RIP}, nil
		}
	}
}

// steppablePartition makes such VPs.
type steppablePartition struct {
	*fakePartition
	ram *guestmem.Memory
	vps [2]*steppable
}

func (p *steppablePartition) NewVP(c hcl.VPConfig) (hcl.VP, error) {
	vp, err := p.fakePartition.NewVP(c)
	if err != nil {
		return nil, err
	}
	p.vps[c.Index] = &steppable{fakeVP: vp.(*fakeVP), ram: p.ram}
	return p.vps[c.Index], nil
}

// newDebugged makes a guest of two VPs that run the loop, of which the second is as if
// started, and attaches a debugger.
func newDebugged(t *testing.T) (*Guest, *steppablePartition, *Debugger) {
	t.Helper()
	ram, err := guestmem.New(4<<20, guestmem.Layout{LowTop: 4 << 20, HighBase: 1 << 32}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ram.Close() })
	p := &steppablePartition{fakePartition: &fakePartition{scripts: map[int]script{}, vps: map[int]*fakeVP{}}, ram: ram}
	g, err := New(Config{
		Partition: p, VPs: 2, Ports: &bus.Ports{}, Memory: &bus.Memory{}, RAM: ram,
		ExtINT:   func() irq.Vector { return 0x30 },
		Firmware: func(vp hcl.VP) error { return vp.SetRegisters(&hcl.Registers{RIP: loopAt}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	for _, v := range g.vps {
		v.hold.set()
	}
	wait := start(t, g)
	t.Cleanup(func() {
		g.Stop(End{Kind: EndPowerOff})
		wait()
	})
	if err := g.order(t.Context(), 1, func(v *vp) error { v.waiting = false; return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := g.Debug(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g, p, d
}

// all is the same action for all VPs.
func all(a Action) func(int) Action { return func(int) Action { return a } }

// only is an action for one VP.
func only(vp int, a Action) func(int) Action {
	return func(i int) Action {
		if i == vp {
			return a
		}
		return ActionStay
	}
}

// goOn lets the guest go on, and waits for the VP that stops it.
func goOn(t *testing.T, d *Debugger, action func(int) Action) int {
	t.Helper()
	if err := d.Go(t.Context(), action); err != nil {
		t.Fatal(err)
	}
	select {
	case i := <-d.Stops():
		if err := d.Halt(t.Context()); err != nil {
			t.Fatal(err)
		}
		return i
	case <-time.After(time.Minute):
		t.Fatal("nothing stopped")
		return 0
	}
}

func wantRIP(t *testing.T, d *Debugger, vp int, want uint64) {
	t.Helper()
	if r, _, err := d.Registers(t.Context(), vp); err != nil || r.RIP != want {
		t.Errorf("VP %d is at %#x, %v; want %#x", vp, r.RIP, err, want)
	}
}

func TestBreakpoint(t *testing.T) {
	g, p, d := newDebugged(t)
	const at = loopAt + 0x20
	if err := d.SetBreak(t.Context(), 0, at); err != nil {
		t.Fatal(err)
	}
	i := goOn(t, d, only(1, ActionRun))
	if i != 1 || !g.Paused() {
		t.Errorf("VP %d stopped", i)
	}
	wantRIP(t, d, 1, at)
	wantRIP(t, d, 0, loopAt)
	if n := p.vps[1].executed.Load(); n != 0x20 {
		t.Errorf("it executed %d instructions", n)
	}
	// It is not to be seen in memory, and what is written there comes back with it.
	code := make([]byte, 3)
	if n, err := d.Read(t.Context(), 0, at-1, code); n != 3 || err != nil || !bytes.Equal(code, []byte{0, 0, 0}) {
		t.Errorf("%x, %v", code, err)
	}
	if err := d.Write(t.Context(), 0, at-1, []byte{1, 2, 3}); err != nil {
		t.Error(err)
	}
	if err := p.ram.ReadAt(at-1, code); err != nil || !bytes.Equal(code, []byte{1, plantedHLT, 3}) {
		t.Errorf("%x, %v", code, err)
	}
	if n, err := d.Read(t.Context(), 0, at-1, code); n != 3 || err != nil || !bytes.Equal(code, []byte{1, 2, 3}) {
		t.Errorf("%x, %v", code, err)
	}
	// It stands in the way until it is stepped over.
	if goOn(t, d, only(1, ActionRun)); p.vps[1].executed.Load() != 0x20 {
		t.Error("the breakpoint was passed")
	}
	if err := d.ClearBreak(at); err != nil {
		t.Fatal(err)
	}
	goOn(t, d, only(1, ActionStep))
	wantRIP(t, d, 1, at+1)
	if err := p.ram.ReadAt(at-1, code); err != nil || !bytes.Equal(code, []byte{1, 2, 3}) {
		t.Errorf("%x, %v", code, err)
	}
	// One that the guest has overwritten stays overwritten.
	if err := errors.Join(d.SetBreak(t.Context(), 0, at), p.ram.WriteAt(at, []byte{9}), d.ClearBreak(at), p.ram.ReadAt(at-1, code)); err != nil || code[1] != 9 {
		t.Errorf("%x, %v", code, err)
	}
}

func TestStep(t *testing.T) {
	_, p, d := newDebugged(t)
	p.vps[0].interruptible = true
	for n := range 5 {
		d.guest.APICs().SetLINT0(true) // an interrupt that waits
		if i := goOn(t, d, only(0, ActionStep)); i != 0 {
			t.Errorf("VP %d stopped", i)
		}
		wantRIP(t, d, 0, loopAt+uint64(n)+1)
	}
	if len(p.vps[0].injected) != 0 || p.vps[1].executed.Load() != 0 {
		t.Error("a step is more than one instruction of one VP")
	}
	// While the others run.
	goOn(t, d, func(i int) Action {
		if i == 0 {
			return ActionStep
		}
		return ActionRun
	})
	wantRIP(t, d, 0, loopAt+6)
	if p.vps[0].stepping {
		t.Error("the VP still steps")
	}
	// A step that ends in HLT.
	if err := p.ram.WriteAt(loopAt+6, []byte{plantedHLT}); err != nil {
		t.Fatal(err)
	}
	goOn(t, d, only(0, ActionStep))
	wantRIP(t, d, 0, loopAt+7)
	if state, err := d.Doing(t.Context(), 0); state != "halted" || err != nil {
		t.Errorf("the VP is %s, %v", state, err)
	}
	// A halted VP that is sent elsewhere runs.
	r, s, err := d.Registers(t.Context(), 0)
	r.RIP = loopAt
	if err := errors.Join(err, d.SetRegisters(t.Context(), 0, &r, &s)); err != nil {
		t.Fatal(err)
	}
	goOn(t, d, only(0, ActionStep))
	wantRIP(t, d, 0, loopAt+1)
}

func TestHaltForgetsASleepersStep(t *testing.T) {
	_, p, d := newDebugged(t)
	if err := d.guest.order(t.Context(), 0, func(v *vp) error { v.halted = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := d.Go(t.Context(), only(0, ActionStep)); err != nil {
		t.Fatal(err)
	}
	if err := d.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.vps[0].stepping {
		t.Error("the step was not forgotten")
	}
}

func TestBreakpointRefused(t *testing.T) {
	_, _, d := newDebugged(t)
	if err := d.SetBreak(t.Context(), 0, 8<<20); !errors.Is(err, ErrNoMemory) {
		t.Errorf("outside of RAM: %v", err)
	}
	if _, err := d.Read(t.Context(), 0, 8<<20, make([]byte, 1)); !errors.Is(err, ErrNoMemory) {
		t.Errorf("outside of RAM: %v", err)
	}
	if n, err := d.Read(t.Context(), 0, 4<<20-2, make([]byte, 4)); n != 2 || err != nil {
		t.Errorf("at the end of RAM: %d bytes, %v", n, err)
	}
	if err := d.Write(t.Context(), 0, 4<<20-2, make([]byte, 4)); !errors.Is(err, ErrNoMemory) {
		t.Errorf("over the end of RAM: %v", err)
	}
	for i := range uint64(maxBreakpoints) {
		if err := d.SetBreak(t.Context(), 0, 0x2000+i); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.SetBreak(t.Context(), 0, 0x4000); !errors.Is(err, ErrNoBreak) {
		t.Errorf("one too many: %v", err)
	}
}

func TestDetach(t *testing.T) {
	g, p, d := newDebugged(t)
	before, after := make([]byte, 0x100), make([]byte, 0x100)
	for i := range before {
		before[i] = byte(i)
	}
	before[plantedHLT] = 0
	if err := p.ram.WriteAt(loopAt, before); err != nil {
		t.Fatal(err)
	}
	for at := uint64(loopAt); at < loopEnd; at += 7 {
		if err := d.SetBreak(t.Context(), 0, at); err != nil {
			t.Fatal(err)
		}
	}
	goOn(t, d, all(ActionRun))
	if err := d.Go(t.Context(), all(ActionRun)); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.ram.ReadAt(loopAt, after); err != nil || !bytes.Equal(before, after) || g.Paused() {
		t.Errorf("memory is %x, %v; paused %v", after, err, g.Paused())
	}
	for _, vp := range p.vps {
		for n := vp.executed.Load(); vp.executed.Load() == n; {
			time.Sleep(time.Microsecond)
		}
	}
}

func TestDebugOnlyWhereItIsPossible(t *testing.T) {
	g, _ := newBusy(t)
	wait := start(t, g)
	if _, err := g.Debug(t.Context()); !errors.Is(err, ErrNoDebugger) || g.Paused() {
		t.Errorf("%v; paused %v", err, g.Paused())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Stop(End{Kind: EndPowerOff})
	wait()
	if _, err := g.Debug(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
