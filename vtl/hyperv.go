package vtl

import (
	"keel/hcl"
	abi "keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/apic"
	"keel/vtl/guestmem"
	"keel/vtl/hv"
	"keel/vtl/irq"
)

// HyperV asks for the hypervisor interface that guests know as Hyper-V.
type HyperV struct {
	RAM *guestmem.Memory
	// Crash, unless it is nil, is told of crashes that the guest reports.
	Crash func(hv.Crash)
}

// newHyperV makes the interface of a guest. Its timers are kept by the VPs' own
// threads, beside those of their APICs.
func (g *Guest) newHyperV(c *HyperV) (err error) {
	g.hyperv, err = hv.New(hv.Config{
		VPs: len(g.vps), Memory: c.RAM, Interrupts: raiser{g.apics}, Now: g.Now,
		APIC: func(vp int) hv.LocalAPIC { return g.apics.Local(vp) }, TSC: g.TSC, APICHz: apic.TimerHz, TLB: g, Crash: c.Crash,
		Reset: func() { g.Stop(End{Kind: EndReset, Message: "hypervisor reset register"}) },
	})
	return err
}

// HyperV returns the hypervisor interface, nil when it was not asked for. Like a
// device it is reset before memory is loaded: its pages lie in guest RAM.
func (g *Guest) HyperV() *hv.Hypervisor { return g.hyperv }

// raiser delivers synthetic interrupts as fixed ones.
type raiser struct{ *apic.Set }

// Raise implements hv.Interrupts.
func (r raiser) Raise(vp int, v irq.Vector) {
	r.Deliver(apic.Message{Dest: uint32(r.Local(vp).ID()), Vector: v})
}

// isHyperVMSR tells whether the interface answers for a register.
func (v *vp) isHyperVMSR(index uint32) bool {
	return v.guest.hyperv != nil && index >= abi.MSR_FIRST && index <= abi.MSR_LAST
}

// hypercall answers a write to a port of the hypercall page, and tells whether it
// was one.
func (v *vp) hypercall(e *hcl.Exit) bool {
	h := v.guest.hyperv
	if h == nil || !e.Write || e.Size != 1 || len(e.Data) != 1 || e.Port != hv.TrapPort64 && e.Port != hv.TrapPort32 {
		return false
	}
	done, err := h.Hypercall(v.index, e.Port, v.backend)
	v.broken = err
	return done || err != nil
}

// deadline is when the VP's next timer expires, 0 for never.
func (v *vp) deadline() int64 {
	d := v.local.TimerDeadline()
	if h := v.guest.hyperv; h != nil {
		if s := h.TimerDeadline(v.index); s != 0 && (d == 0 || s < d) {
			return s
		}
	}
	return d
}

// FlushTLB implements hv.TLB: every VP of the set flushes before it enters the guest
// next. Two VPs that wait for each other are both outside of it.
func (g *Guest) FlushTLB(from int, set hv.VPSet) {
	for i, v := range g.vps {
		if set>>i&1 != 0 {
			v.flush.Store(true)
			if i != from {
				g.Kick(i)
			}
		}
	}
	for i, v := range g.vps {
		for i != from && set>>i&1 != 0 && v.flush.Load() && v.inside.Load() {
			sys.Yield()
		}
	}
}

// flushTLB makes the substrate forget the guest's translations: a change of CR4.PGE
// does (AMD64 APM vol. 2 §5.5.2).
func (v *vp) flushTLB() error {
	s, err := v.backend.SpecialRegisters()
	if err != nil {
		return err
	}
	s.CR4 ^= x86.CR4_PGE
	if err := v.backend.SetSpecialRegisters(&s); err != nil {
		return err
	}
	s.CR4 ^= x86.CR4_PGE
	return v.backend.SetSpecialRegisters(&s)
}
