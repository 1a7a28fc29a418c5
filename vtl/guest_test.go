package vtl

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/apic"
	"keel/vtl/bus"
)

// scratch is a device that holds one value, and can end the guest.
type scratch struct {
	value uint64
	stop  func()
}

func (s *scratch) ReadPIO(uint16, int) uint32 { return uint32(s.value) }
func (s *scratch) WritePIO(_ uint16, _ int, v uint32) {
	s.value = uint64(v)
	if s.stop != nil {
		s.stop()
	}
}
func (s *scratch) ReadMMIO(uint64, int) uint64         { return s.value }
func (s *scratch) WriteMMIO(_ uint64, _ int, v uint64) { s.value = v }

// mapPort maps a device at port 0x10 and ends the guest when 0x11 is written.
func mapPorts(tb testing.TB, g *Guest, ports *bus.Ports, d *scratch) {
	tb.Helper()
	off := &scratch{stop: func() { g.Stop(End{Kind: EndPowerOff}) }}
	for _, err := range []error{ports.Map("d", 0x20, 4, d), ports.Map("off", 0x11, 1, off)} {
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func pio(port uint16, write bool, size uint8, data []byte) hcl.Exit {
	return hcl.Exit{Kind: hcl.ExitPIO, Port: port, Write: write, Size: size, Data: data}
}

func powerOff() (hcl.Exit, error) { return pio(0x11, true, 1, []byte{1}), nil }

func TestNewRefusesImpossibleVPCounts(t *testing.T) {
	for _, n := range []int{-1, 0, MaxVPs + 1} {
		if _, err := New(Config{VPs: n}); !errors.Is(err, ErrConfig) {
			t.Errorf("%d VPs: %v, want ErrConfig", n, err)
		}
	}
}

func TestPortIO(t *testing.T) {
	in := make([]byte, 4)
	string6 := []byte{1, 0, 2, 0, 3, 0} // OUTSW of three words
	g, _, ports, _ := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
		switch turn {
		case 0:
			return pio(0x20, true, 4, []byte{0x78, 0x56, 0x34, 0x12}), nil
		case 1:
			return pio(0x20, false, 4, in), nil
		case 2:
			return pio(0x20, true, 2, string6), nil
		}
		return powerOff()
	})
	d := &scratch{}
	mapPorts(t, g, ports, d)
	if end := run(t, g); end.Kind != EndPowerOff {
		t.Errorf("end %+v", end)
	}
	if load(in) != 0x12345678 {
		t.Errorf("read %x", in)
	}
	if d.value != 3 {
		t.Errorf("after the string the device holds %d, want the last word", d.value)
	}
	if n := g.Exits()["pio"]; n != 4 {
		t.Errorf("%d pio exits, want 4", n)
	}
}

func TestMMIOReachesOwnAPICFirst(t *testing.T) {
	version := make([]byte, 4)
	dev := make([]byte, 8)
	g, _, ports, memory := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
		switch turn {
		case 0:
			return hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfee00030, Data: version}, nil
		case 1:
			return hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfec00000, Write: true, Data: []byte{7, 0, 0, 0, 0, 0, 0, 0}}, nil
		case 2:
			return hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfec00000, Data: dev}, nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	if err := memory.Map("d", 0xfec00000, 8, &scratch{}); err != nil {
		t.Fatal(err)
	}
	run(t, g)
	if v := load(version); v&0xf0 != 0x10 {
		t.Errorf("local APIC version register reads %#x", v)
	}
	if load(dev) != 7 {
		t.Errorf("the device reads %x", dev)
	}
}

func TestMSRs(t *testing.T) {
	type answer struct {
		value uint64
		fault bool
	}
	exits := []hcl.Exit{
		{Kind: hcl.ExitMSRRead, MSR: x86.IA32_APIC_BASE},
		{Kind: hcl.ExitMSRRead, MSR: 0x802}, // x2APIC registers do not exist in xAPIC mode
		{Kind: hcl.ExitMSRWrite, MSR: x86.IA32_APIC_BASE, Value: 0xfee00000 | 1<<11 | 1<<10 | 1<<8},
		{Kind: hcl.ExitMSRRead, MSR: 0x802},
		{Kind: hcl.ExitMSRRead, MSR: 0x12345},
		{Kind: hcl.ExitMSRWrite, MSR: 0x12345},
	}
	want := []answer{{0xfee00900, false}, {0, true}, {0, false}, {0, false}, {0, true}, {0, true}}
	var got []answer
	g, _, ports, _ := newFake(t, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		if turn > 0 && turn <= len(exits) {
			got = append(got, answer{vp.msrValue, vp.msrFault})
		}
		if turn < len(exits) {
			return exits[turn], nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	run(t, g)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("MSR %#x: %+v, want %+v", exits[i].MSR, got[i], want[i])
		}
	}
	if r := g.Refused(); r["msr-read"] != 2 || r["msr-write"] != 1 {
		t.Errorf("refused %v", r)
	}
}

