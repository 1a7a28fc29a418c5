package virtio

import (
	"errors"
	"testing"

	"keel/hcl/abi/x86"
)

func TestIdentity(t *testing.T) {
	b := newBench(t)
	f := b.device.PCI()
	for _, c := range []struct {
		name   string
		offset uint16
		size   int
		want   uint32
	}{
		{"vendor", 0x00, 2, 0x1af4},
		{"device", 0x02, 2, 0x1048},
		{"revision", 0x08, 1, 1},
		{"class", 0x09, 1, 0x00},
		{"base class", 0x0b, 1, 0x01},
		{"subsystem vendor", 0x2c, 2, 0x1af4},
	} {
		if got := f.ReadConfig(c.offset, c.size); got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := f.ReadConfig(0x2e, 2); got < 0x40 {
		t.Errorf("subsystem %#x is that of an older device", got)
	}
	// §4.1.4: each structure is there, in a BAR, with the length of its kind. Where
	// there are two for notifications, the ports come first.
	kinds, ports := map[uint32]bool{}, false
	for at := uint16(f.ReadConfig(0x34, 1)); at != 0; at = uint16(f.ReadConfig(at+1, 1)) {
		if f.ReadConfig(at, 1) != 9 {
			continue
		}
		kind, length := f.ReadConfig(at+3, 1), f.ReadConfig(at+2, 1)
		want := map[uint32]uint32{1: 16, 2: 20, 3: 16, 4: 16, 5: 20}[kind]
		offset, size := f.ReadConfig(at+8, 4), f.ReadConfig(at+12, 4)
		if kind == 2 && f.ReadConfig(at+4, 1) == 3 && !kinds[kind] {
			ports = length == want && offset == 0 && size == 4 && f.ReadConfig(at+16, 4) == 0
			continue
		}
		if kinds[kind] || length != want || f.ReadConfig(at+4, 1) != 0 || offset+size > 0x4000 {
			t.Errorf("structure %d: length %d, %#x bytes at %#x", kind, length, size, offset)
		}
		kinds[kind] = true
	}
	if len(kinds) != 5 || !ports {
		t.Errorf("structures %v, ports %v", kinds, ports)
	}
}

func TestFeatureNegotiation(t *testing.T) {
	for _, c := range []struct {
		name     string
		platform bool
		features uint64
		ok       bool
	}{
		{"all", false, allFlags | 7, true},
		{"the least", false, plain, true},
		{"a legacy driver", false, 7, false},
		{"nothing", false, 0, false},
		{"not offered, ring", false, plain | 1<<34, false},
		{"not offered, type", false, plain | 8, false},
		{"not offered, platform", false, plain | uint64(FeatureAccessPlatform), false},
		{"platform", true, plain | uint64(FeatureAccessPlatform), true},
		{"platform and order", true, plain | uint64(FeatureAccessPlatform|FeatureOrderPlatform), true},
		{"platform refused", true, plain, false},
	} {
		b := newBench(t, func(conf *Config) { conf.Platform = c.platform })
		want := allFlags | 7
		if c.platform {
			want |= uint64(FeatureAccessPlatform | FeatureOrderPlatform)
		}
		if got := b.Offered(); got != want {
			t.Errorf("%s: offered %#x, want %#x", c.name, got, want)
		}
		if got := b.Negotiate(c.features); got != c.ok {
			t.Errorf("%s: accepted %v", c.name, got)
		}
		if got := uint64(b.device.Features()); c.ok && got != c.features || !c.ok && got != 0 {
			t.Errorf("%s: agreed on %#x", c.name, got)
		}
		if !c.ok {
			b.SetStatus(0xf) // DRIVER_OK without FEATURES_OK
			if b.device.Running() {
				t.Errorf("%s: runs", c.name)
			}
		}
	}
	b := newBench(t)
	b.SetCommon(0, 4, 2)
	if got := b.Common(4, 4); got != 0 {
		t.Errorf("features beyond bit 63: %#x", got)
	}
}

func TestFeaturesAreFixedOnceAccepted(t *testing.T) {
	b := newBench(t)
	b.Negotiate(plain)
	before := b.device.Stats().Refused
	b.SetCommon(0x08, 4, 0)
	b.SetCommon(0x0c, 4, 7)
	if b.Common(0x0c, 4) != 0 || b.device.Stats().Refused != before+1 {
		t.Error("features change after FEATURES_OK")
	}
}

func TestStatusBitsStay(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ write, want uint64 }{
		{0x01, 0x01}, {0x03, 0x03}, {0x02, 0x03}, {0x70, 0x03}, {0x80, 0x83}, {0x00, 0x00},
	} {
		if b.SetStatus(c.write); b.Status() != c.want {
			t.Errorf("status %#x after writing %#x, want %#x", b.Status(), c.write, c.want)
		}
	}
}

