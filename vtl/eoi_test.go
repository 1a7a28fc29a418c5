package vtl

import (
	"slices"
	"sync/atomic"
	"testing"

	"keel/hcl"
	abi "keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/apic"
	"keel/vtl/irq"
)

const assistPage = 0x7000

// assisted makes a guest with one VP and an assist page, which play takes through its
// turns. raise requests a vector.
func assisted(t *testing.T, play func(vp *fakeVP, turn int, word *uint32, raise func(vector uint8)) (hcl.Exit, error)) []uint8 {
	t.Helper()
	ram := ram(t)
	page, err := ram.RAM.Slice(x86.GPA(assistPage), x86.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	word := &sys.Words(page)[0]
	var g *Guest
	g, p, ports, _ := newFakeWith(t, ram, func(vp *fakeVP, turn int) (hcl.Exit, error) {
		vp.interruptible = true
		if turn == 0 {
			return write(abi.MSR_VP_ASSIST_PAGE, assistPage|1)
		}
		return play(vp, turn, word, func(vector uint8) {
			g.APICs().Deliver(apic.Message{Vector: irq.Vector(vector)})
		})
	})
	mapPorts(t, g, ports, &scratch{})
	run(t, g)
	return p.vps[0].injected
}

// look is an exit at which the guest has done nothing that Keel must answer.
func look() (hcl.Exit, error) { return hcl.Exit{Kind: hcl.ExitInterruptWindow}, nil }

func TestEOIIsSpared(t *testing.T) {
	injected := assisted(t, func(_ *fakeVP, turn int, word *uint32, raise func(uint8)) (hcl.Exit, error) {
		switch turn {
		case 1, 2, 3:
			if turn > 1 && atomic.SwapUint32(word, 0)&abi.APIC_NO_EOI_REQUIRED == 0 {
				t.Errorf("turn %d: an end of interrupt is asked for", turn)
			}
			raise(0x50) // the same class again: it waits unless the first has ended
			return look()
		}
		return powerOff()
	})
	if want := []uint8{0x50, 0x50, 0x50}; !slices.Equal(injected, want) {
		t.Errorf("injected %#x, want %#x", injected, want)
	}
}

func TestEOIIsDemandedWhereItMatters(t *testing.T) {
	injected := assisted(t, func(vp *fakeVP, turn int, word *uint32, raise func(uint8)) (hcl.Exit, error) {
		spared := atomic.LoadUint32(word)&abi.APIC_NO_EOI_REQUIRED != 0
		switch turn {
		case 1:
			raise(0x51)
			return look()
		case 2:
			if !spared {
				t.Error("a lone interrupt needs an end")
			}
			raise(0x41)
			return look()
		case 3:
			if spared || len(vp.injected) != 1 {
				t.Errorf("one waits, spared is %v, injected %#x", spared, vp.injected)
			}
			return write(abi.MSR_EOI, 0)
		case 4:
			if !spared {
				t.Error("the one that waited needs an end")
			}
			return write(abi.MSR_VP_ASSIST_PAGE, 0)
		case 5:
			if spared {
				t.Error("a page that the guest has taken back was left with the bit")
			}
			raise(0x42)
			return look()
		case 6:
			if len(vp.injected) != 2 {
				t.Errorf("injected %#x before the end of the one in service", vp.injected)
			}
			return write(abi.MSR_EOI, 0)
		}
		return powerOff()
	})
	if want := []uint8{0x51, 0x41, 0x42}; !slices.Equal(injected, want) {
		t.Errorf("injected %#x, want %#x", injected, want)
	}
}
