package hv

import (
	"encoding/binary"
	"sync"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
)

// Addresses that the tests use, each a page of its own in 2 MiB of RAM.
const (
	ram       = 2 << 20
	simPage   = 0x10000 // VP n at + n pages
	siefPage  = 0x20000
	codePage  = 0x30000
	tscPage   = 0x31000
	inputPage = 0x40000 // VP n at + n pages
	vmbusSINT = 2
	vmbusIRQ  = 0xF3
	stimerIRQ = 0xED
	testHz    = 2_000_000_000
)

// recorder takes what the hypervisor does to the machine.
type recorder struct {
	mu      sync.Mutex
	raised  map[int][]irq.Vector
	flushes []VPSet
	post    func(vp int, connection, kind uint32, payload []byte) Status
	signal  func(vp int, connection uint32, flag uint16) Status
}

func (r *recorder) Raise(vp int, v irq.Vector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raised[vp] = append(r.raised[vp], v)
}

func (r *recorder) FlushTLB(_ int, set VPSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushes = append(r.flushes, set)
}

func (r *recorder) PostMessage(vp int, connection, kind uint32, payload []byte) Status {
	return r.post(vp, connection, kind, payload)
}

func (r *recorder) SignalEvent(vp int, connection uint32, flag uint16) Status {
	return r.signal(vp, connection, flag)
}

// take returns and forgets the vectors raised on a VP.
func (r *recorder) take(vp int) []irq.Vector {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.raised[vp]
	r.raised[vp] = nil
	return v
}

// rig is a guest whose time stands still until a test moves it. The time stamp
// counter runs at 2 GHz and is 777 ticks ahead.
type rig struct {
	*Hypervisor
	tb     testing.TB
	memory *guestmem.Memory
	clock  *irq.ManualClock
	rec    *recorder
	crash  []Crash
	resets int
}

func newRig(tb testing.TB, vps int, options ...func(*Config)) *rig {
	tb.Helper()
	m, err := guestmem.New(ram, guestmem.Layout{LowTop: ram, HighBase: 1 << 32}, false)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	g := &rig{tb: tb, memory: m, clock: &irq.ManualClock{}, rec: &recorder{raised: map[int][]irq.Vector{}}}
	c := Config{
		VPs: vps, Memory: m, Interrupts: g.rec, Now: g.clock.Now,
		TSC:    func(int) uint64 { return uint64(g.clock.Now())*2 + 777 },
		APICHz: 1_000_000_000, TLB: g.rec,
		Crash: func(c Crash) { g.crash = append(g.crash, c) },
		Reset: func() { g.resets++ },
	}
	for _, o := range options {
		o(&c)
	}
	if g.Hypervisor, err = New(c); err != nil {
		tb.Fatal(err)
	}
	g.SetTSCHz(testHz)
	return g
}

// advance moves the time on and looks after the timers as the VPs' threads do.
func (g *rig) advance(d int64) {
	end := g.clock.Now() + d
	for {
		next := end + 1
		for i := range g.vps {
			if at := g.TimerDeadline(i); at != 0 {
				next = min(next, at)
			}
		}
		if next > end {
			break
		}
		g.clock.Advance(max(next-g.clock.Now(), 0))
		for i := range g.vps {
			if at := g.TimerDeadline(i); at != 0 && at <= g.clock.Now() {
				g.CheckTimers(i)
			}
		}
	}
	g.clock.Advance(end - g.clock.Now())
}

// write writes an MSR that must take the value.
func (g *rig) write(vp int, index uint32, value uint64) {
	g.tb.Helper()
	if !g.WriteMSR(vp, index, value) {
		g.tb.Fatalf("VP %d: MSR %#x = %#x raised #GP", vp, index, value)
	}
}

// read reads an MSR that must exist.
func (g *rig) read(vp int, index uint32) uint64 {
	g.tb.Helper()
	v, ok := g.ReadMSR(vp, index)
	if !ok {
		g.tb.Fatalf("VP %d: reading MSR %#x raised #GP", vp, index)
	}
	return v
}

