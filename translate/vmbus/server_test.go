package vmbus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keel/translate/vmbus"
	"keel/translate/vmbus/vmbustest"
	"keel/vtl/hv"
)

var le = binary.LittleEndian

const page = vmbustest.Page

// echo is a device that answers each packet with its payload.
type echo struct {
	mu      sync.Mutex
	refuse  error // of Open
	hold    bool  // keep packets in the ring
	late    bool  // Closed comes from elsewhere
	opens   int
	closes  int
	full    [][]byte // answers that did not fit
	pages   []string
	channel *vmbus.Channel
	closed  chan *vmbus.Channel
}

func newEcho() *echo { return &echo{closed: make(chan *vmbus.Channel, 64)} }

func (e *echo) Open(c *vmbus.Channel) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opens++
	e.channel = c
	return e.refuse
}

func (e *echo) Receive(c *vmbus.Channel, p *vmbus.Packet) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hold {
		return false
	}
	for it := p.Pages(); it.Next(); {
		e.pages = append(e.pages, fmt.Sprintf("%#x+%#x", it.GPA, it.Length))
	}
	if !p.Completion() {
		return true
	}
	answer := append([]byte(nil), p.Payload...)
	if err := c.Complete(p.Transaction, answer); errors.Is(err, vmbus.ErrFull) {
		e.full = append(e.full, answer)
	}
	return true
}

func (e *echo) Writable(c *vmbus.Channel) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.full) > 0 && c.Complete(99, e.full[0]) == nil {
		e.full = e.full[1:]
	}
}

func (e *echo) Close(c *vmbus.Channel) {
	e.mu.Lock()
	e.closes++
	late := e.late
	e.mu.Unlock()
	if late {
		e.closed <- c
		return
	}
	c.Closed()
}

