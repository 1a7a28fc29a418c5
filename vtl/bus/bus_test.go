package bus

import (
	"errors"
	"testing"

	"keel/hcl/abi/x86"
)

// echo answers reads with what was written last, per offset.
type echo struct {
	values map[uint64]uint64
	sizes  []int
}

func newEcho() *echo { return &echo{values: map[uint64]uint64{}} }

func (e *echo) ReadMMIO(offset uint64, size int) uint64 {
	e.sizes = append(e.sizes, size)
	return e.values[offset]
}

func (e *echo) WriteMMIO(offset uint64, size int, value uint64) {
	e.sizes = append(e.sizes, size)
	e.values[offset] = value
}

func (e *echo) ReadPIO(offset uint16, size int) uint32 {
	return uint32(e.ReadMMIO(uint64(offset), size))
}

func (e *echo) WritePIO(offset uint16, size int, value uint32) {
	e.WriteMMIO(uint64(offset), size, uint64(value))
}

func TestPortsRefuseOverlap(t *testing.T) {
	var p Ports
	if err := p.Map("a", 0x60, 1, newEcho()); err != nil {
		t.Fatal(err)
	}
	if err := p.Map("b", 0x64, 4, newEcho()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first uint16
		count int
	}{{0x60, 1}, {0x5f, 2}, {0x63, 2}, {0x67, 1}, {0x66, 10}, {0x50, 0}, {0xffff, 2}, {0x00, 0x10000}} {
		if err := p.Map("c", c.first, c.count, newEcho()); !errors.Is(err, ErrOverlap) {
			t.Errorf("mapping %#x+%d: %v, want ErrOverlap", c.first, c.count, err)
		}
	}
	if err := p.Map("between", 0x61, 3, newEcho()); err != nil {
		t.Errorf("the gap was refused: %v", err)
	}
}

func TestPortsRoute(t *testing.T) {
	var p Ports
	a, b := newEcho(), newEcho()
	for _, err := range []error{p.Map("a", 0x10, 4, a), p.Map("b", 0x14, 1, b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.Write(0x10, 4, 0x11223344)
	if v := p.Read(0x10, 4); v != 0x11223344 {
		t.Errorf("read %#x", v)
	}
	// An access over the edge becomes bytes; the hole reads ones.
	p.Write(0x13, 4, 0xaabbccdd)
	if a.values[3] != 0xdd || b.values[0] != 0xcc {
		t.Errorf("split write left %#x and %#x", a.values[3], b.values[0])
	}
	if v := p.Read(0x13, 4); v != 0xffffccdd {
		t.Errorf("split read %#x", v)
	}
	if v := p.Read(0xfffe, 4); v != 0xffffffff {
		t.Errorf("read at the end of port space %#x", v)
	}
	p.Write(0xffff, 4, 1)
	if n := p.Unclaimed(); n != 2 {
		t.Errorf("%d unclaimed accesses, want 2", n)
	}
}

func TestMemoryRoutes(t *testing.T) {
	var m Memory
	d := newEcho()
	if err := m.Map("d", 0xfec00000, 0x1000, d); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first x86.GPA
		size  uint64
	}{{0xfec00fff, 1}, {0xfebfffff, 2}, {0, 1 << 40}, {1, 0}, {^x86.GPA(0), 2}} {
		if err := m.Map("e", c.first, c.size, newEcho()); !errors.Is(err, ErrOverlap) {
			t.Errorf("mapping %#x+%#x: %v, want ErrOverlap", c.first, c.size, err)
		}
	}
	m.Write(0xfec00010, 8, 0x1122334455667788)
	if v := m.Read(0xfec00010, 8); v != 0x1122334455667788 {
		t.Errorf("read %#x", v)
	}
	if v := m.Read(0xfec00010, 2); v != 0x7788 {
		t.Errorf("a narrow read is not masked: %#x", v)
	}
	for _, gpa := range []x86.GPA{0xfec00ffd, 0xfebfffff, 0xfec01000, ^x86.GPA(0)} {
		if v := m.Read(gpa, 4); v != 0xffffffff {
			t.Errorf("read at %#x: %#x", gpa, v)
		}
	}
	if n := m.Unclaimed(); n != 4 {
		t.Errorf("%d unclaimed accesses, want 4", n)
	}
}

func TestDispatchDoesNotAllocate(t *testing.T) {
	var p Ports
	var m Memory
	d := &fixed{}
	for i := range 32 {
		if err := p.Map("d", uint16(i*8), 4, d); err != nil {
			t.Fatal(err)
		}
		if err := m.Map("d", x86.GPA(i)<<12, 64, d); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		p.Write(0x80, 4, p.Read(0x83, 4))
		m.Write(0x5000, 8, m.Read(0x7fff, 4))
	}); n != 0 {
		t.Errorf("dispatch allocates %v times", n)
	}
}