func TestCrashNamesRIPAndTheLastExits(t *testing.T) {
	for _, c := range []struct {
		exit hcl.Exit
		want string
	}{
		{hcl.Exit{Kind: hcl.ExitShutdown, RIP: 0xdeadbeef}, "at RIP 0xdeadbeef"},
		// The substrate has reset the VP: the last exit says where it was.
		{hcl.Exit{Kind: hcl.ExitShutdown, RIP: 0xfff0}, "after RIP 0xfeedface"},
		{hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: 1, RIP: 0xdeadbeef}, "at RIP 0xdeadbeef; reason 1"},
	} {
		g, _, ports, _ := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
			if turn == 0 {
				e := pio(0x20, true, 1, []byte{9})
				e.RIP = 0xfeedface
				return e, nil
			}
			return c.exit, nil
		})
		mapPorts(t, g, ports, &scratch{})
		end := run(t, g)
		if end.Kind != EndCrash {
			t.Errorf("%v: end %v", c.exit.Kind, end.Kind)
		}
		for _, want := range []string{c.want, "pio write 0x20/1"} {
			if !strings.Contains(end.Detail, want) {
				t.Errorf("%q lacks %q", end.Detail, want)
			}
		}
		if strings.Contains(end.Message+end.Detail, "\n") {
			t.Errorf("%q is not one line", end.Message+end.Detail)
		}
		if strings.Contains(end.Message, "0x") {
			t.Errorf("%q tells of the guest", end.Message)
		}
	}
}

