package vfio

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/pci"
)

// memory maps pages of memory.
func memory(tb testing.TB, size int) []byte {
	tb.Helper()
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}

// newTestDomain makes a domain with functions of these addresses, each in a group of
// its own, counted from 1.
func newTestDomain(tb testing.TB, addresses ...string) (*Domain, *fakeContainer) {
	tb.Helper()
	tr, m := newTree(tb)
	c := newFakeContainer(tb)
	for i, a := range addresses {
		tr.add(a, classNVMe, "", i+1)
		c.devices[a] = newFakeDevice(tb)
	}
	d := newDomain(Options{Machine: m}, c)
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
		if !c.closed || len(c.groups) > 0 {
			tb.Errorf("the domain is closed: container %v, groups %v", c.closed, c.groups)
		}
	})
	return d, c
}

func mustOpen(tb testing.TB, d *Domain, address string) *Function {
	tb.Helper()
	f, err := d.Open(address, OpenOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestGuestMemoryIsMapped(t *testing.T) {
	const second = "0000:01:00.0"
	d, c := newTestDomain(t, addressNVMe, second)
	low := Region{0, memory(t, 16*pageSize)}
	high := Region{4 << 30, memory(t, 32*pageSize)}
	late := Region{8 << 30, memory(t, pageSize)}
	want := func(mapped map[uint64]uint64) {
		t.Helper()
		if !maps.Equal(c.mapped, mapped) {
			t.Errorf("mapped is %#x, want %#x", c.mapped, mapped)
		}
	}
	if err := d.MapGuest([]Region{low, high}); err != nil {
		t.Fatal(err)
	}
	want(map[uint64]uint64{})
	f := mustOpen(t, d, addressNVMe)
	two := map[uint64]uint64{0: 16 * pageSize, 4 << 30: 32 * pageSize}
	want(two)
	g := mustOpen(t, d, second)
	want(two)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	want(two)
	if err := d.MapGuest([]Region{late}); err != nil {
		t.Error(err)
	}
	three := map[uint64]uint64{0: 16 * pageSize, 4 << 30: 32 * pageSize, 8 << 30: pageSize}
	want(three)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	want(map[uint64]uint64{})
	// The last group took all mappings along; the next one gets them again.
	c.devices[second] = newFakeDevice(t)
	mustOpen(t, d, second)
	want(three)
}

func TestMapGuestRefuses(t *testing.T) {
	m := memory(t, 8*pageSize)
	many := make([]Region, maxRegions+1)
	for i := range many {
		many[i] = Region{uint64(i) * pageSize, m[:pageSize]}
	}
	for name, r := range map[string][]Region{
		"empty":             {{0, nil}},
		"half a page":       {{0, m[:pageSize/2]}},
		"unaligned address": {{0x800, m}},
		"unaligned memory":  {{0, m[8 : pageSize+8]}},
		"overlap":           {{0, m}, {4 * pageSize, m}},
		"the window":        {{windowStart - pageSize, m}},
		"beyond the last":   {{1<<64 - pageSize, m}},
		"too many":          many,
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := newTestDomain(t)
			if err := d.MapGuest(r); !errors.Is(err, ErrDomain) {
				t.Errorf("%v, want ErrDomain", err)
			}
			if len(d.guest) > 0 {
				t.Error("something was taken note of")
			}
		})
	}
	d, _ := newTestDomain(t)
	if err := errors.Join(d.MapGuest([]Region{{1<<64 - 8*pageSize, m}}), d.MapGuest([]Region{{0, m}})); err != nil {
		t.Error(err)
	}
	if err := d.MapGuest([]Region{{0, m}}); !errors.Is(err, ErrDomain) {
		t.Errorf("mapped twice: %v", err)
	}
}

