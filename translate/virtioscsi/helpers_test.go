package virtioscsi

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keel/hcl/abi/x86"
	"keel/translate/scsi"
	"keel/translate/virtio/virtiotest"
	"keel/vtl/guestmem"
)

const (
	mib         = 1 << 20
	version1    = uint64(1) << 32
	allFeatures = version1 | 1<<28 | 1<<29 | 1<<40 | 7
	ringBase    = x86.GPA(0x10000)
)

// target is a Target that does what a test says.
type target struct {
	luns   []uint16
	submit func(*scsi.Command)
	manage func(*scsi.Task)

	mu    sync.Mutex
	held  []*scsi.Command
	tasks []scsi.Function
}

func (g *target) LUNs() []uint16 { return g.luns }

func (g *target) Submit(c *scsi.Command) {
	if g.submit == nil {
		c.Done(c)
		return
	}
	g.submit(c)
}

func (g *target) Manage(t *scsi.Task) {
	g.mu.Lock()
	g.tasks = append(g.tasks, t.Function)
	g.mu.Unlock()
	if g.manage != nil {
		g.manage(t)
	}
	t.Done(t)
}

// hold keeps a command.
func (g *target) hold(c *scsi.Command) {
	g.mu.Lock()
	g.held = append(g.held, c)
	g.mu.Unlock()
}

// end completes what is held.
func (g *target) end(how scsi.Ending) int {
	g.mu.Lock()
	held := g.held
	g.held = nil
	g.mu.Unlock()
	for _, c := range held {
		c.Ending = how
		c.Done(c)
	}
	return len(held)
}

// bench is a controller and its guest.
type bench struct {
	*virtiotest.Driver
	tb         testing.TB
	controller *Controller
	vectors    *virtiotest.Vectors
	memory     *guestmem.Memory
	control    *virtiotest.Ring
	events     *virtiotest.Ring
	requests   []*virtiotest.Ring
	senseSize  int
	cdbSize    int
	tag        atomic.Uint64
}

// newBench makes a controller whose events come from what target returns.
func newBench(tb testing.TB, queues int, target func(notify func(scsi.Event)) Target) *bench {
	tb.Helper()
	m, err := guestmem.New(4*mib, guestmem.Layout{LowTop: 4 * mib, HighBase: 1 << 32}, false)
	if err != nil {
		tb.Fatal(err)
	}
	b := &bench{tb: tb, vectors: &virtiotest.Vectors{}, memory: m, senseSize: 96, cdbSize: 32}
	b.controller, err = New(Config{
		Target:        target(func(e scsi.Event) { b.controller.Notify(e) }),
		RequestQueues: queues, QueueSize: 64, Memory: m, MSI: b.vectors, DirectDMA: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	b.Driver = virtiotest.New(tb, b.controller.PCI(), m, ringBase)
	tb.Cleanup(func() {
		b.controller.Reset()
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

func newFake(tb testing.TB, g *target) *bench {
	tb.Helper()
	return newBench(tb, 2, func(func(scsi.Event)) Target { return g })
}

// start brings the controller up.
func (b *bench) start(features uint64) *bench {
	b.tb.Helper()
	if !b.Negotiate(features) {
		b.tb.Fatalf("features %#x were refused", features)
	}
	b.control = b.AddRing(queueControl, 16, features)
	b.events = b.AddRing(queueEvent, 16, features)
	b.requests = nil
	for i := range b.controller.config[cfgNumQueues/4] {
		b.requests = append(b.requests, b.AddRing(queueRequest+int(i), 32, features))
	}
	b.Run()
	return b
}

// buffer returns n bytes of guest memory.
func (b *bench) buffer(n int) (virtiotest.Buffer, []byte) {
	at := b.Allocate(n)
	return virtiotest.Buffer{GPA: at, Size: uint32(n)}, b.View(at, n)
}

// reply is what the guest got.
type reply struct {
	used     bool
	written  uint32
	senseLen uint32
	residual uint32
	status   byte
	response response
	sense    []byte
	data     []byte
}

// pending is a request whose reply may be still to come.
type pending struct {
	resp, data []byte
}

func (b *bench) reply(p pending, written uint32, used bool) reply {
	return reply{
		used: used, written: written,
		senseLen: binary.LittleEndian.Uint32(p.resp), residual: binary.LittleEndian.Uint32(p.resp[4:]),
		status: p.resp[10], response: response(p.resp[11]), sense: p.resp[12:], data: p.data,
	}
}

// lun1 is the address of a logical unit.
func lun1(lun uint16) [8]byte { return [8]byte{1, 0, byte(lun>>8) | 0x40, byte(lun)} }

// send offers a command and notifies the controller.
func (b *bench) send(queue int, lun [8]byte, tag uint64, cdb, out []byte, in int) pending {
	b.tb.Helper()
	hdr, h := b.buffer(19 + b.cdbSize)
	copy(h, lun[:])
	binary.LittleEndian.PutUint64(h[8:], tag)
	copy(h[19:], cdb)
	resp, r := b.buffer(12 + b.senseSize)
	for i := range r {
		r[i] = 0xee
	}
	readable, writable := []virtiotest.Buffer{hdr}, []virtiotest.Buffer{resp}
	if len(out) > 0 {
		o, view := b.buffer(len(out))
		copy(view, out)
		readable = append(readable, o)
	}
	p := pending{resp: r}
	if in > 0 {
		i, view := b.buffer(in)
		writable, p.data = append(writable, i), view
	}
	if _, ok := b.requests[queue].Add(readable, writable); !ok {
		b.tb.Fatal("the ring is full")
	}
	b.requests[queue].Kick()
	return p
}

// do runs a command that completes at once.
func (b *bench) do(lun [8]byte, cdb, out []byte, in int) reply {
	b.tb.Helper()
	p := b.send(0, lun, b.tag.Add(1), cdb, out, in)
	_, n, ok := b.requests[0].Poll()
	return b.reply(p, n, ok)
}

// function runs a task management function, waits for it and returns the response.
func (b *bench) function(subtype uint32, lun [8]byte, tag uint64) int {
	b.tb.Helper()
	req, v := b.buffer(24)
	binary.LittleEndian.PutUint32(v[4:], subtype)
	copy(v[8:], lun[:])
	binary.LittleEndian.PutUint64(v[16:], tag)
	resp, r := b.buffer(1)
	r[0] = 0xee
	b.control.Add([]virtiotest.Buffer{req}, []virtiotest.Buffer{resp})
	b.control.Kick()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if _, n, ok := b.control.Poll(); ok && n == 1 {
			return int(r[0])
		}
		if time.Now().After(end) {
			b.tb.Error("the function does not end")
			return -1
		}
	}
}

// fill answers with data for as much as there is room.
func fill(c *scsi.Command) {
	n := 0
	for _, s := range c.In {
		for i := range s.Data {
			s.Data[i] = byte(n)
			n++
		}
	}
	c.Done(c)
}
