package storvsp_test

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/storvsp"
	"keel/translate/vmbus"
	"keel/translate/vmbus/vmbustest"
)

var le = binary.LittleEndian

const page = vmbustest.Page

// ram is a disk in memory. It can hold requests back.
type ram struct {
	mu     sync.Mutex
	data   []byte
	held   []*blk.Request
	hold   bool
	blocks atomic.Uint64
	watch  func(blk.Event)
	dma    []uint64 // of the segments of the last request
}

func newRAM(blocks uint64) *ram {
	r := &ram{data: make([]byte, blocks*512)}
	r.blocks.Store(blocks)
	return r
}

func (r *ram) Info() blk.Info {
	return blk.Info{Blocks: r.blocks.Load(), BlockSize: 512, PhysicalSize: 512, Volatile: true, DiscardUnit: 1, MaxRanges: 1, ID: [16]byte{1}}
}

func (r *ram) Submit(_ int, q *blk.Request) {
	i := r.Info()
	if err := q.Check(&i); err != nil {
		q.Complete(err)
		return
	}
	r.mu.Lock()
	if r.hold {
		r.held = append(r.held, q)
		r.mu.Unlock()
		return
	}
	at := q.LBA * 512
	r.dma = r.dma[:0]
	for _, s := range q.Segments {
		r.dma = append(r.dma, s.DMA)
		switch q.Op {
		case blk.OpRead:
			copy(s.Data, r.data[at:])
		case blk.OpWrite:
			copy(r.data[at:], s.Data)
		default:
		}
		at += uint64(len(s.Data))
	}
	r.mu.Unlock()
	q.Complete(nil)
}

func (r *ram) Cancel(q *blk.Request) {
	r.mu.Lock()
	for i, h := range r.held {
		if h == q {
			r.held = append(r.held[:i], r.held[i+1:]...)
			r.mu.Unlock()
			q.Complete(blk.ErrAborted)
			return
		}
	}
	r.mu.Unlock()
}

func (r *ram) Watch(f func(blk.Event)) { r.watch = f }

// setHold holds requests back, or lets those go that were held.
func (r *ram) setHold(on bool) {
	r.mu.Lock()
	r.hold = on
	held := r.held
	r.held = nil
	r.mu.Unlock()
	for _, q := range held {
		r.Submit(0, q)
	}
}

// waiting returns how many requests are held.
func (r *ram) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

const instance = "9a1b2c3d-0001-4000-8000-000000000001"

// machine is a guest with a controller over a real target.
type machine struct {
	*vmbustest.Guest
	t      testing.TB
	target *scsi.Controller
	vsp    *storvsp.Controller
	disk   *ram
	main   *vmbustest.Port
	max    uint32 // bytes of a transfer
	subs   uint16
}

// boot makes one, with a disk at LUN 0, and does what the driver does before it
// scans. c needs no more than what differs from the usual.
func boot(tb testing.TB, c storvsp.Config) *machine {
	tb.Helper()
	m := &machine{t: tb, Guest: vmbustest.NewGuest(tb, vmbus.Config{}), disk: newRAM(4096)}
	m.target = scsi.New(func(e scsi.Event) {
		if m.vsp != nil {
			m.vsp.Event(e)
		}
	})
	if err := m.target.Add(0, scsi.Disk, m.disk); err != nil {
		tb.Fatal(err)
	}
	g, err := vmbus.ParseGUID(instance)
	if err != nil {
		tb.Fatal(err)
	}
	c.Bus, c.Memory, c.Target, c.Instance = m.Bus, m.Mem, m.target, g
	if c.VPs == 0 {
		c.VPs = vmbustest.VPs
	}
	if m.vsp, err = storvsp.New(c); err != nil {
		tb.Fatal(err)
	}
	m.Connect(5<<16 | 2)
	offers := m.Offers()
	if len(offers) != 1 {
		tb.Fatalf("%d offers", len(offers))
	}
	m.main, _ = m.OpenWith(offers[0], 0, 31)
	m.negotiate()
	return m
}

