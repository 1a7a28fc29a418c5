// Package hcltest is the contract that every backend of package hcl keeps: a
// suite of small guest programs, each with the exits that it must cause. A
// backend's own test calls Run.
package hcltest

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// Where the parts of a guest program lie.
const (
	memorySize  = 2 << 20
	codeAt      = x86.GPA(0x1000)
	handlerAt   = x86.GPA(0x1800) // one handler every handlerStep bytes, by vector
	handlerStep = 8
	dataAt      = x86.GPA(0x3000)
	mmioAt      = x86.GPA(0xd0000000) // no RAM there
)

// machine is a partition with one VP in real mode on a thread of its own.
type machine struct {
	t      testing.TB
	memory []byte
	vp     hcl.VP
}

// Run runs the suite against a backend. open makes a fresh partition; it
// returns an error that wraps hcl.ErrNotSupported where the machine lacks the
// backend, which is the only reason to skip.
func Run(t *testing.T, open func() (hcl.Partition, error)) {
	t.Helper()
	available(t, open)
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			onThread(t, func() { c.check(newMachine(t, open)) })
		})
	}
}

// available skips the test where the machine lacks the backend.
func available[P hcl.Partition](t *testing.T, open func() (P, error)) {
	t.Helper()
	p, err := open()
	if errors.Is(err, hcl.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// Benchmark measures an exit and the entry after it: a guest that writes to one
// port for ever.
func Benchmark(b *testing.B, open func() (hcl.Partition, error)) {
	onThread(b, func() {
		m := newMachine(b, open)
		m.start(0xe6, 0x10, 0xeb, 0xfc) // again: out 10h,al; jmp again
		for b.Loop() {
			if _, err := m.vp.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// onThread runs f as a VP's thread is set up: locked, kicks blocked.
func onThread(tb testing.TB, f func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done) // also when tb.FailNow ends the goroutine
		runtime.LockOSThread()
		if err := sys.BlockKick(); err != nil {
			tb.Error(err)
			return
		}
		f()
	}()
	<-done
}

func newMachine(tb testing.TB, open func() (hcl.Partition, error)) *machine {
	tb.Helper()
	p, err := open()
	if err != nil {
		tb.Fatal(err)
	}
	memory, err := unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(p.Close(), unix.Munmap(memory)); err != nil {
			tb.Error(err)
		}
	})
	if err := p.MapMemory(0, memory); err != nil {
		tb.Fatal(err)
	}
	supported, err := p.SupportedCPUID()
	if err != nil {
		tb.Fatal(err)
	}
	vp, err := p.NewVP(hcl.VPConfig{CPUID: withMarker(supported)})
	if err != nil {
		tb.Fatal(err)
	}
	m := &machine{t: tb, memory: memory, vp: vp}
	for vector := range 256 {
		// The real-mode vector table points every vector at a handler of its
		// own that reports the vector on port 0x70 and returns.
		at := handlerAt + x86.GPA(vector*handlerStep)
		m.memory[vector*4], m.memory[vector*4+1] = byte(at), byte(at>>8)
		copy(m.memory[at:], []byte{0x50, 0xb0, byte(vector), 0xe6, 0x70, 0x58, 0xcf}) // push ax; mov al,v; out 0x70,al; pop ax; iret
	}
	return m
}

// cpuidMarker is a value that the CPUID program must see.
const cpuidMarker = 0x6b65656c

func withMarker(supported []hcl.CPUIDEntry) []hcl.CPUIDEntry {
	out := make([]hcl.CPUIDEntry, 0, len(supported))
	for _, e := range supported {
		if e.Leaf == 0 {
			e.EBX = cpuidMarker
		}
		out = append(out, e)
	}
	return out
}

// start loads a real-mode program and points the VP at it.
func (m *machine) start(code ...byte) {
	m.t.Helper()
	copy(m.memory[codeAt:], code)
	s, err := m.vp.SpecialRegisters()
	if err != nil {
		m.t.Fatal(err)
	}
	s.CS.Base, s.CS.Selector = 0, 0
	m.set(&s, &hcl.Registers{RIP: uint64(codeAt), RFLAGS: 2, RSP: 0x8000})
}

func (m *machine) set(s *hcl.SpecialRegisters, r *hcl.Registers) {
	m.t.Helper()
	if err := errors.Join(m.vp.SetSpecialRegisters(s), m.vp.SetRegisters(r)); err != nil {
		m.t.Fatal(err)
	}
}

// run enters the guest and passes over kicks that nobody sent on purpose.
func (m *machine) run() hcl.Exit {
	m.t.Helper()
	for {
		e, err := m.vp.Run()
		if err != nil {
			m.t.Fatal(err)
		}
		if e.Kind != hcl.ExitKick {
			return e
		}
	}
}

// want runs and fails the test on any other kind of exit.
func (m *machine) want(kind hcl.ExitKind) hcl.Exit {
	m.t.Helper()
	e := m.run()
	if e.Kind != kind {
		r, _ := m.vp.Registers()
		m.t.Fatalf("exit %v at RIP %#x, want %v", e.Kind, r.RIP, kind)
	}
	return e
}

// wantOut runs to an OUT of a byte and checks port and value.
func (m *machine) wantOut(port uint16, value byte) {
	m.t.Helper()
	e := m.want(hcl.ExitPIO)
	if !e.Write || e.Port != port || len(e.Data) != 1 || e.Data[0] != value {
		m.t.Fatalf("%+v, want OUT %#x, %#x", e, port, value)
	}
}