func TestSubstrateFailureIsAnError(t *testing.T) {
	broken := errors.New("broken")
	g, _, _, _ := newFake(t, func(*fakeVP, int) (hcl.Exit, error) { return hcl.Exit{}, broken })
	if _, err := g.Run(func(hcl.VP) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := g.Run(func(hcl.VP) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error of boot: %v", err)
	}
}

func TestApplicationProcessorWaitsForStartup(t *testing.T) {
	// The BSP starts VP 1 by INIT and startup IPI, VP 1 ends the guest.
	icr := func(low uint32) []hcl.Exit {
		return []hcl.Exit{
			{Kind: hcl.ExitMMIO, GPA: 0xfee00310, Write: true, Data: []byte{0, 0, 0, 1}},
			{Kind: hcl.ExitMMIO, GPA: 0xfee00300, Write: true, Data: []byte{byte(low), byte(low >> 8), byte(low >> 16), byte(low >> 24)}},
		}
	}
	sequence := append(icr(0x4500), icr(0x4609)...)
	g, p, ports, _ := newFake(t, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		if turn < len(sequence) {
			return sequence[turn], nil
		}
		return vp.untilKicked()
	}, func(*fakeVP, int) (hcl.Exit, error) {
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	if end := run(t, g); end.Kind != EndPowerOff {
		t.Errorf("end %+v", end)
	}
	ap := p.vps[1]
	if ap.turn != 1 {
		t.Errorf("the AP ran %d times, want once", ap.turn)
	}
	if cs := ap.sregs.CS; cs.Base != 0x9000 || cs.Selector != 0x900 || ap.regs.RIP != 0 {
		t.Errorf("the AP starts at %+v:%#x", cs, ap.regs.RIP)
	}
}

func TestHaltSleepsUntilAnInterrupt(t *testing.T) {
	g, p, ports, _ := newFake(t, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		switch turn {
		case 0:
			vp.interruptible = true
			return hcl.Exit{Kind: hcl.ExitHalt}, nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	// The 8259's wire wakes the VP through LINT0 of the virtual wire mode.
	go g.APICs().SetLINT0(true)
	run(t, g)
	if got := p.vps[0].injected; len(got) == 0 || got[0] != 0x30 {
		t.Errorf("injected %v, want the vector of the 8259", got)
	}
}

func TestNoInjectionWithoutWindow(t *testing.T) {
	g, p, ports, _ := newFake(t, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		switch turn {
		case 0, 1: // not interruptible: an exit of its own accord, then the window opens
			vp.interruptible = turn == 1
			if turn == 1 && !vp.windowWanted {
				t.Error("no interrupt window was asked for")
			}
			return hcl.Exit{Kind: hcl.ExitInterruptWindow}, nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	g.APICs().SetLINT0(true)
	run(t, g)
	if got := p.vps[0].injected; len(got) != 1 {
		t.Errorf("injected %v, want one", got)
	}
}

func TestNMIReachesEveryState(t *testing.T) {
	g, p, ports, _ := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
		if turn == 0 {
			return hcl.Exit{Kind: hcl.ExitHalt}, nil // interrupts off: only an NMI wakes it
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	go func() {
		for g.Exits()["halt"] == 0 {
			runtime.Gosched()
		}
		g.NMI()
	}()
	run(t, g)
	if n := p.vps[0].nmis; n != 1 {
		t.Errorf("%d NMIs, want 1", n)
	}
}

func TestGuestRunsAgainAfterReset(t *testing.T) {
	g, p, ports, _ := newFake(t, func(*fakeVP, int) (hcl.Exit, error) { return powerOff() })
	mapPorts(t, g, ports, &scratch{})
	run(t, g)
	before := p.vps[0].resets
	if end := run(t, g); end.Kind != EndPowerOff || p.vps[0].resets != before+1 {
		t.Errorf("second run: %+v, %d resets", end, p.vps[0].resets-before)
	}
}

func TestStopReachesEveryVP(t *testing.T) {
	// VP 0 leaves the guest all the time, so that a stop meets it at any point
	// of its loop; VP 1 sleeps for its startup IPI.
	g, _, _, _ := newFake(t, func(*fakeVP, int) (hcl.Exit, error) {
		return hcl.Exit{Kind: hcl.ExitInterruptWindow}, nil
	}, func(vp *fakeVP, _ int) (hcl.Exit, error) { return vp.untilKicked() })
	for range 2000 {
		end, err := g.Run(func(hcl.VP) error {
			go g.Stop(End{Kind: EndPowerOff})
			return nil
		})
		if err != nil || end.Kind != EndPowerOff {
			t.Fatalf("end %+v, %v", end, err)
		}
	}
}

func TestTSCToTimeSaturates(t *testing.T) {
	g, _, _, _ := newFake(t, func(*fakeVP, int) (hcl.Exit, error) { return powerOff() })
	now := g.Now()
	if got := g.TSCToTime(0, 0); got < now {
		t.Errorf("the past is at %d, before now", got)
	}
	if got := g.TSCToTime(0, ^uint64(0)); got <= now {
		t.Errorf("the far future is at %d", got)
	}
	if got := g.TSCToTime(0, g.TSC(0)+fakeHz); got < now+9e8 || got > g.Now()+11e8 {
		t.Errorf("a second ahead is at %d, now is %d", got, now)
	}
}

func TestObserveSeesAnsweredExits(t *testing.T) {
	answer := make([]byte, 1)
	g, _, ports, _ := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
		if turn == 0 {
			return pio(0x20, false, 1, answer), nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{value: 0x5a})
	var seen []string
	g.config.Observe = func(vp int, e hcl.Exit) { seen = append(seen, fmt.Sprintf("%d %v %#x", vp, e.Kind, e.Data)) }
	if _, err := g.Run(func(hcl.VP) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0 pio 0x5a", "0 pio 0x01"}; !slices.Equal(seen, want) {
		t.Errorf("observed %q, want %q", seen, want)
	}
}

func TestExitPathDoesNotAllocate(t *testing.T) {
	g, _, ports, memory := newFake(t, func(*fakeVP, int) (hcl.Exit, error) { return powerOff() })
	mapPorts(t, g, ports, &scratch{})
	if err := memory.Map("d", 0xfec00000, 8, &scratch{}); err != nil {
		t.Fatal(err)
	}
	g.watch.Store(&watch{breaks: []uint64{0x1000}}) // as with a debugger
	v, data := g.vps[0], make([]byte, 4)
	exits := []hcl.Exit{
		pio(0x20, true, 4, data), pio(0x20, false, 4, data), pio(0x999, false, 1, data[:1]),
		{Kind: hcl.ExitMMIO, GPA: 0xfec00000, Write: true, Data: data},
		{Kind: hcl.ExitMMIO, GPA: 0xfee000b0, Write: true, Data: data},
		{Kind: hcl.ExitMSRRead, MSR: x86.IA32_APIC_BASE},
		{Kind: hcl.ExitMSRWrite, MSR: x86.IA32_TSC_DEADLINE, Value: 1},
		{Kind: hcl.ExitHalt},
		{Kind: hcl.ExitInterruptWindow},
	}
	g.APICs().Deliver(apic.Message{Vector: 0x41})
	if n := testing.AllocsPerRun(100, func() {
		for i := range exits {
			v.dispatch(&exits[i])
			_ = v.takeEvents()
			_ = v.deliver()
		}
	}); n != 0 {
		t.Errorf("the exit path allocates %v times", n)
	}
}
