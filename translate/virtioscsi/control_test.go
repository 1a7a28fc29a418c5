package virtioscsi

import (
	"encoding/binary"
	"testing"

	"keel/translate/scsi"
	"keel/translate/virtio/virtiotest"
)

func TestTaskManagement(t *testing.T) {
	for _, c := range []struct {
		name     string
		subtype  uint32
		lun      [8]byte
		answer   scsi.Response
		function scsi.Function
		seen     bool
		want     response
	}{
		{"abort task", 0, lun1(2), scsi.FunctionComplete, scsi.AbortTask, true, 0},
		{"abort task set", 1, lun1(2), scsi.FunctionComplete, scsi.AbortTaskSet, true, 0},
		{"clear ACA", 2, lun1(2), 0, 0, false, 11},
		{"clear task set", 3, lun1(2), scsi.FunctionComplete, scsi.ClearTaskSet, true, 0},
		{"nexus reset", 4, lun1(2), scsi.FunctionComplete, scsi.NexusReset, true, 0},
		{"nexus reset with any LUN", 4, [8]byte{1, 0, 0xff, 9, 1}, scsi.FunctionComplete, scsi.NexusReset, true, 0},
		{"unit reset", 5, lun1(2), scsi.FunctionComplete, scsi.LogicalUnitReset, true, 0},
		{"query task", 6, lun1(2), scsi.FunctionSucceeded, scsi.QueryTask, true, 10},
		{"query task set", 7, lun1(2), scsi.FunctionRejected, scsi.QueryTaskSet, true, 11},
		{"wrong LUN", 5, lun1(9), scsi.IncorrectLUN, scsi.LogicalUnitReset, true, 12},
		{"a function of the future", 8, lun1(2), 0, 0, false, 11},
		{"far in the future", 0xffffffff, lun1(2), 0, 0, false, 11},
		{"another target", 5, [8]byte{1, 1, 0x40, 2}, 0, 0, false, 3},
		{"another target's nexus", 4, [8]byte{1, 1}, 0, 0, false, 3},
		{"no address", 0, [8]byte{}, 0, 0, false, 3},
		{"a strange answer", 0, lun1(2), 77, scsi.AbortTask, true, 11},
	} {
		g := &target{}
		var got scsi.Task
		g.manage = func(k *scsi.Task) {
			got.Function, got.LUN, got.Tag, got.Initiator = k.Function, k.LUN, k.Tag, k.Initiator
			k.Response = c.answer
		}
		b := newFake(t, g).start(allFeatures)
		r := b.function(c.subtype, c.lun, 0x99)
		if r != int(c.want) || (len(g.tasks) == 1) != c.seen {
			t.Errorf("%s: response %d, want %d; target saw %v", c.name, r, c.want, g.tasks)
		}
		if c.seen && (got.Function != c.function || got.Tag != 0x99 || c.subtype != 4 && got.LUN != uint16(c.lun[3])) {
			t.Errorf("%s: target saw function %d, LUN %d, tag %#x", c.name, got.Function, got.LUN, got.Tag)
		}
	}
}

func TestAbortCompletesFirst(t *testing.T) {
	g := &target{}
	g.submit = g.hold
	g.manage = func(*scsi.Task) { g.end(scsi.Aborted) }
	b := newFake(t, g).start(allFeatures)
	p := b.send(0, lun1(0), 5, []byte{0x28}, nil, 512)
	if _, _, ok := b.requests[0].Poll(); ok {
		t.Fatal("a held command completed")
	}
	if r := b.function(tmfAbortTask, lun1(0), 5); r != 0 {
		t.Errorf("abort answers %d", r)
	}
	_, n, ok := b.requests[0].Poll()
	if r := b.reply(p, n, ok); !ok || r.response != respAborted {
		t.Errorf("aborted command %+v", r)
	}
}

// asynchronous sends an asynchronous notification request.
func (b *bench) asynchronous(kind uint32, lun [8]byte, events uint32) (got uint32, code response, n uint32) {
	req, v := b.buffer(16)
	binary.LittleEndian.PutUint32(v, kind)
	copy(v[4:], lun[:])
	binary.LittleEndian.PutUint32(v[12:], events)
	resp, w := b.buffer(5)
	b.control.Add([]virtiotest.Buffer{req}, []virtiotest.Buffer{resp})
	b.control.Kick()
	_, n, _ = b.control.Poll()
	return binary.LittleEndian.Uint32(w), response(w[4]), n
}