func TestGuestMemoryBeyondReach(t *testing.T) {
	for name, c := range map[string]struct {
		at   uint64
		info func(i *iommuInfo)
		text string
	}{
		"address width": {at: 1 << 39, text: "0xfef00000-0x7fffffffff"},
		"reserved":      {at: 0xfedff000, text: "0xfedff000"},
		"page size":     {at: 0, info: func(i *iommuInfo) { i.pageSizes = 2 << 20 }, text: "0x200000"},
		"mappings":      {at: 0, info: func(i *iommuInfo) { i.available = 0 }, text: "0 more"},
	} {
		t.Run(name, func(t *testing.T) {
			d, fake := newTestDomain(t, addressNVMe)
			if c.info != nil {
				c.info(&fake.iommu)
			}
			if err := d.MapGuest([]Region{{c.at, memory(t, 2*pageSize)}}); err != nil {
				t.Fatal(err)
			}
			f, err := d.Open(addressNVMe, OpenOptions{})
			if !errors.Is(err, ErrReach) || !errors.Is(err, ErrOpen) || f != nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want ErrReach and %q", err, c.text)
			}
			if len(fake.groups) > 0 || len(fake.mapped) > 0 {
				t.Errorf("groups %v, mapped %v", fake.groups, fake.mapped)
			}
		})
	}
}

// TestNarrowerIOMMU opens a function whose IOMMU reaches less than the first one's.
func TestNarrowerIOMMU(t *testing.T) {
	const second = "0000:01:00.0"
	d, c := newTestDomain(t, addressNVMe, second)
	if err := d.MapGuest([]Region{{0, memory(t, pageSize)}}); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, d, addressNVMe)
	c.iommu.ranges = []span{{0, windowStart + 4*pageSize}}
	c.iommu.available = 0 // of which no use is made
	mustOpen(t, d, second)
	for i := range 3 {
		if _, err := f.Allocate(pageSize); (err != nil) != (i == 2) {
			t.Errorf("buffer %d: %v", i, err)
		}
	}
}

func TestMapGuestFailsWhole(t *testing.T) {
	d, c := newTestDomain(t, addressNVMe)
	mustOpen(t, d, addressNVMe)
	m := memory(t, pageSize)
	c.mapped[1<<30] = pageSize // in the way of the second
	if err := d.MapGuest([]Region{{0, m}, {1 << 30, m}}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	if len(c.mapped) != 1 || len(d.guest) != 0 {
		t.Errorf("mapped %v, guest %v", c.mapped, d.guest)
	}
	c.full = unix.ENOSPC
	if err := d.MapGuest([]Region{{0, m}}); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "dma_entry_limit") {
		t.Errorf("%v", err)
	}
	c.full = unix.ENOMEM
	if err := d.MapGuest([]Region{{0, m}}); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
		t.Errorf("%v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	d, c := newTestDomain(t, addressNVMe)
	if _, err := d.Open("0000:00:09.0", OpenOptions{}); !errors.Is(err, ErrNoIOMMU) {
		t.Errorf("a function that is not there: %v", err)
	}
	mustOpen(t, d, addressNVMe)
	if _, err := d.Open(addressNVMe, OpenOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil || !c.closed {
		t.Errorf("Close: %v", err)
	}
	if _, err := d.Open(addressNVMe, OpenOptions{}); !errors.Is(err, ErrOpen) {
		t.Errorf("after Close: %v", err)
	}
	if err := d.MapGuest(nil); !errors.Is(err, ErrDomain) {
		t.Errorf("after Close: %v", err)
	}
}

func TestDomainCloseClosesFunctions(t *testing.T) {
	d, c := newTestDomain(t, addressNVMe)
	f := mustOpen(t, d, addressNVMe)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !c.devices[addressNVMe].closed {
		t.Error("the device is open")
	}
	if _, err := f.Allocate(1); !errors.Is(err, pci.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestNoIOMMU(t *testing.T) {
	tr, m := newTree(t)
	tr.add(addressNVMe, classNVMe, "", NoGroup)
	if _, err := newDomain(Options{Machine: m}, newFakeContainer(t)).Open(addressNVMe, OpenOptions{}); !errors.Is(err, ErrNoIOMMU) {
		t.Errorf("%v, want ErrNoIOMMU", err)
	}
	if len(tr.writes) > 0 {
		t.Errorf("wrote %q", tr.writes)
	}
}

func TestNoVFIO(t *testing.T) {
	if _, err := NewDomain(Options{Machine: Machine{Dev: t.TempDir()}}); !errors.Is(err, hcl.ErrNotSupported) || !errors.Is(err, ErrDomain) {
		t.Errorf("%v, want ErrNotSupported", err)
	}
}