func guid(tb testing.TB, s string) vmbus.GUID {
	tb.Helper()
	g, err := vmbus.ParseGUID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

const (
	kindGUID = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"
	someGUID = "00112233-4455-6677-8899-aabbccddeeff"
)

// start connects a guest to a bus with one channel.
func start(tb testing.TB, version uint32, e *echo) (*vmbustest.Guest, []byte) {
	tb.Helper()
	g := vmbustest.NewGuest(tb, vmbus.Config{})
	if _, err := g.Bus.Offer(vmbus.Offer{Interface: guid(tb, kindGUID), Instance: guid(tb, someGUID)}, e); err != nil {
		tb.Fatal(err)
	}
	g.Connect(version)
	offers := g.Offers()
	if len(offers) != 1 {
		tb.Fatalf("%d offers", len(offers))
	}
	return g, offers[0]
}

func TestGUIDOnTheWire(t *testing.T) {
	g := guid(t, "{"+someGUID+"}")
	want := []byte{0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if !bytes.Equal(g[:], want) || g.String() != someGUID {
		t.Errorf("% x, %s", g[:], g)
	}
	for _, s := range []string{"", someGUID[1:], someGUID + "0", "0011223-34455-6677-8899-aabbccddeeff", "x0112233-4455-6677-8899-aabbccddeeff"} {
		if _, err := vmbus.ParseGUID(s); !errors.Is(err, vmbus.ErrGUID) {
			t.Errorf("%q was taken: %v", s, err)
		}
	}
}

// TestVersions follows the order in which Linux 6.1 tries them (drivers/hv/connection.c).
func TestVersions(t *testing.T) {
	for _, c := range []struct {
		version  uint32
		vp       uint32
		ok       bool
		messages uint32 // connection id or version in the answer
	}{
		{0<<16 | 13, 0, false, 0},
		{1<<16 | 1, 0, false, 0},
		{2<<16 | 4, 0, true, 2<<16 | 4},
		{2<<16 | 4, 77, true, 2<<16 | 4}, // the field has no meaning yet
		{3 << 16, 1, true, 3 << 16},
		{3 << 16, vmbustest.VPs, false, 0},
		{4 << 16, 0, true, 4 << 16},
		{4<<16 | 1, 0, true, 4<<16 | 1},
		{5 << 16, 3, true, 4},
		{5<<16 | 1, 0, true, 4},
		{5<<16 | 2, 0, true, 4},
		{5<<16 | 3, 0, true, 4},
		{6 << 16, 0, false, 0},
		{0xFFFFFFFF, 0, false, 0},
	} {
		g := vmbustest.NewGuest(t, vmbus.Config{})
		m := g.Contact(c.version, c.vp)
		got := uint32(0)
		if c.ok {
			got = c.messages
		}
		if (m[8] == 1) != c.ok || m[9] != 0 || le.Uint32(m[12:]) != got {
			t.Errorf("version %#x: % x", c.version, m[8:])
		}
		if s := g.Bus.Stats(); (s.Versions == 0) != c.ok {
			t.Errorf("version %#x: %d refusals were counted", c.version, s.Versions)
		}
	}
}

func TestAnotherClientIsRefused(t *testing.T) {
	g := vmbustest.NewGuest(t, vmbus.Config{})
	g.Connect(5<<16 | 3)
	g.Post(14, 5<<16|3, 0, 2|1<<8, 0, 0, 0, 0, 0) // VTL 1
	if m := g.Want(15, 16); m[8] != 0 {
		t.Error("VTL 1 was connected")
	}
	if len(g.Offers()) != 0 { // the first client is still there
		t.Error("offers out of nowhere")
	}
	g.Post(14, 5<<16|3, 0, 200, 0, 0, 0, 0, 0) // SINT 200 gets no answer
	g.SynIC.None(t)
}

func TestOfferFields(t *testing.T) {
	g, m := start(t, 5<<16|2, newEcho())
	want := guid(t, kindGUID)
	if !bytes.Equal(m[8:24], want[:]) || le.Uint32(m[184:]) != 1 || le.Uint32(m[192:]) != 0x2001 {
		t.Errorf("offer % x", m)
	}
	if m[188] != 0 || m[189] != 0 || le.Uint16(m[190:]) != 1 {
		t.Errorf("monitor %d allocated %d, dedicated interrupt %d", m[188], m[189], le.Uint16(m[190:]))
	}
	// A second request is refused.
	g.Post(3)
	g.SynIC.None(t)
	if s := g.Bus.Stats(); s.Unexpected != 1 {
		t.Errorf("%+v", s)
	}
	// Twins are refused, sub-channels are offered at once.
	o := vmbus.Offer{Interface: want, Instance: guid(t, someGUID)}
	if _, err := g.Bus.Offer(o, newEcho()); !errors.Is(err, vmbus.ErrConfig) {
		t.Errorf("a twin: %v", err)
	}
	o.Sub = 3
	if _, err := g.Bus.Offer(o, newEcho()); err != nil {
		t.Fatal(err)
	}
	if m := g.Want(1, 196); le.Uint16(m[180:]) != 3 || le.Uint32(m[184:]) != 2 {
		t.Errorf("sub-channel % x", m[176:])
	}
}

func TestPacketsGoRound(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 4<<16, e)
	p := g.Open(offer, 2)
	for i := range 1000 { // several times round the ring
		payload := bytes.Repeat([]byte{byte(i)}, 8*(i%40+1))
		if !p.Send(6, 1, uint64(i), nil, payload) {
			t.Fatalf("packet %d does not fit", i)
		}
		kind, id, answer := p.Recv()
		if kind != 11 || id != uint64(i) || !bytes.Equal(answer, payload) {
			t.Fatalf("packet %d: type %d, transaction %d, % x", i, kind, id, answer)
		}
	}
	s := g.Bus.Stats()
	if s.Packets != 1000 || s.BrokenRings+s.BadPackets+s.LostInterrupt != 0 || s.Interrupt != 1000 {
		t.Errorf("%+v", s)
	}
	if g.SynIC.LastVP() != 2 || g.SynIC.Interrupts(1) != 1000 {
		t.Errorf("%d interrupts, the last on VP %d", g.SynIC.Interrupts(1), g.SynIC.LastVP())
	}
}

func TestPageLists(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 4<<16, e)
	p := g.Open(offer, 0)
	p.Send(9, 1, 1, vmbustest.Direct(0x10, 3*page, 0x5000, 0x6000, 0x9000, 0xa000), make([]byte, 8))
	p.Recv()
	want := "[0x5010+0x1ff0 0x9000+0x1010]"
	if got := fmt.Sprint(e.pages); got != want {
		t.Errorf("pages %s, want %s", got, want)
	}
}

