package pcihost

import (
	"encoding/binary"
	"errors"
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

const testECAM = 0xe0000000

// space is a function with writable bytes that checks what reaches it.
type space struct {
	t    *testing.T
	data [4096]byte
}

func (s *space) check(offset uint16, size int) {
	if size != 1 && size != 2 && size != 4 || int(offset)%size != 0 || int(offset)+size > len(s.data) {
		s.t.Errorf("function sees an access of %d bytes at %#x", size, offset)
	}
}

func (s *space) ReadConfig(offset uint16, size int) uint32 {
	s.check(offset, size)
	var v [4]byte
	copy(v[:size], s.data[offset:])
	return binary.LittleEndian.Uint32(v[:])
}

func (s *space) WriteConfig(offset uint16, size int, value uint32) {
	s.check(offset, size)
	var v [4]byte
	binary.LittleEndian.PutUint32(v[:], value)
	copy(s.data[offset:], v[:size])
}

// port is a one-byte device that remembers.
type port struct{ v uint32 }

func (p *port) ReadPIO(uint16, int) uint32         { return p.v }
func (p *port) WritePIO(_ uint16, _ int, v uint32) { p.v = v }

func TestLinuxFindsMechanismOne(t *testing.T) {
	h := New(testECAM, &port{})
	// First Linux rules out mechanism #2, which has byte registers here.
	h.WritePIO(3, 1, 0)
	h.WritePIO(0, 1, 0)
	if got := h.ReadPIO(0, 1) & 0xff; got != 0xff {
		t.Errorf("byte read of CF8h = %#x", got)
	}
	h.WritePIO(3, 1, 1)
	h.WritePIO(0, 4, 0x80000000)
	if got := h.ReadPIO(0, 4); got != 0x80000000 {
		t.Errorf("CONFIG_ADDRESS = %#x", got)
	}
	h.WritePIO(0, 4, 0xffffffff)
	if got := h.ReadPIO(0, 4); got != addressMask {
		t.Errorf("CONFIG_ADDRESS keeps %#x", got)
	}
	h.Reset()
	if got := h.ReadPIO(4, 4); got != 0xffffffff {
		t.Errorf("data without enable = %#x", got)
	}
}

func TestHostBridge(t *testing.T) {
	h := New(testECAM, &port{})
	for _, c := range []struct {
		name string
		reg  uint16
		size int
		want uint32
	}{
		{"id", 0x00, 4, 0x29c08086},
		{"device", 0x02, 2, 0x29c0},
		{"class", 0x0b, 1, 0x06},
		{"subclass", 0x0a, 1, 0x00},
		{"header type", 0x0e, 1, 0x00},
		{"PCIEXBAR", 0x60, 4, testECAM | 1},
		{"capabilities", 0x34, 1, 0},
	} {
		h.WritePIO(0, 4, addressEnable|uint32(c.reg&^3))
		mask := uint32(uint64(1)<<(8*c.size) - 1)
		offset := portData + c.reg&3
		h.WritePIO(offset, c.size, 0xffffffff)
		if got := h.ReadPIO(offset, c.size) & mask; got != c.want {
			t.Errorf("%s through ports = %#x, want %#x", c.name, got, c.want)
		}
		h.WriteMMIO(uint64(c.reg), c.size, 0)
		if got := uint32(h.ReadMMIO(uint64(c.reg), c.size)) & mask; got != c.want {
			t.Errorf("%s through ECAM = %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := h.ReadMMIO(0x100, 4); got != 0 {
		t.Errorf("extended capabilities = %#x", got)
	}
}

func TestAbsentFunctionsReadOnes(t *testing.T) {
	h := New(testECAM, &port{})
	for at := range 1 << 16 {
		want := uint32(0xffffffff)
		if at == 0 {
			want = 0x29c08086
		}
		h.WritePIO(0, 4, addressEnable|uint32(at)<<addressBDFShift)
		if got := h.ReadPIO(portData, 4); got != want {
			t.Fatalf("%s reads %#x", Address(at), got)
		}
	}
	if got := h.ReadMMIO(ECAMSize-8, 8); got != 0xffffffff_ffffffff {
		t.Errorf("end of ECAM reads %#x", got)
	}
}

func TestAddedFunction(t *testing.T) {
	h := New(testECAM, &port{})
	at := MakeAddress(0, 3, 0)
	f := &space{t: t}
	if err := h.Add(at, f); err != nil {
		t.Fatal(err)
	}
	h.WritePIO(0, 4, addressEnable|uint32(at)<<addressBDFShift|0x10)
	h.WritePIO(portData, 4, 0x44332211)
	h.WritePIO(portData+2, 2, 0x8877)
	h.WritePIO(portData+1, 2, 0xbbaa) // misaligned
	if got := h.ReadPIO(portData, 4); got != 0x88bbaa11 {
		t.Errorf("through ports %#x", got)
	}
	base := uint64(at) << ecamBDFShift
	if got := h.ReadMMIO(base+0x11, 2) & 0xffff; got != 0xbbaa {
		t.Errorf("through ECAM %#x", got)
	}
	h.WriteMMIO(base+0xff8, 8, 0x1122334455667788)
	if got := h.ReadMMIO(base+0xff8, 8); got != 0x1122334455667788 {
		t.Errorf("8 bytes through ECAM %#x", got)
	}
	// Past the end of the function there is nothing.
	h.WriteMMIO(base+0xffe, 4, 0xaabbccdd)
	if got := h.ReadMMIO(base+0xffe, 4) & 0xffffffff; got != 0xffffccdd {
		t.Errorf("across the end %#x", got)
	}
}

func TestAddRefusals(t *testing.T) {
	h := New(testECAM, &port{})
	f := &space{t: t}
	for _, c := range []struct {
		at   Address
		want error
	}{
		{MakeAddress(0, 0, 0), errTaken},
		{MakeAddress(0, 0, 1), nil},
		{MakeAddress(0, 0, 1), errTaken},
		{MakeAddress(0, 4, 1), errBadAddress},
		{MakeAddress(0, 4, 0), nil},
		{MakeAddress(0, 4, 1), nil},
	} {
		err := h.Add(c.at, f)
		if !errors.Is(err, c.want) || (err != nil) != errors.Is(err, ErrAdd) {
			t.Errorf("Add(%s) = %v, want %v", c.at, err, c.want)
		}
	}
}

func TestResetControlSharesTheRange(t *testing.T) {
	p := &port{}
	h := New(testECAM, p)
	h.WritePIO(0, 4, 0x80000600)
	h.WritePIO(1, 2, 0xffff)
	h.WritePIO(2, 1, 0xff)
	if p.v != 0 {
		t.Errorf("reset control got %#x from accesses that are not its own", p.v)
	}
	h.WritePIO(1, 1, 0x06)
	if p.v != 6 || h.ReadPIO(1, 1) != 6 {
		t.Errorf("reset control has %#x", p.v)
	}
	if got := h.ReadPIO(0, 4); got != 0x80000600 {
		t.Errorf("CONFIG_ADDRESS = %#x", got)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	h := New(testECAM, &port{})
	if n := testing.AllocsPerRun(100, func() {
		h.WritePIO(0, 4, 0x80000060)
		h.ReadPIO(portData+1, 2)
		h.ReadMMIO(0x61, 4)
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(append([]byte{5, 0, 0x10, 0x18, 0, 0x80}, 5, 4, 1, 2, 3, 4), uint32(0x18ffd))
	f.Fuzz(func(t *testing.T, data []byte, offset uint32) {
		h := New(testECAM, &port{})
		if err := h.Add(MakeAddress(0, 3, 0), &space{t: t}); err != nil {
			t.Fatal(err)
		}
		chiptest.Play(data, &irq.ManualClock{}, chiptest.Window{Device: h, Length: PortCount})
		for _, size := range []int{1, 2, 4, 8} {
			at := uint64(offset) % (ECAMSize - 7)
			h.WriteMMIO(at, size, h.ReadMMIO(at, size))
		}
		if got := h.ReadMMIO(0, 4); got != 0x29c08086 {
			t.Errorf("host bridge reads %#x", got)
		}
	})
}
