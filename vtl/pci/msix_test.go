package pci

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/x86"
)

// messages counts what is signalled and keeps the last message.
type messages struct {
	n       atomic.Uint64
	address atomic.Uint64
	data    atomic.Uint32
}

func (m *messages) SignalMSI(address uint64, data uint32) {
	m.address.Store(address)
	m.data.Store(data)
	m.n.Add(1)
}

func (m *messages) count() uint64 { return m.n.Load() }

// setVector writes an entry as a driver does: masked while it changes.
func setVector(e *Endpoint, v int, address uint64, data, control uint32) {
	table, _ := e.BAR(2)
	at := uint64(v) * vectorSize
	table.WriteMMIO(at+12, 4, 1)
	table.WriteMMIO(at, 8, address)
	table.WriteMMIO(at+8, 4, uint64(data))
	table.WriteMMIO(at+12, 4, uint64(control))
}

func TestVectorTable(t *testing.T) {
	e := newEndpoint(t, testConfig(&messages{}))
	table, size := e.BAR(2)
	if size != 4096 {
		t.Fatalf("table's BAR has %d bytes", size)
	}
	if got := table.ReadMMIO(2*16+12, 4); got != 1 {
		t.Errorf("vectors start with control %#x, want masked", got)
	}
	setVector(e, 2, 0x1_fee01007, 0x4051, 0xfffffffe)
	for _, c := range []struct {
		offset uint64
		size   int
		want   uint64
	}{
		{0x20, 4, 0xfee01004}, // bits 0 and 1 are zero
		{0x24, 4, 1},
		{0x28, 4, 0x4051},
		{0x2c, 4, 0}, // the mask is all there is
		{0x20, 8, 0x1fee01004},
		{0x30, 8, 0},    // no such vector
		{0x22, 4, 0},    // misaligned
		{0x28, 2, 0},    // too small
		{0x800, 8, 0},   // pending bits
		{0xff8, 8, 0},   // past them
		{0x804, 4, 0},   // upper half
		{0x28, 1, 0},    // too small
		{0x7fc, 4, 0},   // past the table
		{0x2000, 4, 0},  // past the BAR
		{0x20000, 8, 0}, // far past
	} {
		if got := table.ReadMMIO(c.offset, c.size); got != c.want {
			t.Errorf("%d bytes at %#x = %#x, want %#x", c.size, c.offset, got, c.want)
		}
	}
	table.WriteMMIO(0x800, 8, 7)
	table.WriteMMIO(0x30, 4, 7)
	table.WriteMMIO(0x29, 1, 7)
	if got := e.Stats().Refused; got != 6 {
		t.Errorf("%d refused, want 6", got)
	}
}

func TestMasking(t *testing.T) {
	for _, c := range []struct {
		name             string
		command, control uint32
		vector           uint32 // its control dword
		sent, pending    uint64
	}{
		{"on", commandMaster, msixControlEnable, 0, 1, 0},
		{"vector masked", commandMaster, msixControlEnable, 1, 0, 2},
		{"function masked", commandMaster, msixControlEnable | msixControlMask, 0, 0, 2},
		{"no bus master", commandMemory, msixControlEnable, 0, 0, 0},
		{"disabled", commandMaster, 0, 0, 0, 0},
		{"disabled and masked", commandMaster, msixControlMask, 1, 0, 0},
	} {
		got := &messages{}
		e := newEndpoint(t, testConfig(got))
		e.WriteConfig(0x04, 2, c.command)
		e.WriteConfig(0x42, 2, c.control)
		setVector(e, 1, 0xfee02000, 0x33, c.vector)
		e.Signal(1)
		table, _ := e.BAR(2)
		if got.count() != c.sent || table.ReadMMIO(0x800, 8) != c.pending {
			t.Errorf("%s: %d sent, pending %#x", c.name, got.count(), table.ReadMMIO(0x800, 8))
		}
		if c.sent == 1 && (got.address.Load() != 0xfee02000 || got.data.Load() != 0x33) {
			t.Errorf("%s: message %#x to %#x", c.name, got.data.Load(), got.address.Load())
		}
		if dropped := e.Stats().Dropped; (dropped == 1) != (c.sent == 0 && c.pending == 0) {
			t.Errorf("%s: %d dropped", c.name, dropped)
		}
		// What is pending goes out once when both masks are gone.
		e.Signal(1)
		table.WriteMMIO(0x1c, 4, 0)
		e.WriteConfig(0x42, 2, c.control&^msixControlMask)
		want := 2 * c.sent
		if c.pending != 0 {
			want = 1
		}
		if got.count() != want || table.ReadMMIO(0x800, 8) != 0 {
			t.Errorf("%s: %d sent after unmasking, want %d", c.name, got.count(), want)
		}
	}
}

func TestPendingWaitsForTheSecondMask(t *testing.T) {
	got := &messages{}
	e := newEndpoint(t, testConfig(got))
	e.WriteConfig(0x04, 2, commandMaster)
	e.WriteConfig(0x42, 2, msixControlEnable|msixControlMask)
	setVector(e, 0, 0xfee00000, 1, 1)
	e.Signal(0)
	e.WriteConfig(0x42, 2, msixControlEnable)
	if got.count() != 0 {
		t.Fatal("sent although the vector is masked")
	}
	setVector(e, 0, 0xfee00000, 1, 0)
	if got.count() != 1 {
		t.Errorf("%d sent", got.count())
	}
	e.Signal(99)
	e.Signal(-1)
	if s := e.Stats(); s.NoVector != 2 || s.Signalled != 1 {
		t.Errorf("stats %+v", s)
	}
	e.WriteConfig(0x42, 2, msixControlEnable|msixControlMask)
	e.Signal(0)
	e.Reset()
	e.WriteConfig(0x04, 2, commandMaster)
	e.WriteConfig(0x42, 2, msixControlEnable)
	setVector(e, 0, 0xfee00000, 1, 0)
	if got.count() != 1 {
		t.Error("a pending vector survived the reset")
	}
}