// synic turns a VP's SynIC on as Linux does.
func (g *rig) synic(vp int) {
	g.tb.Helper()
	g.write(vp, hv.MSR_SIMP, uint64(simPage+vp*x86.PageSize)|hv.PAGE_ENABLE)
	g.write(vp, hv.MSR_SIEFP, uint64(siefPage+vp*x86.PageSize)|hv.PAGE_ENABLE)
	g.write(vp, hv.MSR_SINT0+vmbusSINT, vmbusIRQ)
	g.write(vp, hv.MSR_SCONTROL, hv.SCONTROL_ENABLE)
}

// words returns guest memory for atomic access.
func (g *rig) words(gpa, n int) []uint32 {
	g.tb.Helper()
	b, err := g.memory.Slice(x86.GPA(gpa), n)
	if err != nil {
		g.tb.Fatal(err)
	}
	return sys.Words(b)
}

// slot returns a copy of a message slot.
func (g *rig) slot(vp, sint int) []byte {
	g.tb.Helper()
	return g.bytes(simPage+vp*x86.PageSize+sint*hv.HV_MESSAGE_SIZE, hv.HV_MESSAGE_SIZE)
}

func (g *rig) bytes(gpa, n int) []byte {
	g.tb.Helper()
	p := make([]byte, n)
	if err := g.memory.ReadAt(x86.GPA(gpa), p); err != nil {
		g.tb.Fatal(err)
	}
	return p
}

// empty does what a guest does with a message that it has handled, and reports
// whether it had to say so.
func (g *rig) empty(vp, sint int) bool {
	g.tb.Helper()
	w := g.words(simPage+vp*x86.PageSize+sint*hv.HV_MESSAGE_SIZE, hv.HV_MESSAGE_SIZE)
	w[0] = hv.HvMessageTypeNone
	if w[1]>>8&hv.MESSAGE_FLAG_PENDING == 0 {
		return false
	}
	g.write(vp, hv.MSR_EOM, 0)
	return true
}

// kind returns the type of a message.
func kind(slot []byte) uint32 { return binary.LittleEndian.Uint32(slot) }

// payload returns the payload of a message.
func payload(slot []byte) []byte { return slot[hv.MESSAGE_PAYLOAD:][:slot[hv.MESSAGE_PAYLOAD_SIZE]] }

// enableCalls sets the hypercall page up.
func (g *rig) enableCalls() {
	g.tb.Helper()
	g.write(0, hv.MSR_GUEST_OS_ID, 1<<63|6<<16)
	g.write(0, hv.MSR_HYPERCALL, codePage|hv.PAGE_ENABLE)
}

// trapped is a VP at a trap.
type trapped struct{ r hcl.Registers }

func (t *trapped) Registers() (hcl.Registers, error)   { return t.r, nil }
func (t *trapped) SetRegisters(r *hcl.Registers) error { t.r = *r; return nil }

// call64 makes a hypercall from 64-bit code and returns the result value.
func (g *rig) call64(vp int, control, first, second uint64) uint64 {
	g.tb.Helper()
	t := &trapped{hcl.Registers{RAX: 0xDEAD, RCX: control, RDX: first, R8: second, RBX: 0xB, RSI: 0x51}}
	if ok, err := g.Hypercall(vp, TrapPort64, t); !ok || err != nil {
		g.tb.Fatalf("hypercall: %v, %v", ok, err)
	}
	if t.r.RDX != first || t.r.R8 != second || t.r.RBX != 0xB || t.r.RSI != 0x51 {
		g.tb.Errorf("the hypercall changed registers: %+v", t.r)
	}
	return t.r.RAX
}

// input writes the input of a hypercall of a VP and returns its address.
func (g *rig) input(vp int, words ...uint64) uint64 {
	g.tb.Helper()
	p := make([]byte, len(words)*8)
	for i, w := range words {
		binary.LittleEndian.PutUint64(p[i*8:], w)
	}
	gpa := inputPage + vp*x86.PageSize
	if err := g.memory.WriteAt(x86.GPA(gpa), p); err != nil {
		g.tb.Fatal(err)
	}
	return uint64(gpa)
}

func check[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s = %v, want %v", what, got, want)
	}
}
