package vtl

import (
	"errors"
	"strings"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/bus"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
)

// rawPartition is a fake whose faults are raw.
type rawPartition struct {
	fakePartition
	reserved []bus.Range
}

func (p *rawPartition) Deny(x86.GPA, uint64) error  { return nil }
func (p *rawPartition) Allow(x86.GPA, uint64) error { return nil }
func (p *rawPartition) Reserve(gpa x86.GPA, length uint64) error {
	p.reserved = append(p.reserved, bus.Range{First: gpa, Size: length})
	return nil
}

// latch is a device of one register.
type latch struct{ value uint64 }

func (l *latch) ReadMMIO(offset uint64, _ int) uint64 { return l.value + offset }
func (l *latch) WriteMMIO(offset uint64, size int, v uint64) {
	l.value = v + offset<<32 + uint64(size)<<56
}

const latchAt = x86.GPA(0xd0000800)

// rawGuest makes a guest of one VP whose exits are those of a script, with a program in
// real mode at 1000h and DS over a device.
func rawGuest(t *testing.T, code []byte, s script) (*Guest, *rawPartition, *latch) {
	t.Helper()
	p, l := &rawPartition{}, &latch{}
	return newRawGuest(t, p, l, code, nil, s), p, l
}

// rawGuestWith makes such a guest with an oracle.
func rawGuestWith(t *testing.T, code []byte, oracle hcl.Partition, s script) *Guest {
	t.Helper()
	return newRawGuest(t, &rawPartition{}, &latch{}, code, oracle, s)
}

func newRawGuest(t *testing.T, p *rawPartition, device *latch, code []byte, oracle hcl.Partition, s script) *Guest {
	t.Helper()
	ram, err := guestmem.New(2<<20, guestmem.Layout{LowTop: 2 << 20, HighBase: 1 << 32}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ram.Close() })
	if err := ram.WriteAt(0x1000, code); err != nil {
		t.Fatal(err)
	}
	p.vps = map[int]*fakeVP{}
	p.scripts = map[int]script{0: func(vp *fakeVP, turn int) (hcl.Exit, error) {
		if turn == 0 {
			vp.regs.RIP, vp.regs.RFLAGS, vp.regs.RSP = 0x1000, 2, 0x8000
			flat := hcl.Segment{Limit: 0xffff, Attributes: hcl.SegPresent | hcl.SegNonSystem | 3}
			vp.sregs = hcl.SpecialRegisters{CS: flat, DS: flat, ES: flat, SS: flat}
			vp.sregs.DS.Base = uint64(latchAt)
		}
		return s(vp, turn)
	}}
	memory := &bus.Memory{}
	for _, r := range []struct {
		name  string
		first x86.GPA
		size  uint64
	}{{"latch", latchAt, 0x100}, {"neighbour", latchAt + 0x100, 0x10}, {"large", 512 << 30, 256 << 30}} {
		if err := memory.Map(r.name, r.first, r.size, device); err != nil {
			t.Fatal(err)
		}
	}
	g, err := New(Config{
		Partition: p, VPs: 1, Ports: &bus.Ports{}, Memory: memory, RAM: ram, Oracle: oracle,
		ExtINT: func() irq.Vector { return 0x30 }, Firmware: func(hcl.VP) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// fault is the exit of an access to the device.
var fault = hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: latchAt &^ 0xfff, RIP: 0x1000}

func TestEmulate(t *testing.T) {
	tests := []struct {
		name  string
		code  []byte
		check func(t *testing.T, vp *fakeVP, l *latch)
	}{
		{"read", []byte{0xa1, 0x10, 0x00}, func(t *testing.T, vp *fakeVP, _ *latch) { // mov ax,[10h]
			t.Helper()
			if vp.regs.RAX != 0x1244 || vp.regs.RIP != 0x1003 {
				t.Errorf("%+v", vp.regs)
			}
		}},
		{"write", []byte{0xc6, 0x06, 0x20, 0x00, 0x55}, func(t *testing.T, vp *fakeVP, l *latch) { // mov byte [20h],55h
			t.Helper()
			if l.value != 0x55+0x20<<32+1<<56 || vp.regs.RIP != 0x1005 {
				t.Errorf("%#x, %+v", l.value, vp.regs)
			}
		}},
		{"exception", []byte{0xa1, 0xff, 0xff}, func(t *testing.T, vp *fakeVP, _ *latch) { // mov ax,[0ffffh], beyond the limit
			t.Helper()
			if len(vp.exceptions) != 1 || vp.exceptions[0].vector != 13 || vp.regs.RIP != 0x1000 {
				t.Errorf("%+v, %+v", vp.exceptions, vp.regs)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var g *Guest
			var l *latch
			g, _, l = rawGuest(t, tt.code, func(vp *fakeVP, turn int) (hcl.Exit, error) {
				if turn == 0 {
					l.value = 0x1234
					return fault, nil
				}
				tt.check(t, vp, l)
				g.Stop(End{Kind: EndStopped})
				return hcl.Exit{Kind: hcl.ExitKick}, nil
			})
			run(t, g)
		})
	}
}

// TestEmulateRefuses: what Keel cannot run ends the guest, and names the instruction.
func TestEmulateRefuses(t *testing.T) {
	g, _, _ := rawGuest(t, []byte{0x0f, 0xa2}, func(*fakeVP, int) (hcl.Exit, error) { return fault, nil }) // cpuid
	if end := run(t, g); end.Kind != EndCrash || !strings.Contains(end.Detail, "0f a2") || strings.Contains(end.Message, "0f") {
		t.Errorf("%+v", end)
	}
}

// TestReserve: every page with a device faults raw, once.
func TestReserve(t *testing.T) {
	_, p, _ := rawGuest(t, nil, func(*fakeVP, int) (hcl.Exit, error) { return hcl.Exit{}, nil })
	want := []bus.Range{{First: 0xfee00000, Size: 0x1000}, {First: 0xd0000000, Size: 0x1000}}
	if len(p.reserved) != len(want) || p.reserved[0] != want[0] || p.reserved[1] != want[1] {
		t.Errorf("%+v", p.reserved)
	}
	g, err := New(Config{Partition: p, VPs: 1, Ports: &bus.Ports{}, Memory: &bus.Memory{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); !errors.Is(err, ErrConfig) {
		t.Errorf("without RAM: %v", err)
	}
}

// TestEmulateAllocates: executing an access costs no memory.
func TestEmulateAllocates(t *testing.T) {
	allocations := -1.0
	var g *Guest
	g, _, _ = rawGuest(t, []byte{0xa1, 0x10, 0x00}, func(vp *fakeVP, _ int) (hcl.Exit, error) {
		v := g.vps[0]
		e := fault
		allocations = testing.AllocsPerRun(100, func() {
			vp.regs.RIP = 0x1000
			v.memoryFault(&e)
		})
		g.Stop(End{Kind: EndStopped})
		return hcl.Exit{Kind: hcl.ExitKick}, nil
	})
	run(t, g)
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}