// TestSuppression checks that neither side signals one that is awake.
func TestSuppression(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 4<<16, e)
	p := g.Open(offer, 0)
	p.In.Ctl[2] = 1 // the guest polls
	for i := range 10 {
		p.Send(6, 1, uint64(i), nil, make([]byte, 8))
	}
	if n := g.SynIC.Interrupts(1); n != 0 {
		t.Errorf("%d interrupts of a guest that masked them", n)
	}
	p.In.Ctl[2] = 0
	p.Send(6, 1, 10, nil, make([]byte, 8))
	if n := g.SynIC.Interrupts(1); n != 0 {
		t.Errorf("%d interrupts for a ring that was not empty", n)
	}
	for range 11 {
		p.Recv()
	}
	p.Send(6, 1, 11, nil, make([]byte, 8))
	if n := g.SynIC.Interrupts(1); n != 1 {
		t.Errorf("%d interrupts for a ring that was empty", n)
	}
}

// TestFullRings fills both rings; nothing may get lost.
func TestFullRings(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 4<<16, e)
	p := g.Open(offer, 0)
	sent := 0
	for range 64 { // the answers do not fit after a while
		if !p.Send(6, 1, 99, nil, make([]byte, 480)) {
			break
		}
		sent++
	}
	e.mu.Lock()
	waiting := len(e.full)
	e.mu.Unlock()
	if waiting == 0 || p.In.Ctl[3] == 0 {
		t.Fatalf("%d answers wait, pending size %d", waiting, p.In.Ctl[3])
	}
	for range sent {
		p.Recv()
	}
	if _, _, _, ok := p.Poll(); ok {
		t.Error("more answers than packets")
	}
	if p.In.Ctl[3] != 0 {
		t.Error("the server still asks for room")
	}
	// Now the device takes nothing, and the guest asks for room.
	e.mu.Lock()
	e.hold = true
	e.mu.Unlock()
	sent = 0
	for p.Send(6, 1, 5, nil, make([]byte, 480)) {
		sent++
	}
	p.Out.Ctl[3] = 1024
	before := g.SynIC.Interrupts(1)
	e.mu.Lock()
	e.hold = false
	e.mu.Unlock()
	e.channel.Resume()
	for range sent {
		p.Recv()
	}
	if g.SynIC.Interrupts(1) == before {
		t.Error("the guest was not told of the room it asked for")
	}
}

func TestCloseAndReopen(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 5<<16|2, e)
	p := g.Open(offer, 0)
	g.Post(7, p.RelID)
	g.Post(11, p.RelID, p.Handle)
	if m := g.Want(12, 12); le.Uint32(m[8:]) != p.Handle {
		t.Errorf("torn down % x", m)
	}
	if e.closes != 1 {
		t.Errorf("%d closes", e.closes)
	}
	if err := e.channel.Complete(1, make([]byte, 8)); !errors.Is(err, vmbus.ErrClosed) {
		t.Errorf("a packet to a closed channel: %v", err)
	}
	p = g.Open(offer, 1)
	p.Send(6, 1, 7, nil, make([]byte, 16))
	if _, id, _ := p.Recv(); id != 7 {
		t.Errorf("transaction %d", id)
	}
}

// TestLateClose checks that the guest does not get pages back while a device may
// still use them.
func TestLateClose(t *testing.T) {
	e := newEcho()
	e.late = true
	g, offer := start(t, 5<<16|2, e)
	p := g.Open(offer, 0)
	g.Post(7, p.RelID)
	g.Post(11, p.RelID, p.Handle)
	g.SynIC.None(t)
	g.Post(5, append([]uint32{p.RelID, 77, p.Handle, 0, 4}, make([]uint32, 30)...)...) // waits, and then fails: no such GPADL
	g.SynIC.None(t)
	(<-e.closed).Closed()
	g.Want(12, 12)
	if m := g.Want(6, 20); le.Uint32(m[12:]) != 77 || le.Uint32(m[16:]) == 0 {
		t.Errorf("open of a GPADL that is gone: % x", m)
	}
	// UNLOAD waits too, and so does a new contact.
	g.Open(offer, 0)
	g.Post(16)
	g.SynIC.None(t)
	g.Post(14, 4<<16, 0, 0, 0, 0, 0, 0, 0)
	g.Post(3) // between two connections
	g.SynIC.None(t)
	c := <-e.closed
	c.Closed()
	c.Closed() // once too often
	g.Want(15, 16)
	if n := len(g.Offers()); n != 1 {
		t.Errorf("%d offers after a new contact", n)
	}
}

