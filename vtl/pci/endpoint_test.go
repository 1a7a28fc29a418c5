package pci

import (
	"errors"
	"testing"

	"keel/hcl/abi/x86"
)

// page is a device that remembers the last access.
type page struct {
	offset uint64
	size   int
	value  uint64
}

func (p *page) ReadMMIO(offset uint64, size int) uint64 {
	p.offset, p.size = offset, size
	return p.value
}

func (p *page) WriteMMIO(offset uint64, size int, value uint64) {
	p.offset, p.size, p.value = offset, size, value
}

// window is a capability handler that remembers.
type window struct {
	offset, size int
	value        uint32
}

func (w *window) ReadCapability(offset, size int) uint32 {
	w.offset, w.size = offset, size
	return w.value
}

func (w *window) WriteCapability(offset, size int, value uint32) {
	w.offset, w.size, w.value = offset, size, value
}

// doors is a port device that remembers.
type doors struct{ value uint32 }

func (d *doors) ReadPIO(uint16, int) uint32             { return d.value }
func (d *doors) WritePIO(_ uint16, _ int, value uint32) { d.value = value }

func testConfig(target *messages) Config {
	return Config{
		Vendor: 0x1af4, Device: 0x1048, SubsystemVendor: 0x1af4, Subsystem: 0x1100,
		Class: 0x010000, Revision: 1,
		BARs: [6]BAR{
			0: {Size: 16 << 10, Wide: true, Prefetch: true, Device: &page{}},
			3: {Size: 64, Device: &page{}},
			4: {Size: 32, Ports: &doors{}},
		},
		Capabilities: []Capability{
			{ID: CapabilityVendor, Body: []byte{16, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}},
			{ID: CapabilityVendor, Body: make([]byte, 18), Handler: &window{}},
		},
		Vectors: 3, VectorBAR: 2, MSI: target,
	}
}

func newEndpoint(t *testing.T, c Config) *Endpoint {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestHeader(t *testing.T) {
	e := newEndpoint(t, testConfig(&messages{}))
	for _, c := range []struct {
		name   string
		offset uint16
		size   int
		write  uint32
		want   uint32
	}{
		{"vendor and device", 0x00, 4, 0xffffffff, 0x10481af4},
		{"command", 0x04, 2, 0xffff, 0x0407},
		{"status", 0x06, 2, 0xffff, 0x0010},
		{"revision", 0x08, 1, 0xff, 1},
		{"class", 0x08, 4, 0, 0x01000001},
		{"cache line", 0x0c, 1, 0x10, 0x10},
		{"latency", 0x0d, 1, 0xff, 0},
		{"header type", 0x0e, 1, 0xff, 0},
		{"subsystem", 0x2c, 4, 0, 0x11001af4},
		{"expansion ROM", 0x30, 4, 0xffffffff, 0},
		{"capabilities", 0x34, 1, 0xff, 0x40},
		{"interrupt line", 0x3c, 1, 0x0b, 0x0b},
		{"interrupt pin", 0x3d, 1, 0xff, 0},
		{"extended space", 0x100, 4, 0xffffffff, 0},
		{"end of extended space", 0xffc, 4, 0xffffffff, 0},
	} {
		e.WriteConfig(c.offset, c.size, c.write)
		if got := e.ReadConfig(c.offset, c.size); got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, got, c.want)
		}
	}
	e.ReadConfig(1, 2)
	e.WriteConfig(0, 3, 0)
	if got := e.Stats().ConfigLost; got != 2 {
		t.Errorf("%d malformed accesses counted, want 2", got)
	}
}