func TestAsynchronousNotifications(t *testing.T) {
	b := newFake(t, &target{luns: []uint16{3}}).start(allFeatures)
	for _, c := range []struct {
		kind   uint32
		lun    [8]byte
		events uint32
		got    uint32
		code   response
		sub    uint32 // subscription of LUN 3 afterwards
	}{
		{1, lun1(3), 0xffffffff, 16, respOK, 0},
		{1, lun1(3), 2, 0, respOK, 0},
		{2, lun1(3), 0x56, 16, respOK, 16},
		{1, lun1(4), 16, 0, respIncorrectLUN, 16},
		{2, lun1(300), 16, 0, respIncorrectLUN, 16},
		{2, [8]byte{1, 2}, 16, 0, respBadTarget, 16},
		{2, lun1(3), 0, 0, respOK, 0},
	} {
		got, code, n := b.asynchronous(c.kind, c.lun, c.events)
		if got != c.got || code != c.code || n != 5 || b.controller.subscribe[3].Load() != c.sub {
			t.Errorf("%+v: events %#x, response %d, %d bytes", c, got, code, n)
		}
	}
}

func TestMalformedControlRequests(t *testing.T) {
	for _, c := range []struct {
		name               string
		kind               uint32
		readable, writable int
	}{
		{"nothing", 0, 0, 1},
		{"no type", 0, 3, 1},
		{"short", 0, 23, 1},
		{"no response", 0, 24, 0},
		{"short notification", 1, 15, 5},
		{"short response", 2, 16, 4},
		{"unknown", 3, 24, 5},
	} {
		g := &target{}
		b := newFake(t, g).start(allFeatures)
		var readable, writable []virtiotest.Buffer
		if c.readable > 0 {
			buf, v := b.buffer(max(c.readable, 8))
			binary.LittleEndian.PutUint32(v, c.kind)
			readable = append(readable, virtiotest.Buffer{GPA: buf.GPA, Size: uint32(c.readable)})
		}
		if c.writable > 0 {
			buf, _ := b.buffer(c.writable)
			writable = append(writable, buf)
		}
		b.control.Add(readable, writable)
		b.control.Kick()
		if _, n, ok := b.control.Poll(); !ok || n != 0 || len(g.tasks) != 0 || b.controller.Stats().Malformed != 1 {
			t.Errorf("%s: used %v, %d bytes, %+v", c.name, ok, n, b.controller.Stats())
		}
	}
}

// gotEvent is an event as the guest reads it.
type gotEvent struct {
	kind   uint32
	lun    [8]byte
	reason uint32
}

// give puts n buffers of some size into the event queue.
func (b *bench) give(n, size int) (views [][]byte) {
	for range n {
		buf, v := b.buffer(max(size, 16))
		buf.Size = uint32(size)
		b.events.Add(nil, []virtiotest.Buffer{buf})
		views = append(views, v)
	}
	b.events.Kick()
	return views
}

func parse(v []byte) (e gotEvent) {
	e.kind, e.reason = binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[12:])
	copy(e.lun[:], v[4:])
	return e
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		name     string
		features uint64
		event    scsi.Event
		want     *gotEvent
	}{
		{"added", allFeatures, scsi.Event{Kind: scsi.LUNAdded, LUN: 5}, &gotEvent{1, [8]byte{1, 0, 0, 5}, 1}},
		{"removed", allFeatures, scsi.Event{Kind: scsi.LUNRemoved, LUN: 63}, &gotEvent{1, [8]byte{1, 0, 0, 63}, 2}},
		{"resized", allFeatures, scsi.Event{Kind: scsi.LUNResized, LUN: 0}, &gotEvent{3, [8]byte{1}, 0x092a}},
		{"medium", allFeatures, scsi.Event{Kind: scsi.MediumChanged, LUN: 1}, &gotEvent{2, [8]byte{1, 0, 0, 1}, 16}},
		{"medium, nobody subscribed", allFeatures, scsi.Event{Kind: scsi.MediumChanged, LUN: 2}, nil},
		{"added, no hotplug", allFeatures &^ 2, scsi.Event{Kind: scsi.LUNAdded, LUN: 5}, nil},
		{"removed, no hotplug", allFeatures &^ 2, scsi.Event{Kind: scsi.LUNRemoved, LUN: 5}, nil},
		{"resized, no change", allFeatures &^ 4, scsi.Event{Kind: scsi.LUNResized, LUN: 5}, nil},
		{"out of bounds", allFeatures, scsi.Event{Kind: scsi.LUNAdded, LUN: 64}, nil},
	} {
		for _, late := range []bool{false, true} {
			b := newFake(t, &target{luns: []uint16{1, 2}}).start(c.features)
			b.asynchronous(2, lun1(1), 16)
			var v [][]byte
			if !late {
				v = b.give(3, 16)
			}
			b.controller.Notify(c.event)
			if late {
				v = b.give(3, 16)
			}
			_, n, ok := b.events.Poll()
			if ok != (c.want != nil) || ok && (n != 16 || parse(v[0]) != *c.want) {
				t.Errorf("%s, buffers late %v: used %v, %+v", c.name, late, ok, parse(v[0]))
			}
			if _, _, again := b.events.Poll(); again {
				t.Errorf("%s: a second event", c.name)
			}
		}
	}
}