// op sends an operation and returns the status of the answer, and the answer.
func (m *machine) op(p *vmbustest.Port, operation uint32, size int, fill func([]byte)) (uint32, []byte) {
	m.t.Helper()
	packet := make([]byte, size)
	le.PutUint32(packet, operation)
	le.PutUint32(packet[4:], 1)
	if fill != nil {
		fill(packet)
	}
	if !p.Send(6, 1, 0x1234, nil, packet) {
		m.t.Fatal("the ring is full")
	}
	kind, id, answer := p.Recv()
	if kind != 11 || id != 0x1234 || len(answer) != min(size, 64) || le.Uint32(answer) != 1 {
		m.t.Fatalf("operation %d: type %d, transaction %#x, % x", operation, kind, id, answer)
	}
	return le.Uint32(answer[8:]), answer
}

// negotiate does what Linux 5.10 does: packets have the old size until the version
// is agreed.
func (m *machine) negotiate() {
	m.t.Helper()
	if s, _ := m.op(m.main, 7, 48, nil); s != 0 {
		m.t.Fatalf("begin: %#x", s)
	}
	version := func(p []byte) { le.PutUint16(p[12:], 6<<8|2) }
	if s, _ := m.op(m.main, 9, 48, version); s != 0 {
		m.t.Fatalf("version 6.2: %#x", s)
	}
	s, a := m.op(m.main, 10, 64, nil)
	if s != 0 {
		m.t.Fatalf("properties: %#x", s)
	}
	m.subs, m.max = le.Uint16(a[16:]), le.Uint32(a[24:])
	if le.Uint32(a[20:]) != 1 {
		m.t.Error("no sub-channels")
	}
	if s, _ := m.op(m.main, 8, 64, nil); s != 0 {
		m.t.Fatalf("end: %#x", s)
	}
}

// srb is a SCSI request of the guest.
type srb struct {
	path, target, lun byte
	cdb               []byte
	in                byte
	length            uint32
	data              []byte // list of pages, as direct makes it
	id                uint64
}

// submit sends one.
func submit(p *vmbustest.Port, r srb) bool {
	m := make([]byte, 64)
	le.PutUint32(m, 3)
	le.PutUint32(m[4:], 1)
	le.PutUint16(m[12:], 52)
	m[17], m[18], m[19], m[20], m[21], m[22] = r.path, r.target, r.lun, byte(len(r.cdb)), 20, r.in
	le.PutUint32(m[24:], r.length)
	copy(m[28:44], r.cdb)
	kind := uint16(6)
	if r.data != nil {
		kind = 9
	}
	return p.Send(kind, 1, r.id, r.data, m)
}

// answer is what came back.
type answer struct {
	id          uint64
	nt          uint32
	srb, status byte
	moved       uint32
	sense       []byte
}

func parse(tb testing.TB, id uint64, m []byte) answer {
	tb.Helper()
	if len(m) != 64 || le.Uint32(m) != 1 || le.Uint16(m[12:]) != 52 || m[21] > 20 {
		tb.Fatalf("answer % x", m)
	}
	return answer{id, le.Uint32(m[8:]), m[14], m[15], le.Uint32(m[24:]), m[28 : 28+m[21]]}
}

// run sends a request and waits for its answer.
func (m *machine) run(p *vmbustest.Port, r srb) answer {
	m.t.Helper()
	r.id = 77
	if !submit(p, r) {
		m.t.Fatal("the ring is full")
	}
	kind, id, a := p.Recv()
	if kind != 11 || id != 77 {
		m.t.Fatalf("type %d, transaction %d", kind, id)
	}
	return parse(m.t, id, a)
}

// ready runs TEST UNIT READY until the attentions are over.
func (m *machine) ready() {
	m.t.Helper()
	for range 8 {
		if a := m.run(m.main, srb{cdb: make([]byte, 6), in: 2}); a.srb == 1 {
			return
		}
	}
	m.t.Fatal("the disk does not get ready")
}
