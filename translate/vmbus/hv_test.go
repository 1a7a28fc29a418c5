package vmbus_test

import (
	"sync/atomic"
	"testing"
	"time"

	abi "keel/hcl/abi/hv"
	"keel/translate/vmbus"
	"keel/vtl/guestmem"
	"keel/vtl/hv"
	"keel/vtl/irq"
)

// vectors counts what is raised.
type vectors struct{ n atomic.Int32 }

func (v *vectors) Raise(int, irq.Vector) { v.n.Add(1) }

// TestOverTheRealSynIC connects the server with the hypervisor interface that it is
// made for: more messages than the SynIC holds, and an interrupt.
func TestOverTheRealSynIC(t *testing.T) {
	mem, err := guestmem.New(4<<20, guestmem.Layout{LowTop: 4 << 20, HighBase: 1 << 32}, false)
	if err != nil {
		t.Fatal(err)
	}
	raised := &vectors{}
	h, err := hv.New(hv.Config{VPs: 1, Memory: mem, Interrupts: raised, Now: irq.NewSystemClock().Now})
	if err != nil {
		t.Fatal(err)
	}
	s, err := vmbus.New(vmbus.Config{Memory: mem, Hypervisor: h, VPs: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		_ = mem.Close()
	})
	h.SetPorts(s)
	for i := range 40 {
		if _, err := s.Offer(vmbus.Offer{Sub: uint16(i)}, newEcho()); err != nil {
			t.Fatal(err)
		}
	}
	const simp, siefp, vector = 0x10000, 0x11000, 0xF3
	for _, m := range [][2]uint64{
		{abi.MSR_SIMP, simp | 1},
		{abi.MSR_SIEFP, siefp | 1},
		{abi.MSR_SINT0 + vmbus.MessageSINT, vector},
		{abi.MSR_SCONTROL, 1},
	} {
		if !h.WriteMSR(0, uint32(m[0]), m[1]) {
			t.Fatalf("MSR %#x", m[0])
		}
	}
	slot, err := mem.Slice(simp+256*vmbus.MessageSINT, 256)
	if err != nil {
		t.Fatal(err)
	}
	// take empties the slot as Linux does.
	take := func() []byte {
		for deadline := time.Now().Add(10 * time.Second); le.Uint32(slot) == 0; time.Sleep(50 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("no message")
			}
		}
		m := append([]byte(nil), slot[16:16+int(slot[4])]...)
		le.PutUint32(slot, 0)
		h.WriteMSR(0, abi.MSR_EOM, 0)
		return m
	}
	contact := make([]byte, 40)
	le.PutUint32(contact, 14)
	le.PutUint32(contact[8:], 5<<16|3)
	le.PutUint32(contact[16:], vmbus.MessageSINT)
	request := make([]byte, 8)
	le.PutUint32(request, 3)
	if st := s.PostMessage(0, 4, 1, contact); st != 0 {
		t.Fatalf("contact: %#x", st)
	}
	if m := take(); le.Uint32(m) != 15 || m[8] != 1 {
		t.Fatalf("% x", m)
	}
	if st := s.PostMessage(0, 4, 1, request); st != 0 {
		t.Fatalf("request for offers: %#x", st)
	}
	for i := range 40 {
		if m := take(); le.Uint32(m) != 1 || len(m) != 196 || le.Uint16(m[180:]) != uint16(i) {
			t.Fatalf("offer %d: % x", i, m)
		}
	}
	if m := take(); le.Uint32(m) != 4 {
		t.Fatalf("% x", m)
	}
	if raised.n.Load() != 42 {
		t.Errorf("%d interrupts for 42 messages", raised.n.Load())
	}
}