// TestUnmaskedMeanwhile is the moment in which a device has seen the mask and the
// guest removes it before the vector is pending.
func TestUnmaskedMeanwhile(t *testing.T) {
	got := &messages{}
	e := newEndpoint(t, testConfig(got))
	e.WriteConfig(0x04, 2, commandMaster)
	e.WriteConfig(0x42, 2, msixControlEnable)
	setVector(e, 1, 0xfee00000, 1, 0)
	e.msix.postpone(1)
	table, _ := e.BAR(2)
	if got.count() != 1 || table.ReadMMIO(0x800, 8) != 0 {
		t.Errorf("%d messages, pending %#x", got.count(), table.ReadMMIO(0x800, 8))
	}
}

// TestNoSignalIsLost masks and unmasks a vector from one side while the other
// signals it: each signal becomes one message, and every message is whole.
func TestNoSignalIsLost(t *testing.T) {
	got := &pairs{}
	c := testConfig(nil)
	c.MSI = got
	e := newEndpoint(t, c)
	e.WriteConfig(0x04, 2, commandMaster)
	e.WriteConfig(0x42, 2, msixControlEnable)
	setVector(e, 0, 0xfee00000, 0, 0)
	table, _ := e.BAR(2)
	const rounds = 5000
	var round, done atomic.Uint64
	var guest sync.WaitGroup
	guest.Go(func() {
		for i := range uint64(rounds) {
			for round.Load() <= i {
				runtime.Gosched()
			}
			if i%4 == 0 {
				e.WriteConfig(0x42, 2, msixControlEnable|msixControlMask)
				e.WriteConfig(0x42, 2, msixControlEnable)
			} else {
				setVector(e, 0, 0xfee00000|i&0xff<<12, uint32(i&0xff), 0)
			}
			done.Add(1)
		}
	})
	for i := range uint64(rounds) {
		round.Add(1)
		e.Signal(0)
		for done.Load() <= i {
			runtime.Gosched()
		}
		if n := got.n.Load(); n != i+1 || table.ReadMMIO(0x800, 8) != 0 {
			t.Errorf("round %d: %d messages, pending %#x", i, n, table.ReadMMIO(0x800, 8))
			got.n.Store(i + 1)
		}
	}
	guest.Wait()
	if got.torn.Load() != 0 {
		t.Errorf("%d messages mix two entries", got.torn.Load())
	}
}

// pairs checks that address and data belong together.
type pairs struct{ n, torn atomic.Uint64 }

func (p *pairs) SignalMSI(address uint64, data uint32) {
	if uint32(address>>12&0xff) != data {
		p.torn.Add(1)
	}
	p.n.Add(1)
}

// FuzzConfig plays accesses to configuration space and BARs and checks what must
// hold whatever the guest does.
func FuzzConfig(f *testing.F) {
	f.Add([]byte{0, 4, 0, 2, 6, 0, 0, 0, 0, 0x10, 0, 4, 0, 0, 0, 0xc0})
	f.Add([]byte{0, 0x42, 0, 2, 0, 0x80, 0, 0, 2, 0x0c, 0, 4, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		got := &messages{}
		e, err := New(testConfig(got))
		if err != nil {
			t.Fatal(err)
		}
		table, _ := e.BAR(2)
		for n := 0; len(data) >= 8 && n < 1024; n, data = n+1, data[8:] {
			offset := uint16(data[1]) | uint16(data[2])<<8
			size := int(data[3])
			value := uint32(data[4]) | uint32(data[5])<<8 | uint32(data[6])<<16 | uint32(data[7])<<24
			switch data[0] % 6 {
			case 0:
				e.WriteConfig(offset&0xfff, size, value)
			case 1:
				e.ReadConfig(offset, size)
			case 2:
				table.WriteMMIO(uint64(offset), 1<<(size&3), uint64(value)<<(offset&31))
			case 3:
				table.ReadMMIO(uint64(offset), 1<<(size&3))
			case 4:
				before := got.count()
				e.Signal(int(offset) % 4)
				open := e.ReadConfig(0x04, 2)&commandMaster != 0 && e.ReadConfig(0x42, 2)&0xc000 == 0x8000
				if got.count() != before && !open {
					t.Fatal("a message left a closed function")
				}
			case 5:
				d, at, ok := e.DecodeMMIO(x86.GPA(value)<<(offset&31), 1<<(size&3))
				if ok && (e.ReadConfig(0x04, 2)&commandMemory == 0 || d == nil || at >= 1<<14) {
					t.Fatalf("decodes offset %#x", at)
				}
			}
		}
		if e.ReadConfig(0, 4) != 0x10481af4 || e.ReadConfig(0x34, 1) != 0x40 || e.ReadConfig(0x10, 4)&0xf != 0xc {
			t.Error("read-only registers changed")
		}
	})
}