func TestCommonConfiguration(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name   string
		offset x86.GPA
		size   int
		write  uint64
		want   uint64
	}{
		{"feature select", 0x00, 4, 0x12345678, 0x12345678},
		{"feature", 0x04, 4, 0xffffffff, 0},
		{"config vector", 0x10, 2, 2, 2},
		{"config vector, none", 0x10, 2, 3, 0xffff},
		{"queues", 0x12, 2, 9, 2},
		{"generation", 0x15, 1, 9, 0},
		{"queue select", 0x16, 2, 1, 1},
		{"queue size", 0x18, 2, 8, 8},
		{"queue size, odd", 0x18, 2, 9, 8},
		{"queue size, none", 0x18, 2, 0, 8},
		{"queue size, too large", 0x18, 2, 32, 8},
		{"queue vector", 0x1a, 2, 1, 1},
		{"queue vector, none", 0x1a, 2, 0x100, 0xffff},
		{"queue enable, too early", 0x1c, 2, 1, 0},
		{"notify offset", 0x1e, 2, 7, 1},
		{"descriptors, low", 0x20, 4, 0x11223340, 0x11223340},
		{"descriptors, high", 0x24, 4, 0x55, 0x55},
		{"descriptors", 0x20, 8, 0x1000, 0x1000},
		{"available ring", 0x28, 8, 0x2000, 0x2000},
		{"used ring", 0x34, 4, 0x3, 0x3},
		{"queue reset, not negotiated", 0x3a, 2, 1, 0},
		{"half a field", 0x18, 1, 4, 0},
		{"two fields", 0x14, 2, 4, 0},
		{"across", 0x1f, 2, 4, 0},
		{"misaligned address", 0x22, 4, 4, 0},
		{"past the end", 0x40, 4, 4, 0},
		{"no queue selected", 0x16, 2, 2, 2},
		{"its size", 0x18, 2, 4, 0},
		{"its vector", 0x1a, 2, 0, 0xffff},
		{"its enable", 0x1c, 2, 1, 0},
		{"its address", 0x20, 8, 4, 0},
	} {
		b.SetCommon(c.offset, c.size, c.write)
		if got := b.Common(c.offset, c.size); got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, got, c.want)
		}
	}
	if b.device.Stats().Refused == 0 {
		t.Error("nothing was counted")
	}
	b.SetStatus(0)
	b.SetCommon(0x16, 2, 1)
	for _, c := range []struct {
		offset x86.GPA
		size   int
		want   uint64
	}{{0x10, 2, 0xffff}, {0x18, 2, 16}, {0x1a, 2, 0xffff}, {0x20, 8, 0}, {0x00, 4, 0}} {
		if got := b.Common(c.offset, c.size); got != c.want {
			t.Errorf("after a reset %#x holds %#x, want %#x", c.offset, got, c.want)
		}
	}
}

func TestQueueEnableChecksTheRing(t *testing.T) {
	for _, c := range []struct {
		name              string
		desc, avail, used uint64
		ok                bool
	}{
		{"good", 0x1000, 0x2000, 0x3000, true},
		{"high memory", 1 << 32, 0x2000, 0x3000, true},
		{"misaligned descriptors", 0x1008, 0x2000, 0x3000, false},
		{"misaligned available ring", 0x1000, 0x2001, 0x3000, false},
		{"misaligned used ring", 0x1000, 0x2000, 0x3002, false},
		{"out of memory", 2*mib - 512, 0x2000, 0x3000, false},
		{"in the hole", 0x1000, 0x2000, 1 << 31, false},
		{"past the end", 0x1000, 1<<32 + 2*mib - 4, 0x3000, false},
		{"at the end of all", 0x1000, 0x2000, ^uint64(3), false},
	} {
		b := newBench(t)
		b.Negotiate(plain)
		b.SetCommon(0x20, 8, c.desc)
		b.SetCommon(0x28, 8, c.avail)
		b.SetCommon(0x30, 8, c.used)
		b.SetCommon(0x1c, 2, 1)
		if on := b.Common(0x1c, 2) == 1; on != c.ok || (b.Status()&0x40 == 0) != c.ok {
			t.Errorf("%s: enabled %v, status %#x", c.name, on, b.Status())
		}
		if cause := b.device.Stats().Cause; (cause == nil) != c.ok || cause != nil && !errors.Is(cause, ErrRing) {
			t.Errorf("%s: cause %v", c.name, cause)
		}
		if !c.ok {
			continue
		}
		b.SetCommon(0x20, 8, 0x8000)
		b.SetCommon(0x1c, 2, 0)
		if b.Common(0x20, 8) != c.desc || b.Common(0x1c, 2) != 1 {
			t.Errorf("%s: an enabled queue changed", c.name)
		}
	}
}