func TestUnload(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 5<<16|3, e)
	p := g.Open(offer, 0)
	g.Post(16)
	g.Want(17, 8)
	if e.closes != 1 {
		t.Error("the channel was not closed")
	}
	if err := g.Bus.Signal(p.Signal); !errors.Is(err, vmbus.ErrConnection) {
		t.Errorf("signal after unload: %v", err)
	}
	g.Post(16) // a crashed kernel does not remember
	g.Want(17, 8)
	g.Connect(5<<16 | 3)
	if n := len(g.Offers()); n != 1 {
		t.Errorf("%d offers", n)
	}
}

func TestRescind(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 5<<16|2, e)
	p := g.Open(offer, 0)
	e.channel.Rescind()
	if m := g.Want(2, 12); le.Uint32(m[8:]) != p.RelID {
		t.Errorf("rescind % x", m)
	}
	if e.closes != 1 {
		t.Error("the device was not told")
	}
	// A new device of the same name waits until the guest has let go.
	again, err := g.Bus.Offer(vmbus.Offer{Interface: guid(t, kindGUID), Instance: guid(t, someGUID)}, newEcho())
	if err != nil {
		t.Fatal(err)
	}
	g.SynIC.None(t)
	g.Post(7, p.RelID) // as Linux does
	g.Post(13, p.RelID)
	if m := g.Want(1, 196); le.Uint32(m[184:]) != 1 {
		t.Errorf("offer % x", m[176:])
	}
	again.Rescind()
	again.Rescind()
	g.Want(2, 12)
	g.Post(5, append([]uint32{1, 1, 1, 0, 4}, make([]uint32, 30)...)...)
	g.SynIC.None(t)
}

func TestModifyChannel(t *testing.T) {
	for _, c := range []struct {
		version uint32
		answer  bool
	}{{4<<16 | 1, false}, {5<<16 | 3, true}} {
		g, offer := start(t, c.version, newEcho())
		p := g.Open(offer, 0)
		for _, m := range []struct {
			relID, vp uint32
			ok        bool
		}{{p.RelID, 3, true}, {p.RelID, vmbustest.VPs, false}, {p.RelID, 0xFFFFFFFF, false}, {9, 0, false}, {0xFFFFFFFF, 0, false}} {
			g.Post(22, m.relID, m.vp)
			if !c.answer {
				continue
			}
			if a := g.Want(24, 16); le.Uint32(a[8:]) != m.relID || (le.Uint32(a[12:]) == 0) != m.ok {
				t.Errorf("%+v: % x", m, a)
			}
		}
		g.SynIC.None(t)
		p.Send(6, 1, 1, nil, make([]byte, 8))
		p.Recv()
		if g.SynIC.LastVP() != 3 {
			t.Errorf("version %#x: interrupt on VP %d", c.version, g.SynIC.LastVP())
		}
	}
}

func TestSocketsAreRefused(t *testing.T) {
	g, _ := start(t, 5<<16|2, newEcho())
	g.Post(21, 1, 2, 3, 4, 5, 6, 7, 8)
	if m := g.Want(23, 44); le.Uint32(m[8:]) != 1 || le.Uint32(m[36:]) != 8 || le.Uint32(m[40:]) != 0xC0000236 {
		t.Errorf("% x", m)
	}
}

