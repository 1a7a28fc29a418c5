package vtl

import (
	"slices"

	"keel/hcl"
)

// beginStep makes the VP run one instruction when it goes on. Meanwhile it gets no
// interrupts, unless it sleeps for one.
func (v *vp) beginStep() error {
	d, ok := v.backend.(hcl.Debugger)
	if !ok {
		return ErrNoDebugger
	}
	v.backend.RequestInterruptWindow(false)
	v.stepping = true
	return d.Step(true)
}

// endStep ends that, whether or not it was done.
func (v *vp) endStep() error {
	if !v.stepping {
		return nil
	}
	v.stepping = false
	return v.backend.(hcl.Debugger).Step(false)
}

// stop holds all VPs and tells the debugger that it was this one.
func (v *vp) stop(w *watch) {
	v.guest.hold()
	select {
	case w.stops <- v.index:
	default: // another one was first
	}
}

// stepped handles the end of a step.
func (v *vp) stepped() {
	v.broken = v.endStep()
	if w := v.guest.watch.Load(); w != nil {
		v.stop(w)
	}
}

// halt handles HLT, which may be a breakpoint or what was stepped.
func (v *vp) halt(e *hcl.Exit) {
	w := v.guest.watch.Load()
	switch {
	case w != nil && slices.Contains(w.breaks, e.RIP-1):
		v.broken = v.backAt(e.RIP - 1)
		v.stop(w)
	case v.stepping:
		v.halted = true
		v.stepped()
	default:
		v.halted = true
	}
}

// backAt returns to the instruction that a breakpoint has replaced.
func (v *vp) backAt(rip uint64) error {
	r, err := v.backend.Registers()
	if err != nil {
		return err
	}
	r.RIP = rip
	return v.backend.SetRegisters(&r)
}