func TestConfigurationChanges(t *testing.T) {
	b := newBench(t)
	b.handler.config[1].Store(0x44332211)
	if got := b.Config(5, 2); got != 0x3322 {
		t.Errorf("read %#x", got)
	}
	b.SetConfig(0, 4, 77)
	if b.handler.config[0].Load() != 77 {
		t.Error("a write did not arrive")
	}
	refused := b.device.Stats().Refused
	b.Config(6, 4)
	b.Config(0, 8)
	b.SetConfig(8, 4, 1)
	if got := b.device.Stats().Refused; got != refused+3 {
		t.Errorf("%d accesses outside were counted", got-refused)
	}
}

func TestConfigurationAccessCapability(t *testing.T) {
	b := newBench(t)
	f := b.device.PCI()
	var at uint16
	for at = uint16(f.ReadConfig(0x34, 1)); f.ReadConfig(at+3, 1) != capTypeAccess; {
		at = uint16(f.ReadConfig(at+1, 1))
	}
	access := func(bar, offset, size uint32) {
		f.WriteConfig(at+4, 1, bar)
		f.WriteConfig(at+8, 4, offset)
		f.WriteConfig(at+12, 4, size)
	}
	access(0, 0x12, 2)
	if got := f.ReadConfig(at+16, 4); got != 2 {
		t.Errorf("number of queues %#x", got)
	}
	access(0, 0x14, 1)
	f.WriteConfig(at+16, 4, 0x0101)
	if b.Status() != 1 || f.ReadConfig(at+16, 1) != 1 {
		t.Errorf("status %#x", b.Status())
	}
	access(2, 0x28, 4)
	if got := f.ReadConfig(at+16, 4); got != 2 {
		t.Errorf("data of vector 2 is %#x", got)
	}
	refused := b.device.Stats().Refused
	for i, c := range [][3]uint32{
		{0, 0x12, 3},
		{0, 0x12, 0},
		{0, 0x12, 8},
		{0, 0x13, 2},
		{1, 0, 4},
		{5, 0, 4},
		{255, 0, 4},
		{0, 0x4000, 4},
		{0, 0xfffffffc, 4},
		{2, 0x1000, 1},
	} {
		access(c[0], c[1], c[2])
		f.WriteConfig(at+16, 4, 0xffffffff)
		if got := f.ReadConfig(at+16, 4); got != 0 {
			t.Errorf("access %d reads %#x", i, got)
		}
	}
	f.WriteConfig(at+4, 4, 0xffffff00)
	if f.ReadConfig(at+4, 4) != 0 {
		t.Error("padding is writable")
	}
	if got := b.device.Stats().Refused - refused; got != 20 {
		t.Errorf("%d refused, want 20", got)
	}
	b.device.Reset()
	if f.ReadConfig(at+8, 4) != 0 {
		t.Error("registers survive a reset")
	}
	// The test's cleanup wants the BARs back.
	f.WriteConfig(0x10, 4, 0xc0000000)
	f.WriteConfig(0x04, 2, 6)
}

func TestRefusedConfigurations(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*Config){
		"no queues":     func(c *Config) { c.Queues = nil },
		"too many":      func(c *Config) { c.Queues = make([]uint16, 1025) },
		"odd size":      func(c *Config) { c.Queues = []uint16{24} },
		"empty queue":   func(c *Config) { c.Queues = []uint16{16, 0} },
		"no memory":     func(c *Config) { c.Memory = nil },
		"no handler":    func(c *Config) { c.Handler = nil },
		"no interrupts": func(c *Config) { c.MSI = nil },
		"configuration": func(c *Config) { c.ConfigSize = 5000 },
	} {
		c := Config{Type: 8, Queues: []uint16{16}, Memory: b.memory, MSI: b.vectors, Handler: b.handler}
		change(&c)
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}