// TestBackpressure lets the guest take no messages for a while.
func TestBackpressure(t *testing.T) {
	g, _ := start(t, 5<<16|2, newEcho())
	g.SynIC.SetRoom(2)
	sent, busy := uint32(0), false
	m := make([]byte, 40)
	le.PutUint32(m, 21)
	for range 1000 {
		le.PutUint32(m[8:], sent)
		err := g.Bus.Message(4, m)
		if errors.Is(err, vmbus.ErrBusy) {
			busy = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if !busy || sent > 100 {
		t.Fatalf("%d messages were taken", sent)
	}
	for i := range sent {
		if m := g.Want(23, 44); le.Uint32(m[8:]) != i {
			t.Fatalf("message %d came as %d", le.Uint32(m[8:]), i)
		}
	}
	g.SynIC.None(t)
	if s := g.Bus.Stats(); s.Backpressure == 0 || s.Undelivered != 0 || s.Retries == 0 {
		t.Errorf("%+v", s)
	}
}

// TestPorts checks the statuses that hypercalls end with. Linux tries again after
// "insufficient buffers" (vmbus_post_msg).
func TestPorts(t *testing.T) {
	g, offer := start(t, 5<<16|2, newEcho())
	g.Open(offer, 0)
	ask := make([]byte, 40)
	le.PutUint32(ask, 21)
	for name, c := range map[string]struct{ got, want hv.Status }{
		"message":             {g.Bus.PostMessage(0, 4, 1, ask), 0},
		"another kind":        {g.Bus.PostMessage(0, 4, 2, ask), 5},
		"another connection":  {g.Bus.PostMessage(0, 7, 1, ask), 0x12},
		"signal":              {g.Bus.SignalEvent(0, 0x2001, 0), 0},
		"flag":                {g.Bus.SignalEvent(0, 0x2001, 1), 5},
		"channel that is not": {g.Bus.SignalEvent(0, 0x2002, 0), 0x12},
		"absurd channel":      {g.Bus.SignalEvent(0, 0xFFFFFFFF, 0), 0x12},
		"event connection":    {g.Bus.SignalEvent(0, 1, 0), 0x12},
	} {
		if c.got != c.want {
			t.Errorf("%s: status %#x, want %#x", name, c.got, c.want)
		}
	}
	g.Want(23, 44)
	g.SynIC.SetRoom(0)
	status := hv.Status(0)
	for range 200 {
		if status = g.Bus.PostMessage(0, 4, 1, ask); status != 0 {
			break
		}
	}
	if status != 0x13 {
		t.Errorf("a guest that takes nothing gets %#x", status)
	}
}

// TestUndeliverable has a hypervisor that takes no message of the guest's.
func TestUndeliverable(t *testing.T) {
	g := vmbustest.NewGuest(t, vmbus.Config{})
	g.SynIC.Fail(hv.ErrInvalid)
	g.Post(16)
	for range 1000 {
		if g.Bus.Stats().Undelivered == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%+v", g.Bus.Stats())
}

func TestReset(t *testing.T) {
	e := newEcho()
	e.late = true
	g, offer := start(t, 5<<16|2, e)
	g.Open(offer, 0)
	done := make(chan struct{})
	go func() {
		g.Bus.Reset()
		close(done)
	}()
	c := <-e.closed
	select {
	case <-done:
		t.Error("reset did not wait for the device")
	case <-time.After(10 * time.Millisecond):
	}
	c.Closed()
	<-done
	e.late = false
	g.SynIC.None(t)
	g.Connect(4 << 16)
	if len(g.Offers()) != 1 {
		t.Error("no offer after reset")
	}
}

// TestNoSignalIsLost sends packets at the moment when the server has looked at the
// ring on another goroutine and is about to sleep.
func TestNoSignalIsLost(t *testing.T) {
	e := newEcho()
	g, offer := start(t, 4<<16, e)
	p := g.Open(offer, 0)
	e.channel.Resume() // the worker begins to serve
	payload := make([]byte, 8)
	for i := range 100000 {
		// Every second packet comes without a signal, for the worker to find.
		atomic.StoreUint32(&p.Out.Ctl[2], uint32(i&1))
		p.Send(6, 1, uint64(i), nil, payload)
		if i&1 != 0 {
			e.channel.Resume()
		}
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			if _, _, _, ok := p.Poll(); ok {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("packet %d was not found", i)
			}
		}
	}
}
