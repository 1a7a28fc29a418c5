package vfio

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
	"keel/hcl/pci"
	"keel/hcl/pci/pcitest"
)

// openFake opens one function with a fake device.
func openFake(tb testing.TB) (*Function, *fakeDevice, *fakeContainer) {
	tb.Helper()
	d, c := newTestDomain(tb, addressNVMe)
	return mustOpen(tb, d, addressNVMe), c.devices[addressNVMe], c
}

func TestContract(t *testing.T) {
	pcitest.Run(t, func(t *testing.T) *pcitest.Function {
		t.Helper()
		f, d, _ := openFake(t)
		return &pcitest.Function{
			Function: f,
			Signal:   func(vector int) { d.raise(vfio.PCI_MSIX_IRQ_INDEX, vector) },
			Remove:   func() { d.raise(vfio.PCI_REQ_IRQ_INDEX, 0) },
		}
	})
}

func TestIdentity(t *testing.T) {
	f, d, _ := openFake(t)
	want := pci.ID{Vendor: 0x1b36, Device: 0x10, Class: classNVMe, Address: addressNVMe}
	if f.ID() != want || f.Group() != 1 {
		t.Errorf("%+v in group %d, want %+v", f.ID(), f.Group(), want)
	}
	if n := f.MaxInterrupts(); n != fakeVector {
		t.Errorf("%d interrupts", n)
	}
	// Opening turns memory decoding on, and mastering off.
	if c := d.command(); c != commandMemory|commandINTxDisable {
		t.Errorf("command register is %#x", c)
	}
	if err := f.Master(true); err != nil || d.command()&commandMaster == 0 {
		t.Errorf("%v, command register is %#x", err, d.command())
	}
	if err := f.Close(); err != nil || d.command()&commandMaster != 0 {
		t.Errorf("%v, command register is %#x", err, d.command())
	}
}

func TestMSIXTableIsOutOfReach(t *testing.T) {
	f, d, _ := openFake(t)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	if d.mmaps != 2 {
		t.Errorf("%d mappings, want one before and one behind the table", d.mmaps)
	}
	for _, c := range []struct {
		at    int
		there bool
	}{
		{0, true},
		{pageSize - 8, true},
		{pageSize, true}, // not mapped from here on
		{fakeTable - 8, true},
		{fakeTable, false},
		{fakeTable + fakeVector*msixEntrySize - 8, false},
		{fakeTable + fakeVector*msixEntrySize, true},
		{2*pageSize - 8, true},
		{2 * pageSize, true}, // mapped again
		{fakeBAR - 8, true},
	} {
		r.Write32(c.at, 0x11111111)
		r.Write64(c.at, 0x0123456789abcdef)
		var b [8]byte
		if _, err := unix.Pread(d.bar, b[:], int64(c.at)); err != nil {
			t.Fatal(err)
		}
		if got := b != [8]byte{}; got != c.there {
			t.Errorf("at %#x a write arrives: %v", c.at, got)
		}
		want32, want64 := uint32(0x89abcdef), uint64(0x0123456789abcdef)
		if !c.there {
			want32, want64 = ones32, ones64
		}
		if v := r.Read32(c.at); v != want32 {
			t.Errorf("Read32(%#x) is %#x, want %#x", c.at, v, want32)
		}
		if v := r.Read64(c.at); v != want64 {
			t.Errorf("Read64(%#x) is %#x, want %#x", c.at, v, want64)
		}
	}
	if s := f.Stats(); s.Outside != 8 {
		t.Errorf("%d accesses outside, want 8", s.Outside)
	}
}

func TestRevokedRegistersReadAsOnes(t *testing.T) {
	f, d, _ := openFake(t)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	d.revoke()
	r.Write32(0, 1)
	r.Write64(8, 1)
	if a, b := r.Read32(0), r.Read64(8); a != ones32 || b != ones64 {
		t.Errorf("read %#x, %#x", a, b)
	}
	if v := r.Read32(pageSize); v != ones32 { // through the kernel
		t.Errorf("read %#x", v)
	}
	if s := f.Stats(); s.Faults != 4 || s.Failed != 1 {
		t.Errorf("%+v, want 4 faults and a failure", s)
	}
}

