package tdx

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// TestEvents: what an entry brings when the exit before interrupted a delivery (SDM vol.
// 3, "Information for VM Exits During Event Delivery").
func TestEvents(t *testing.T) {
	const interrupt = 1<<31 | 0x41
	vectoring := func(info, code uint32) step {
		return func(*entered) l2.Exit {
			return l2.Exit{Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: 1, IDTVectoring: info, IDTError: code}
		}
	}
	for _, c := range []struct {
		what   string
		before func(vp *VP)
		exit   step
		inject uint64 // at the second entry
		stats  Stats
	}{
		{"interrupt that came back", nil, vectoring(interrupt, 0), interrupt, Stats{Reinjected: 1}},
		{"NMI that came back", nil, vectoring(1<<31|2<<8|2, 0), 1<<31 | 2<<8 | 2, Stats{Reinjected: 1}},
		{"#PF that came back", nil, vectoring(1<<31|1<<11|3<<8|14, 6), 1<<31 | 1<<11 | 3<<8 | 14 | 6<<32, Stats{Reinjected: 1}},
		{"software interrupt", nil, vectoring(1<<31|4<<8|0x80, 0), 0, Stats{}},
		{"INT3", nil, vectoring(1<<31|6<<8|3, 0), 0, Stats{}},
		{"not valid", nil, vectoring(0x41, 0), 0, Stats{}},
		{"delivered", func(vp *VP) { vp.Inject(0x41) }, kick, 0, Stats{}},
		{"not entered", func(vp *VP) { vp.Inject(0x41) }, func(*entered) l2.Exit {
			return l2.Exit{Status: tdx.STATUS_TD_EXIT_BEFORE_L2_ENTRY}
		}, interrupt, Stats{NotEntered: 1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, p, vp := newVP(t)
			special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
			vp.state.Registers.RFLAGS |= 1 << 9
			var second uint64
			f.script = []step{c.exit, func(g *entered) l2.Exit { second = g.inject(); return kick(g) }}
			if c.before != nil {
				c.before(vp)
			}
			for range 2 {
				if _, err := vp.Run(); err != nil {
					t.Fatal(err)
				}
			}
			if second != c.inject || p.Stats() != c.stats {
				t.Errorf("event %#x, %+v, want %#x, %+v", second, p.Stats(), c.inject, c.stats)
			}
		})
	}
}

// TestErrorCode: an entry wants an error code of some exceptions, in protected mode only.
func TestErrorCode(t *testing.T) {
	for _, c := range []struct {
		what   string
		cr0    uint64
		vector uint8
		code   uint32
		want   uint64
	}{
		{"#PF", protected, 14, 0x15, 1<<31 | 1<<11 | 3<<8 | 14 | 0x15<<32},
		{"#PF, reserved bits", protected, 14, 0x80000002, 1<<31 | 1<<11 | 3<<8 | 14 | 2<<32},
		{"#UD", protected, 6, 7, injectUD},
		{"#GP in real mode", 0x10, 13, 7, 1<<31 | 3<<8 | 13},
	} {
		f, _, vp := newVP(t)
		special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = c.cr0 })
		var got uint64
		f.script = []step{func(g *entered) l2.Exit { got = g.inject(); return kick(g) }}
		if err := vp.InjectException(c.vector, c.code, true); err != nil {
			t.Fatal(err)
		}
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || got != c.want {
			t.Errorf("%s: %+v, %v, event %#x, want %#x", c.what, e, err, got, c.want)
		}
	}
}