type fixed struct{ v uint64 }

func (f *fixed) ReadPIO(uint16, int) uint32          { return uint32(f.v) }
func (f *fixed) WritePIO(_ uint16, _ int, v uint32)  { f.v = uint64(v) }
func (f *fixed) ReadMMIO(uint64, int) uint64         { return f.v }
func (f *fixed) WriteMMIO(_ uint64, _ int, v uint64) { f.v = v }

// FuzzDispatch throws accesses at a bus with claims in awkward places: nothing
// may panic, and no device may see an access outside of its range.
func FuzzDispatch(f *testing.F) {
	f.Add(uint64(0x3f8), uint8(1), uint64(0x41), true)
	f.Add(uint64(0xffff), uint8(2), uint64(0), false)
	f.Add(uint64(0xfee00ffd), uint8(3), uint64(1)<<63, true)
	f.Fuzz(func(t *testing.T, address uint64, sizeLog uint8, value uint64, write bool) {
		var p Ports
		var m Memory
		for _, r := range []struct {
			first uint16
			count int
		}{{0, 1}, {0x3f8, 8}, {0x400, 3}, {0xcf8, 8}, {0xffff, 1}} {
			if err := p.Map("p", r.first, r.count, bounded{t, uint64(r.count)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range []struct {
			first x86.GPA
			size  uint64
		}{{0, 1}, {0xfec00000, 0x1000}, {0xfee00000, 0xfff}, {^x86.GPA(0) - 7, 8}} {
			if err := m.Map("m", r.first, r.size, bounded{t, r.size}); err != nil {
				t.Fatal(err)
			}
		}
		size := 1 + int(sizeLog%8)
		portSize := 1 << (sizeLog % 3)
		if write {
			p.Write(uint16(address), portSize, uint32(value))
			m.Write(x86.GPA(address), size, value)
			return
		}
		if v := p.Read(uint16(address), portSize); portSize < 4 && v>>(8*portSize) != 0 {
			t.Errorf("port read of %d bytes gave %#x", portSize, v)
		}
		if v := m.Read(x86.GPA(address), size); size < 8 && v>>(8*size) != 0 {
			t.Errorf("read of %d bytes gave %#x", size, v)
		}
	})
}

// bounded fails the test on an access outside of its range.
type bounded struct {
	t    *testing.T
	size uint64
}

func (b bounded) check(offset uint64, size int) {
	if size != 1 && size != 2 && size != 4 && size != 8 {
		b.t.Errorf("access of %d bytes", size)
	}
	if offset >= b.size || b.size-offset < uint64(size) {
		b.t.Errorf("access of %d bytes at %#x of a device with %#x", size, offset, b.size)
	}
}

func (b bounded) ReadPIO(offset uint16, size int) uint32 {
	b.check(uint64(offset), size)
	return ^uint32(0)
}
func (b bounded) WritePIO(offset uint16, size int, _ uint32) { b.check(uint64(offset), size) }
func (b bounded) ReadMMIO(offset uint64, size int) uint64 {
	b.check(offset, size)
	return ^uint64(0)
}
func (b bounded) WriteMMIO(offset uint64, size int, _ uint64) { b.check(offset, size) }
