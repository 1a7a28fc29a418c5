package vtl

import (
	"slices"
	"testing"

	"keel/hcl"
	abi "keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/vtl/guestmem"
	"keel/vtl/hv"
)

// ram is a little memory for hypercall pages.
func ram(t *testing.T) *HyperV {
	t.Helper()
	m, err := guestmem.New(x86.LargePageSize, guestmem.Layout{LowTop: 1 << 30, HighBase: 4 << 30}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return &HyperV{RAM: m}
}

func write(msr uint32, value uint64) (hcl.Exit, error) {
	return hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: msr, Value: value}, nil
}

// trap is a call through the hypercall page in 64-bit code.
func trap() (hcl.Exit, error) { return pio(hv.TrapPort64, true, 1, []byte{0}), nil }

func TestHypercall(t *testing.T) {
	const page = 0x5000
	var index uint64
	var faulted bool
	g, p, ports, _ := newFakeWith(t, ram(t), func(vp *fakeVP, turn int) (hcl.Exit, error) {
		switch turn {
		case 0:
			return hcl.Exit{Kind: hcl.ExitMSRRead, MSR: abi.MSR_VP_INDEX}, nil
		case 1:
			index, faulted = vp.msrValue, vp.msrFault
			return trap() // a port like any other: there is no page yet
		case 2:
			return write(abi.MSR_GUEST_OS_ID, 1)
		case 3:
			return write(abi.MSR_HYPERCALL, page|1)
		case 4:
			vp.regs.RCX, vp.regs.RAX = 0x7fff, 0 // no such call
			return trap()
		}
		return powerOff()
	})
	d := &scratch{}
	mapPorts(t, g, ports, &scratch{})
	if err := ports.Map("trap", hv.TrapPort64, 1, d); err != nil {
		t.Fatal(err)
	}
	d.value = 7
	if end := run(t, g); end.Kind != EndPowerOff {
		t.Fatalf("end %+v", end)
	}
	if index != 0 || faulted {
		t.Errorf("VP index reads %d, fault %v", index, faulted)
	}
	if d.value != 0 {
		t.Error("the port's device did not see the write before the page was there")
	}
	if status := p.vps[0].regs.RAX & 0xffff; status != abi.HV_STATUS_INVALID_HYPERCALL_CODE {
		t.Errorf("status %#x", status)
	}
	if n := g.HyperV().Stats().Hypercalls; n != 1 {
		t.Errorf("%d hypercalls, want 1", n)
	}
}

func TestWithoutHyperVItsRegistersFault(t *testing.T) {
	var faulted bool
	g, _, ports, _ := newFake(t, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		if turn == 0 {
			return hcl.Exit{Kind: hcl.ExitMSRRead, MSR: abi.MSR_VP_INDEX}, nil
		}
		faulted = vp.msrFault
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{})
	run(t, g)
	if !faulted {
		t.Error("a guest without the interface reads its registers")
	}
}

func TestFlushReachesABusyVP(t *testing.T) {
	busy := make(chan struct{})
	var seen []uint64
	g, p, ports, _ := newFakeWith(t, ram(t),
		func(_ *fakeVP, turn int) (hcl.Exit, error) { // VP 0 flushes VP 1
			if turn > 0 {
				return powerOff()
			}
			<-busy
			return hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0xffff}, nil
		},
		func(vp *fakeVP, _ int) (hcl.Exit, error) { return vp.untilKicked() })
	mapPorts(t, g, ports, &scratch{})
	one := g.vps[1]
	go func() {
		for !one.inside.Load() {
			continue
		}
		g.FlushTLB(0, 1<<1)
		close(busy)
	}()
	// VP 1 waits for a startup IPI: it has nothing to flush, and must not be waited
	// for for ever.
	run(t, g)
	if one.flush.Load() {
		t.Error("the flush was not taken")
	}
	seen = p.vps[1].cr4s
	if len(seen) != 0 {
		t.Errorf("a VP that waits for its start was flushed: %#x", seen)
	}
	one.waiting = false
	if err := one.flushTLB(); err != nil {
		t.Fatal(err)
	}
	if got, want := p.vps[1].cr4s, []uint64{x86.CR4_PGE, 0}; !slices.Equal(got, want) {
		t.Errorf("CR4 was set to %#x, want %#x", got, want)
	}
}