func TestEventsMissed(t *testing.T) {
	b := newFake(t, &target{})
	b.controller.Notify(scsi.Event{Kind: scsi.LUNAdded, LUN: 9}) // nobody is there
	b.start(allFeatures)
	for i := range maxPending + 3 {
		b.controller.Notify(scsi.Event{Kind: scsi.LUNAdded, LUN: uint16(i % 64)})
	}
	for i := range maxPending {
		v := b.give(1, 16)
		want := gotEvent{1, [8]byte{1, 0, 0, byte(i)}, 1}
		if i == 0 {
			want.kind |= 1 << 31
		}
		if _, _, ok := b.events.Poll(); !ok || parse(v[0]) != want {
			t.Fatalf("event %d: %v, %+v", i, ok, parse(v[0]))
		}
	}
	if s := b.controller.Stats(); s.Missed != 3 || s.Events != maxPending {
		t.Errorf("%+v", s)
	}
	b.give(1, 16)
	if _, _, ok := b.events.Poll(); ok {
		t.Error("an event too many")
	}
}

func TestShortEventBuffers(t *testing.T) {
	b := newFake(t, &target{}).start(allFeatures)
	b.give(2, 15)
	v := b.give(1, 16)
	b.controller.Notify(scsi.Event{Kind: scsi.LUNAdded, LUN: 1})
	for i, want := range []uint32{0, 0, 16} {
		if _, n, ok := b.events.Poll(); !ok || n != want {
			t.Errorf("buffer %d: used %v, %d bytes", i, ok, n)
		}
	}
	if parse(v[0]).kind != 1 || b.controller.Stats().Malformed != 2 {
		t.Errorf("event %+v, %+v", parse(v[0]), b.controller.Stats())
	}
}

func TestResetForgetsEvents(t *testing.T) {
	b := newFake(t, &target{}).start(allFeatures)
	b.controller.Notify(scsi.Event{Kind: scsi.LUNAdded, LUN: 1})
	b.start(allFeatures)
	b.give(1, 16)
	if _, _, ok := b.events.Poll(); ok {
		t.Error("an event of before the reset")
	}
}

func TestResetsCancel(t *testing.T) {
	g := &target{}
	g.submit = g.hold
	b := newFake(t, g).start(allFeatures)
	b.SetStatus(0)
	if b.Status() != 0 || len(g.tasks) != 0 {
		t.Errorf("status %#x, tasks %v without a command", b.Status(), g.tasks)
	}
	b.start(allFeatures)
	b.send(0, lun1(4), 11, []byte{0x28}, nil, 512)
	b.send(1, lun1(4), 12, []byte{0x28}, nil, 512)
	b.SetCommon(0x16, 2, queueRequest+1)
	b.SetCommon(0x3a, 2, 1)
	if len(g.tasks) != 1 || g.tasks[0] != scsi.AbortTask || b.Common(0x3a, 2) != 1 {
		t.Errorf("tasks %v after the reset of a queue", g.tasks)
	}
	b.SetStatus(0)
	if len(g.tasks) != 2 || g.tasks[1] != scsi.NexusReset || b.Status() == 0 {
		t.Errorf("tasks %v after the reset of the device", g.tasks)
	}
	g.end(scsi.WasReset)
	if b.Status() != 0 {
		t.Errorf("status %#x", b.Status())
	}
	if _, _, ok := b.requests[0].Poll(); ok {
		t.Error("a command came back after the reset")
	}
	b.controller.Reset()
	if last := g.tasks[len(g.tasks)-1]; last != scsi.PowerOn {
		t.Errorf("the machine's reset ends with function %d", last)
	}
	g.submit = nil
	b.Driver = virtiotest.New(t, b.controller.PCI(), b.memory, ringBase)
	b.start(allFeatures)
	if r := b.do(lun1(0), []byte{0}, nil, 0); !r.used {
		t.Error("dead after a reset")
	}
}
