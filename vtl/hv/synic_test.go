package hv

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

func TestMessageReachesItsSlot(t *testing.T) {
	g := newRig(t, 2)
	g.synic(1)
	text := []byte("odd length: 15b")
	if err := g.PostMessage(1, vmbusSINT, 1, text); err != nil {
		t.Fatal(err)
	}
	slot := g.slot(1, vmbusSINT)
	check(t, "type", kind(slot), 1)
	check(t, "payload", string(payload(slot)), string(text))
	check(t, "pending flag", slot[hv.MESSAGE_FLAGS], 0)
	if got := g.rec.take(1); !slices.Equal(got, []irq.Vector{vmbusIRQ}) {
		t.Errorf("vectors %v, want %d", got, vmbusIRQ)
	}
	check(t, "vectors of the other VP", len(g.rec.take(0)), 0)
	check(t, "other slots", bytes.Count(g.bytes(simPage+x86.PageSize, 2*256), []byte{0}), 512)
}

func TestMessagesAreQueuedInOrder(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	const n = queueLength + 1 // one is in the slot
	for i := range n {
		if err := g.PostMessage(0, vmbusSINT, 1, []byte{byte(i)}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := g.PostMessage(0, vmbusSINT, 1, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("message beyond the queue: %v, want ErrBusy", err)
	}
	check(t, "refusals", g.Stats().MessagesBusy, 1)
	check(t, "interrupts for one slot", len(g.rec.take(0)), 1)
	if err := g.PostMessage(0, 5, 1, nil); err != nil {
		t.Errorf("a full queue holds up another source: %v", err)
	}
	for i := range n {
		check(t, "payload", payload(g.slot(0, vmbusSINT))[0], byte(i))
		if said := g.empty(0, vmbusSINT); said != (i < n-1) {
			t.Errorf("message %d of %d: pending flag %v", i, n, said)
		}
	}
	check(t, "slot at the end", kind(g.slot(0, vmbusSINT)), 0)
	check(t, "interrupts", len(g.rec.take(0)), n-1)
}

// TestQuietEmptying: a guest that empties the slot without an EOM makes room for the
// next message all the same, even when the queue is full.
func TestQuietEmptying(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	w := g.words(simPage+vmbusSINT*256, 4)
	for i := range 3 * queueLength {
		if err := g.PostMessage(0, vmbusSINT, 1, []byte{byte(i)}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if i >= queueLength {
			w[0] = 0
		}
	}
}

func TestPostMessageRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(g *rig)
		vp   int
		sint int
		kind uint32
		size int
		want error
	}{
		{"nothing wrong", nil, 0, 2, 1, 240, nil},
		{"too long", nil, 0, 2, 1, 241, ErrInvalid},
		{"no type", nil, 0, 2, 0, 8, ErrInvalid},
		{"no such VP", nil, 1, 2, 1, 8, ErrInvalid},
		{"VP -1", nil, -1, 2, 1, 8, ErrInvalid},
		{"no such source", nil, 0, 16, 1, 8, ErrInvalid},
		{"source -1", nil, 0, -1, 1, 8, ErrInvalid},
		{"SynIC off", func(g *rig) { g.write(0, hv.MSR_SCONTROL, 0) }, 0, 2, 1, 8, ErrOff},
		{"SIM page off", func(g *rig) { g.write(0, hv.MSR_SIMP, simPage) }, 0, 2, 1, 8, ErrOff},
		{"SIM page nowhere", func(g *rig) { g.write(0, hv.MSR_SIMP, 1<<40|1) }, 0, 2, 1, 8, ErrOff},
	} {
		g := newRig(t, 1)
		g.synic(0)
		if tt.set != nil {
			tt.set(g)
		}
		if err := g.PostMessage(tt.vp, tt.sint, tt.kind, make([]byte, tt.size)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestWhenSourcesInterrupt covers the bits of SINTx: a masked source gets messages
// without an interrupt and no events; a polled one both, without an interrupt.
func TestWhenSourcesInterrupt(t *testing.T) {
	for _, tt := range []struct {
		name     string
		sint     uint64
		vectors  []irq.Vector
		eventErr error
	}{
		{"open", 0x40, []irq.Vector{0x40, 0x40}, nil},
		{"masked", 0x40 | hv.SINT_MASKED, nil, ErrOff},
		{"polled", 0x40 | hv.SINT_POLLING, nil, nil},
		{"masked and polled", 0x40 | hv.SINT_MASKED | hv.SINT_POLLING, nil, nil},
	} {
		g := newRig(t, 1)
		g.synic(0)
		g.write(0, hv.MSR_SINT0+4, tt.sint)
		if err := g.PostMessage(0, 4, 1, nil); err != nil {
			t.Errorf("%s: message: %v", tt.name, err)
		}
		check(t, tt.name+": message type", kind(g.slot(0, 4)), 1)
		if err := g.SignalEvent(0, 4, 100); !errors.Is(err, tt.eventErr) {
			t.Errorf("%s: event: %v, want %v", tt.name, err, tt.eventErr)
		}
		if got := g.rec.take(0); !slices.Equal(got, tt.vectors) {
			t.Errorf("%s: vectors %v, want %v", tt.name, got, tt.vectors)
		}
	}
}

func TestEventFlags(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	for _, flag := range []int{0, 7, 8, 31, 32, 2047} {
		for range 2 {
			if err := g.SignalEvent(0, 3, flag); !errors.Is(err, ErrOff) {
				t.Errorf("masked source: %v", err)
			}
			if err := g.SignalEvent(0, vmbusSINT, flag); err != nil {
				t.Errorf("flag %d: %v", flag, err)
			}
		}
		page := g.bytes(siefPage+vmbusSINT*256, 256)
		check(t, "the flag's bit", page[flag/8]>>(flag%8)&1, 1)
		check(t, "interrupts while the flag is set", len(g.rec.take(0)), 1)
	}
	set := 0
	for _, b := range g.bytes(siefPage, x86.PageSize) {
		for ; b != 0; b &= b - 1 {
			set++
		}
	}
	check(t, "flags set", set, 6)
	g.words(siefPage+vmbusSINT*256, 4)[0] = 0 // the guest takes the flags
	g.SignalEvent(0, vmbusSINT, 7)
	check(t, "interrupts after the flag was taken", len(g.rec.take(0)), 1)

	for _, bad := range [][3]int{{1, 2, 0}, {-1, 2, 0}, {0, 16, 0}, {0, -1, 0}, {0, 2, 2048}, {0, 2, -1}} {
		if err := g.SignalEvent(bad[0], bad[1], bad[2]); !errors.Is(err, ErrInvalid) {
			t.Errorf("event %v: %v, want ErrInvalid", bad, err)
		}
	}
	g.write(0, hv.MSR_SIEFP, siefPage)
	if err := g.SignalEvent(0, vmbusSINT, 1); !errors.Is(err, ErrOff) {
		t.Errorf("SIEF page off: %v", err)
	}
	g.synic(0)
	g.write(0, hv.MSR_SCONTROL, 0)
	if err := g.SignalEvent(0, vmbusSINT, 1); !errors.Is(err, ErrOff) {
		t.Errorf("SynIC off: %v", err)
	}
}

// TestPagesStartAsZero: what RAM held must not look like messages or flags, and a
// rewrite of the same value must not lose them.
func TestPagesStartAsZero(t *testing.T) {
	g := newRig(t, 1)
	junk := bytes.Repeat([]byte{0xFF}, x86.PageSize)
	for _, gpa := range []x86.GPA{simPage, siefPage, inputPage} {
		g.memory.WriteAt(gpa, junk)
	}
	g.synic(0)
	g.write(0, hv.MSR_VP_ASSIST_PAGE, inputPage|1)
	for _, gpa := range []int{simPage, siefPage, inputPage} {
		check(t, "zeros", bytes.Count(g.bytes(gpa, x86.PageSize), []byte{0}), x86.PageSize)
	}
	g.PostMessage(0, vmbusSINT, 7, nil)
	g.SignalEvent(0, vmbusSINT, 0)
	g.synic(0)
	check(t, "message after a rewrite", kind(g.slot(0, vmbusSINT)), 7)
	check(t, "flag after a rewrite", g.bytes(siefPage+vmbusSINT*256, 1)[0], 1)
}

// TestQueueWaitsForTheGuest: messages posted before the guest turned its page off
// arrive when it turns it on again.
func TestQueueWaitsForTheGuest(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	g.PostMessage(0, vmbusSINT, 1, nil)
	g.PostMessage(0, vmbusSINT, 2, nil)
	g.write(0, hv.MSR_SIMP, 0)
	g.rec.take(0)
	g.write(0, hv.MSR_SIMP, simPage|1)
	check(t, "type", kind(g.slot(0, vmbusSINT)), 2)
	check(t, "interrupts", len(g.rec.take(0)), 1)
}

// TestMarkSeesAnEmptiedSlot is the moment between looking at a slot and marking it,
// in which the guest may empty it without having seen a mark.
func TestMarkSeesAnEmptiedSlot(t *testing.T) {
	for kind, want := range map[uint32]bool{hv.HvMessageTypeNone: true, 1: false} {
		slot := make([]uint32, wordsPerSource)
		slot[0] = kind
		check(t, "vacant", mark(slot), want)
		check(t, "mark", slot[1]>>8&0xFF, hv.MESSAGE_FLAG_PENDING)
	}
}