// TestAddressesOfRegistersStayReserved closes a function whose registers a driver
// still has.
func TestAddressesOfRegistersStayReserved(t *testing.T) {
	f, _, _ := openFake(t)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	m := r.(*registers).areas[0].mapping
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	// msync(2) says ENOMEM where nothing is mapped.
	if err := unix.Msync(m, unix.MS_ASYNC); err != nil {
		t.Errorf("the addresses are free: %v", err)
	}
	if v := r.Read32(0); v != ones32 {
		t.Errorf("read %#x", v)
	}
}

func TestRegistersDoNotAllocate(t *testing.T) {
	f, _, _ := openFake(t)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		r.Write32(0, r.Read32(0))
		r.Write64(8, r.Read64(8))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestInterruptDoesNotAllocate(t *testing.T) {
	f, d, _ := openFake(t)
	list, err := f.Interrupts(1)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		d.raise(vfio.PCI_MSIX_IRQ_INDEX, 0)
		if err := list[0].Wait(); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRegistersRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bar   int
		spoil func(d *fakeDevice)
		want  error
	}{
		"ports":             {2, func(*fakeDevice) {}, pci.ErrLimit},
		"none":              {1, func(*fakeDevice) {}, pci.ErrLimit},
		"huge":              {0, func(d *fakeDevice) { d.regions[0] = region{size: maxBAR + 1} }, pci.ErrLimit},
		"table beyond":      {0, func(d *fakeDevice) { d.regions[0] = region{size: fakeTable + 64} }, ErrHardware},
		"config space gone": {0, func(d *fakeDevice) { delete(d.regions, vfio.PCI_CONFIG_REGION_INDEX) }, ErrConfig},
	} {
		t.Run(name, func(t *testing.T) {
			f, d, _ := openFake(t)
			c.spoil(d)
			if r, err := f.Registers(c.bar); !errors.Is(err, c.want) || !errors.Is(err, ErrBAR) || r != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestHostileHardware opens functions that describe themselves wrongly.
func TestHostileHardware(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(d *fakeDevice)
		want  error
	}{
		"not PCI":        {func(d *fakeDevice) { d.flag = 0 }, ErrHardware},
		"not there":      {func(d *fakeDevice) { d.put16(cfgVendorID, 0xffff) }, pci.ErrGone},
		"a bridge":       {func(d *fakeDevice) { d.config[cfgHeaderType] = 0x81 }, ErrHardware},
		"a loop":         {func(d *fakeDevice) { d.config[0x41] = 0x40 }, ErrCapabilities},
		"in the header":  {func(d *fakeDevice) { d.config[0x41] = 0x10 }, ErrCapabilities},
		"MSI-X cut":      {func(d *fakeDevice) { d.config[0x41], d.config[0xfc] = 0xfc, capabilityMSIX }, ErrCapabilities},
		"table in BAR 7": {func(d *fakeDevice) { d.put32(0x50+msixTable, 7) }, ErrHardware},
		"tiny config": {func(d *fakeDevice) {
			d.regions[vfio.PCI_CONFIG_REGION_INDEX] = region{size: 64, offset: 7 << 40}
		}, ErrHardware},
		"huge config": {func(d *fakeDevice) {
			d.regions[vfio.PCI_CONFIG_REGION_INDEX] = region{size: 8192, offset: 7 << 40}
		}, ErrHardware},
		"no removal": {func(d *fakeDevice) { delete(d.counts, vfio.PCI_REQ_IRQ_INDEX) }, ErrIRQ},
	} {
		t.Run(name, func(t *testing.T) {
			d, fake := newTestDomain(t, addressNVMe)
			dev := fake.devices[addressNVMe]
			c.spoil(dev)
			if f, err := d.Open(addressNVMe, OpenOptions{}); !errors.Is(err, c.want) || f != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !dev.closed || len(fake.groups) > 0 {
				t.Errorf("device closed: %v, groups: %v", dev.closed, fake.groups)
			}
		})
	}
}

func TestInterruptLimits(t *testing.T) {
	f, d, _ := openFake(t)
	d.counts[vfio.PCI_MSIX_IRQ_INDEX] = 1 << 31
	if n := f.MaxInterrupts(); n != fakeVector {
		t.Errorf("the kernel says 1<<31, the function 8: %d", n)
	}
	d.counts[vfio.PCI_MSIX_IRQ_INDEX] = 3
	if n := f.MaxInterrupts(); n != 3 {
		t.Errorf("the kernel says 3, the function 8: %d", n)
	}
	d.fails[vfio.PCI_MSIX_IRQ_INDEX] = unix.ENOSPC
	if _, err := f.Interrupts(2); !errors.Is(err, pci.ErrLimit) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ErrLimit", err)
	}
	delete(d.fails, vfio.PCI_MSIX_IRQ_INDEX)
	if list, err := f.Interrupts(2); err != nil || len(list) != 2 {
		t.Errorf("%d interrupts, %v", len(list), err)
	}
	if list, err := f.Interrupts(0); err != nil || len(list) != 0 {
		t.Errorf("%d interrupts, %v", len(list), err)
	}
	if s := f.Stats(); s.Refused != 1 {
		t.Errorf("%+v, want one refusal", s)
	}
}

// TestGoneReachesNoMemory looks at the function when Gone closes, for both reasons.
func TestGoneReachesNoMemory(t *testing.T) {
	for name, index := range map[string]uint32{"removal": vfio.PCI_REQ_IRQ_INDEX, "error": vfio.PCI_ERR_IRQ_INDEX} {
		t.Run(name, func(t *testing.T) {
			f, d, _ := openFake(t)
			if err := f.Master(true); err != nil {
				t.Fatal(err)
			}
			d.raise(index, 0)
			select {
			case <-f.Gone():
			case <-time.After(10 * time.Second):
				t.Fatal("Gone is not closed")
			}
			if d.command()&commandMaster != 0 {
				t.Error("the function masters the bus")
			}
			if d.closed {
				t.Error("the device is closed before its owner does so")
			}
			if s := f.Stats(); s.Removal+s.Errors != 1 || (s.Removal == 1) != (name == "removal") {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestBuffersAreMappedAndUnmapped(t *testing.T) {
	f, _, c := openFake(t)
	b, err := f.Allocate(3 * pageSize)
	if err != nil {
		t.Fatal(err)
	}
	if c.mapped[b.DMA] != 3*pageSize || b.DMA < windowStart || b.DMA+3*pageSize > windowEnd {
		t.Errorf("at %#x: %#x", b.DMA, c.mapped)
	}
	c.full = unix.ENOSPC
	if _, err := f.Allocate(1); !errors.Is(err, pci.ErrLimit) {
		t.Errorf("%v, want ErrLimit", err)
	}
	if err := f.Close(); err != nil || len(c.mapped) > 0 {
		t.Errorf("%v, still mapped: %#x", err, c.mapped)
	}
}

func TestResetUnsupported(t *testing.T) {
	d, c := newTestDomain(t, addressNVMe)
	c.devices[addressNVMe].flag = vfio.DEVICE_FLAGS_PCI
	if err := mustOpen(t, d, addressNVMe).Reset(); !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, ErrReset) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
	if n := c.devices[addressNVMe].resets; n != 0 {
		t.Errorf("%d resets", n)
	}
}

// FuzzConfig reads arbitrary configuration spaces.
func FuzzConfig(f *testing.F) {
	d := newFakeDevice(f)
	f.Add(d.config[:])
	d.config[0x41] = 0x40
	f.Add(d.config[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var c [cfgSize]byte
		copy(c[:], b)
		id, m, err := parseConfig(&c)
		if err != nil {
			return
		}
		if id.Class > 1<<24-1 || id.Vendor == noVendor {
			t.Errorf("%+v", id)
		}
		if m.vectors < 0 || m.vectors > maxVectors || m.bar < 0 || m.bar >= cfgBARs {
			t.Errorf("%+v", m)
		}
		if n := m.table.end - m.table.start; n != uint64(m.vectors)*msixEntrySize || m.table.start%8 != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// BenchmarkDoorbell measures the store of a doorbell register.
func BenchmarkDoorbell(b *testing.B) {
	f, _, _ := openFake(b)
	r, err := f.Registers(0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.Write32(0, 1)
	}
}