func TestBARSizing(t *testing.T) {
	e := newEndpoint(t, testConfig(&messages{}))
	for _, c := range []struct {
		index int
		want  uint32
	}{
		{0, 0xffffc00c}, {1, 0xffffffff}, {2, 0xfffff000}, {3, 0xffffffc0}, {4, 0xffffffe1}, {5, 0},
	} {
		at := uint16(regBAR + 4*c.index)
		e.WriteConfig(at, 4, 0xffffffff)
		if got := e.ReadConfig(at, 4); got != c.want {
			t.Errorf("BAR %d sizes as %#x, want %#x", c.index, got, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	c := testConfig(&messages{})
	e := newEndpoint(t, c)
	e.WriteConfig(0x10, 4, 0x00004000)
	e.WriteConfig(0x14, 4, 0x80)
	e.WriteConfig(0x1c, 2, 0x1040) // half a register
	e.WriteConfig(0x1e, 2, 0xc000)
	if _, _, ok := e.DecodeMMIO(0x8000004000, 4); ok {
		t.Error("decodes without memory space enabled")
	}
	e.WriteConfig(0x04, 2, commandMemory)
	for _, a := range []struct {
		gpa    x86.GPA
		size   int
		bar    int // -1: not decoded
		offset uint64
	}{
		{0x8000004000, 4, 0, 0},
		{0x8000007ff8, 8, 0, 0x3ff8},
		{0x8000007ffc, 8, -1, 0},
		{0x8000003fff, 1, -1, 0},
		{0x8000008000, 1, -1, 0},
		{0xc000107f - 0x3f, 1, 3, 0},
		{0xc000107f, 1, 3, 0x3f},
		{0xc000107f, 2, -1, 0},
		{0x4000, 4, -1, 0},
		{^x86.GPA(0), 8, -1, 0},
	} {
		d, offset, ok := e.DecodeMMIO(a.gpa, a.size)
		if ok != (a.bar >= 0) || ok && (d != c.BARs[a.bar].Device || offset != a.offset) {
			t.Errorf("%d bytes at %#x: %v, offset %#x", a.size, a.gpa, ok, offset)
		}
	}
	e.Reset()
	if _, _, ok := e.DecodeMMIO(0x8000004000, 4); ok || e.ReadConfig(0x14, 4) != 0 {
		t.Error("decodes after a reset")
	}
}

func TestDecodePorts(t *testing.T) {
	c := testConfig(&messages{})
	e := newEndpoint(t, c)
	e.WriteConfig(0x20, 4, 0xc020)
	if got := e.ReadConfig(0x20, 4); got != 0xc021 {
		t.Errorf("the register is %#x", got)
	}
	if _, _, ok := e.DecodePIO(0xc020, 2); ok {
		t.Error("decodes without I/O space enabled")
	}
	e.WriteConfig(0x04, 2, commandPorts)
	for _, a := range []struct {
		port   uint16
		size   int
		ok     bool
		offset uint16
	}{{0xc020, 2, true, 0}, {0xc03f, 1, true, 31}, {0xc03f, 2, false, 0}, {0xc01f, 4, false, 0}, {0xc040, 1, false, 0}, {0, 1, false, 0}} {
		d, offset, ok := e.DecodePIO(a.port, a.size)
		if ok != a.ok || ok && (d != c.BARs[4].Ports || offset != a.offset) {
			t.Errorf("%d bytes at port %#x: %v, offset %d", a.size, a.port, ok, offset)
		}
	}
	if _, _, ok := e.DecodeMMIO(0xc020, 1); ok {
		t.Error("ports answer in memory")
	}
}

func TestCapabilityList(t *testing.T) {
	c := testConfig(&messages{})
	e := newEndpoint(t, c)
	var ids []uint32
	var last uint16
	for at := uint16(e.ReadConfig(regCapability, 1)); at != 0; at = uint16(e.ReadConfig(at+1, 1)) {
		ids, last = append(ids, e.ReadConfig(at, 1)), at
		if at%4 != 0 || len(ids) > 3 {
			t.Fatalf("capability %d at %#x", len(ids), at)
		}
	}
	if len(ids) != 3 || ids[0] != 0x11 || ids[1] != 9 || ids[2] != 9 {
		t.Fatalf("capabilities %#x", ids)
	}
	if got := e.ReadConfig(0x40, 4); got != 0x00024c11 {
		t.Errorf("MSI-X header %#x", got)
	}
	if table, pba := e.ReadConfig(0x44, 4), e.ReadConfig(0x48, 4); table != 2 || pba != 0x802 {
		t.Errorf("MSI-X table %#x, pending bits %#x", table, pba)
	}
	if got := e.ReadConfig(0x4c+8, 4); got != 0x04030201 {
		t.Errorf("body of a vendor's capability %#x", got)
	}
	w := c.Capabilities[1].Handler.(*window)
	e.WriteConfig(last+18, 2, 0xbeef)
	if w.offset != 18 || w.size != 2 || w.value != 0xbeef {
		t.Errorf("handler saw %+v", *w)
	}
	if got := e.ReadConfig(last+16, 4); got != 0xbeef || w.offset != 16 {
		t.Errorf("handler's register %#x at %d", got, w.offset)
	}
	e.WriteConfig(last, 4, 0xffffffff)
	if w.offset != 16 || e.ReadConfig(last, 1) != 9 {
		t.Error("the head of a capability is writable")
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]func(*Config){
		"odd size":            func(c *Config) { c.BARs[3].Size = 100 },
		"tiny":                func(c *Config) { c.BARs[3].Size = 8 },
		"nobody answers":      func(c *Config) { c.BARs[3].Device = nil },
		"no size":             func(c *Config) { c.BARs[3].Size = 0 },
		"too large":           func(c *Config) { c.BARs[3].Size = 1 << 32 },
		"wide at the end":     func(c *Config) { c.BARs[5] = BAR{Size: 16, Wide: true, Device: &page{}} },
		"wide over another":   func(c *Config) { c.BARs[3].Wide, c.BARs[4] = true, BAR{Size: 16, Device: &page{}} },
		"table over another":  func(c *Config) { c.VectorBAR = 3 },
		"table over the half": func(c *Config) { c.VectorBAR = 1 },
		"vectors":             func(c *Config) { c.Vectors = 2049 },
		"no target":           func(c *Config) { c.MSI = nil },
		"capabilities":        func(c *Config) { c.Capabilities[0].Body = make([]byte, 200) },
	} {
		conf := testConfig(&messages{})
		c(&conf)
		if _, err := New(conf); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

func TestSaveAndRestore(t *testing.T) {
	a := newEndpoint(t, testConfig(&messages{}))
	a.WriteConfig(0x10, 4, 0x10000)
	a.WriteConfig(0x04, 2, 0x406)
	a.WriteConfig(0x42, 2, msixControlEnable|msixControlMask)
	setVector(a, 1, 0xfee00000, 0x41, 0)
	a.Signal(1)
	got := &messages{}
	b := newEndpoint(t, testConfig(got))
	if err := b.Restore(a.Save()); err != nil {
		t.Fatal(err)
	}
	for at := uint16(0); at < 0x100; at += 4 {
		if x, y := a.ReadConfig(at, 4), b.ReadConfig(at, 4); x != y {
			t.Errorf("register %#x is %#x, was %#x", at, y, x)
		}
	}
	b.WriteConfig(0x42, 2, msixControlEnable)
	if got.count() != 1 {
		t.Errorf("%d messages after the mask went, want the pending one", got.count())
	}
	s := a.Save()
	s.Vectors = s.Vectors[:1]
	if err := b.Restore(s); !errors.Is(err, errState) {
		t.Errorf("state of another function: %v", err)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	e := newEndpoint(t, testConfig(&messages{}))
	e.WriteConfig(0x04, 2, 6)
	e.WriteConfig(0x42, 2, msixControlEnable)
	setVector(e, 0, 0xfee00000, 0x41, 0)
	if n := testing.AllocsPerRun(100, func() {
		e.ReadConfig(0x10, 4)
		e.WriteConfig(0x10, 4, 0x10000)
		e.DecodeMMIO(0x10010, 4)
		e.Signal(0)
		e.Signal(1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