// TestNMI: an NMI waits for the end of another one, and of a shadow, and the window is
// asked for.
func TestNMI(t *testing.T) {
	const event = 1<<31 | 2<<8 | 2
	window := func(g *entered) bool { return g.get(tdx.VMCS_PROCESSOR_CONTROLS)&(1<<22) != 0 }
	for _, blocking := range []uint64{tdx.INTERRUPTIBILITY_NMI, tdx.INTERRUPTIBILITY_MOV_SS} {
		f, _, vp := newVP(t)
		var events []uint64
		f.script = []step{
			func(g *entered) l2.Exit { g.set(tdx.VMCS_INTERRUPTIBILITY, blocking, 0xf); return kick(g) },
			func(g *entered) l2.Exit {
				if events = append(events, g.inject()); !window(g) {
					t.Error("no window is asked for")
				}
				g.set(tdx.VMCS_INTERRUPTIBILITY, 0, 0xf)
				return leave(tdx.EXIT_NMI_WINDOW, 0)(g)
			},
			func(g *entered) l2.Exit {
				if events = append(events, g.inject()); window(g) {
					t.Error("the window stays")
				}
				return kick(g)
			},
		}
		if _, err := vp.Run(); err != nil {
			t.Fatal(err)
		}
		if err := vp.InjectNMI(); err != nil {
			t.Fatal(err)
		}
		if _, err := vp.Run(); err != nil || len(events) != 2 || events[0] != 0 || events[1] != event {
			t.Errorf("blocking %d: %#x, %v", blocking, events, err)
		}
	}
	// One whose delivery was interrupted has blocked itself, and an IRET that met a fault
	// has not unblocked others.
	f, _, vp := newVP(t)
	var blocked []uint64
	f.script = []step{
		func(g *entered) l2.Exit {
			g.set(tdx.VMCS_INTERRUPTIBILITY, tdx.INTERRUPTIBILITY_NMI, 0xf)
			return l2.Exit{Reason: tdx.EXIT_EPT_VIOLATION, GPA: 0xfee00000, Qualification: tdx.EPT_NMI_UNBLOCKED, IDTVectoring: event}
		},
		func(g *entered) l2.Exit {
			blocked = append(blocked, g.get(tdx.VMCS_INTERRUPTIBILITY))
			return l2.Exit{Reason: tdx.EXIT_EPT_VIOLATION, GPA: 0xfee00000, Qualification: tdx.EPT_NMI_UNBLOCKED}
		},
		func(g *entered) l2.Exit { blocked = append(blocked, g.get(tdx.VMCS_INTERRUPTIBILITY)); return kick(g) },
	}
	for range 3 {
		if _, err := vp.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if len(blocked) != 2 || blocked[0] != 0 || blocked[1] != tdx.INTERRUPTIBILITY_NMI {
		t.Errorf("interruptibility %v", blocked)
	}
}

// TestWindowAndTPR: the interrupt window, and the task priority in the virtual APIC page
// with its threshold.
func TestWindowAndTPR(t *testing.T) {
	f, _, vp := newVP(t)
	var controls, threshold uint64
	f.script = []step{func(g *entered) l2.Exit {
		controls, threshold = g.get(tdx.VMCS_PROCESSOR_CONTROLS), g.get(tdx.VMCS_TPR_THRESHOLD)
		return leave(tdx.EXIT_TPR_BELOW_THRESHOLD, 0)(g)
	}}
	vp.RequestInterruptWindow(true)
	vp.SetCR8(5)
	if _, err := vp.Run(); err != nil || controls&(1<<2) == 0 || threshold != 5 || vp.apic[0x80] != 0x50 {
		t.Errorf("controls %#x, threshold %d, page %#x, %v", controls, threshold, vp.apic[0x80], err)
	}
	vp.apic[0x80] = 0x30 // by the guest
	vp.RequestInterruptWindow(false)
	if _, err := vp.Run(); err != nil || controls&(1<<2) != 0 || threshold != 3 || vp.CR8() != 3 {
		t.Errorf("controls %#x, threshold %d, CR8 %d, %v", controls, threshold, vp.CR8(), err)
	}
}

// TestCanInject: RFLAGS.IF, the interrupt shadow, and what is queued already.
func TestCanInject(t *testing.T) {
	f, p, vp := newVP(t)
	special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
	if vp.CanInject() {
		t.Error("with RFLAGS.IF clear")
	}
	vp.state.Registers.RFLAGS |= 1 << 9
	if !vp.CanInject() || !vp.InterruptFlag() {
		t.Error("not with RFLAGS.IF")
	}
	f.script = []step{func(g *entered) l2.Exit { g.set(tdx.VMCS_INTERRUPTIBILITY, 1, 3); return kick(g) }}
	if _, err := vp.Run(); err != nil || vp.CanInject() {
		t.Error("in an interrupt shadow", err)
	}
	f.script = []step{func(g *entered) l2.Exit { g.set(tdx.VMCS_INTERRUPTIBILITY, 0, 3); return kick(g) }}
	if _, err := vp.Run(); err != nil || !vp.CanInject() {
		t.Error("not behind the shadow", err)
	}
	vp.Inject(0x41)
	if vp.CanInject() {
		t.Error("behind another one")
	}
	vp.InjectException(14, 2, true)
	if p.Stats().LostEvents != 1 || vp.event.Vector != 14 || vp.event.Error != 2 {
		t.Errorf("%+v, %+v", vp.event, p.Stats())
	}
}
