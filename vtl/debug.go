package vtl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/x86emu"
)

// A debugger stops the guest with HLT instructions that it plants: those leave the guest
// on every substrate, and nothing of them has to be emulated. INT3 would not: the SVM that
// QEMU emulates does not intercept it. HLT is an instruction of the kernel, so that there
// are no breakpoints in code of privilege level 3.

// plantedHLT is the instruction of a breakpoint (AMD64 APM vol. 3, HLT).
const plantedHLT = 0xf4

// maxBreakpoints bounds the breakpoints of a debugger.
const maxBreakpoints = 256

// Errors of Debugger.
var (
	ErrNoDebugger = errors.New("this guest cannot be debugged")
	ErrNoMemory   = errors.New("no memory there")
	ErrNoBreak    = errors.New("no breakpoint can be there")
)

// Action is what a VP does when the guest goes on.
type Action uint8

// The actions.
const (
	ActionStay Action = iota // it remains held
	ActionRun
	ActionStep // it runs one instruction
)

// Debugger looks into a guest, changes it and stops it. The guest is paused when a method
// is called that reads or changes something. It belongs to one goroutine.
type Debugger struct {
	guest   *Guest
	planted map[uint64]planted // by linear address
	stops   chan int
}

// planted is a breakpoint in memory.
type planted struct {
	gpa x86.GPA
	was byte
}

// watch is what VPs need to know of a debugger.
type watch struct {
	breaks []uint64 // linear addresses of breakpoints
	stops  chan<- int
}

// Debug pauses the guest and returns what debugs it. The caller sees to it that there is
// one at a time. Errors: ErrNoDebugger, which leaves the guest as it was; that of ctx.
func (g *Guest) Debug(ctx context.Context) (*Debugger, error) {
	paused := g.Paused()
	if err := g.Pause(ctx); err != nil {
		return nil, err
	}
	err := g.OnVPs(ctx, func(_ int, vp hcl.VP) error {
		if _, ok := vp.(hcl.Debugger); !ok || g.config.RAM == nil {
			return ErrNoDebugger
		}
		return nil
	})
	if err != nil {
		if !paused {
			g.Resume()
		}
		return nil, err
	}
	d := &Debugger{guest: g, planted: map[uint64]planted{}, stops: make(chan int, 1)}
	d.publish()
	return d, nil
}

// publish tells the VPs which HLT is a breakpoint.
func (d *Debugger) publish() {
	d.guest.watch.Store(&watch{slices.Collect(maps.Keys(d.planted)), d.stops})
}

// VPs is how many there are.
func (d *Debugger) VPs() int { return len(d.guest.vps) }

// Stops tells which VP has come to a breakpoint or done its step. All are held then, or
// about to stand: Halt waits for them.
func (d *Debugger) Stops() <-chan int { return d.stops }

// Halt pauses the guest, and forgets steps that were not done.
func (d *Debugger) Halt(ctx context.Context) error {
	if err := d.guest.Pause(ctx); err != nil {
		return err
	}
	for i := range d.guest.vps {
		if err := d.guest.order(ctx, i, (*vp).endStep); err != nil {
			return err
		}
	}
	return nil
}

// Go lets the VPs go on.
func (d *Debugger) Go(ctx context.Context, action func(vp int) Action) error {
	select {
	case <-d.stops: // of a VP that was not waited for
	default:
	}
	for i := range d.guest.vps {
		if action(i) == ActionStep {
			if err := d.guest.order(ctx, i, (*vp).beginStep); err != nil {
				return err
			}
		}
	}
	for i, v := range d.guest.vps {
		if action(i) != ActionStay {
			v.hold.release()
		}
	}
	return nil
}

// Detach takes all breakpoints out of the guest and lets it go on, also when it cannot be
// paused for that.
func (d *Debugger) Detach(ctx context.Context) error {
	errs := []error{d.Halt(ctx)}
	for at := range d.planted {
		errs = append(errs, d.ClearBreak(at))
	}
	d.guest.watch.Store(nil)
	d.guest.Resume()
	return errors.Join(errs...)
}

// Registers reads a VP's registers.
func (d *Debugger) Registers(ctx context.Context, i int) (r hcl.Registers, s hcl.SpecialRegisters, err error) {
	err = d.guest.OnVP(ctx, i, func(vp hcl.VP) (err error) {
		if r, err = vp.Registers(); err == nil {
			s, err = vp.SpecialRegisters()
		}
		return err
	})
	return r, s, err
}

// SetRegisters writes a VP's registers. A halted VP that is sent elsewhere runs.
func (d *Debugger) SetRegisters(ctx context.Context, i int, r *hcl.Registers, s *hcl.SpecialRegisters) error {
	return d.guest.order(ctx, i, func(v *vp) error {
		old, err := v.backend.Registers()
		if err != nil {
			return err
		}
		if old.RIP != r.RIP {
			v.halted = false
		}
		return errors.Join(v.backend.SetSpecialRegisters(s), v.backend.SetRegisters(r))
	})
}

// Doing says in a word what a VP does.
func (d *Debugger) Doing(ctx context.Context, i int) (state string, err error) {
	err = d.guest.order(ctx, i, func(v *vp) error {
		switch {
		case v.waiting:
			state = "not started"
		case v.halted:
			state = "halted"
		default:
			state = "running"
		}
		return nil
	})
	return state, err
}

// Read copies memory from a linear address of a VP on into p, without the breakpoints in
// it, up to the first byte that is no RAM. Errors: ErrNoMemory when that is the first of
// all.
func (d *Debugger) Read(ctx context.Context, i int, linear uint64, p []byte) (n int, err error) {
	err = d.pieces(ctx, i, linear, len(p), func(gpa x86.GPA, from, to int) error {
		n = to
		return d.guest.config.RAM.ReadAt(gpa, p[from:to])
	})
	if n > 0 && errors.Is(err, ErrNoMemory) {
		err = nil
	}
	for at, b := range d.planted {
		if offset := at - linear; offset < uint64(n) {
			p[offset] = b.was
		}
	}
	return n, err
}

// Write copies p to memory from a linear address of a VP on. Breakpoints stay. Errors:
// ErrNoMemory, when not all is RAM.
func (d *Debugger) Write(ctx context.Context, i int, linear uint64, p []byte) error {
	nothing := func(x86.GPA, int, int) error { return nil }
	if err := d.pieces(ctx, i, linear, len(p), nothing); err != nil {
		return err
	}
	p = slices.Clone(p)
	for at, b := range d.planted {
		if offset := at - linear; offset < uint64(len(p)) {
			b.was, p[offset] = p[offset], plantedHLT
			d.planted[at] = b
		}
	}
	return d.pieces(ctx, i, linear, len(p), func(gpa x86.GPA, from, to int) error {
		return d.guest.config.RAM.WriteAt(gpa, p[from:to])
	})
}

// pieces calls f with what lies in one page each of n bytes from a linear address on.
func (d *Debugger) pieces(ctx context.Context, i int, linear uint64, n int, f func(gpa x86.GPA, from, to int) error) error {
	s, err := d.guest.translation(ctx, i)
	if err != nil {
		return err
	}
	for from := 0; from < n; {
		at := linear + uint64(from)
		page, _, ok := x86emu.Translate(s, d.guest.readRAM, at)
		within := at - page.Linear
		gpa := page.GPA + x86.GPA(within)
		to := from + int(min(uint64(n-from), page.Size-within))
		if !ok || !d.guest.config.RAM.Has(gpa, to-from) {
			return fmt.Errorf("%w: %#x", ErrNoMemory, at)
		}
		if err := f(gpa, from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// SetBreak plants a breakpoint at a linear address of a VP. Errors: ErrNoMemory;
// ErrNoBreak where code of privilege level 3 would run into it, and when there are too
// many.
func (d *Debugger) SetBreak(ctx context.Context, i int, linear uint64) error {
	if _, ok := d.planted[linear]; ok {
		return nil
	}
	if len(d.planted) >= maxBreakpoints {
		return fmt.Errorf("%w: there are %d", ErrNoBreak, maxBreakpoints)
	}
	s, err := d.guest.translation(ctx, i)
	if err != nil {
		return err
	}
	page, user, ok := x86emu.Translate(s, d.guest.readRAM, linear)
	b := planted{gpa: page.GPA + x86.GPA(linear-page.Linear)}
	switch {
	case !ok || !d.guest.config.RAM.Has(b.gpa, 1):
		return fmt.Errorf("%w: %#x", ErrNoMemory, linear)
	case user:
		return fmt.Errorf("%w: %#x is not the kernel's", ErrNoBreak, linear)
	}
	var was [1]byte
	if err := d.guest.config.RAM.ReadAt(b.gpa, was[:]); err != nil {
		return err
	}
	b.was = was[0]
	if err := d.guest.config.RAM.WriteAt(b.gpa, []byte{plantedHLT}); err != nil {
		return err
	}
	d.planted[linear] = b
	d.publish()
	return nil
}

// ClearBreak takes a breakpoint out, unless the guest has overwritten it. One that there is
// not is none.
func (d *Debugger) ClearBreak(linear uint64) error {
	b, ok := d.planted[linear]
	if !ok {
		return nil
	}
	delete(d.planted, linear)
	d.publish()
	var now [1]byte
	if err := d.guest.config.RAM.ReadAt(b.gpa, now[:]); err != nil || now[0] != plantedHLT {
		return err
	}
	return d.guest.config.RAM.WriteAt(b.gpa, []byte{b.was})
}
