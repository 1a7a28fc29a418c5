// Package guestmem holds the guest's physical memory: where its RAM lies in
// the address space, and the host memory behind it. Whoever reads guest memory
// copies once and then checks the copy, because VPs and devices may change it
// at any time.
package guestmem

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// Stage sentinels.
var (
	ErrAlloc = errors.New("allocating guest memory")
	ErrRange = errors.New("not guest memory")
)

// Region is one run of guest RAM.
type Region struct {
	GPA  x86.GPA
	data []byte
	used []atomic.Bool // by Keel, for each large page
}

func newRegion(gpa x86.GPA, data []byte) Region {
	return Region{gpa, data, make([]atomic.Bool, len(data)/x86.LargePageSize)}
}

// Size returns the region's length in bytes.
func (r Region) Size() uint64 { return uint64(len(r.data)) }

// Memory is all of the guest's RAM. Where it lies never changes.
type Memory struct {
	regions []Region // ascending, apart
	backing []byte
	accept  func(gpa x86.GPA, length uint64) error
}

// Layout says where RAM lies: below LowTop from address zero on, the rest from
// HighBase on. Both are multiples of the large page size.
type Layout struct {
	LowTop   x86.GPA // end of the RAM below the 4 GiB hole
	HighBase x86.GPA // start of the RAM above it
}

// New allocates size bytes of RAM, all zero, in large pages when huge is set.
// The caller has reserved the large pages. size is a multiple of the large page
// size.
func New(size uint64, layout Layout, huge bool) (*Memory, error) {
	if size == 0 || size%x86.LargePageSize != 0 || size > 1<<46 {
		return nil, fmt.Errorf("%w: %d bytes is not a number of 2 MiB pages", ErrAlloc, size)
	}
	flags := unix.MFD_CLOEXEC
	if huge {
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	}
	fd, err := unix.MemfdCreate("guest", flags)
	if err != nil {
		return nil, fmt.Errorf("%w: memfd: %w", ErrAlloc, err)
	}
	defer func() { _ = unix.Close(fd) }() // the mapping keeps the memory
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("%w: %d bytes: %w", ErrAlloc, size, err)
	}
	backing, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%w: mapping %d bytes: %w", ErrAlloc, size, err)
	}
	m := &Memory{backing: backing}
	low := min(size, uint64(layout.LowTop))
	m.regions = append(m.regions, newRegion(0, backing[:low:low]))
	if low < size {
		m.regions = append(m.regions, newRegion(layout.HighBase, backing[low:size:size]))
	}
	return m, nil
}

// Map makes the memory visible to the guest of a partition. Where memory must be accepted
// before its first use (hcl.Accepter), it is, from now on.
func (m *Memory) Map(p hcl.Partition) error {
	for _, r := range m.regions {
		if err := p.MapMemory(r.GPA, r.data); err != nil {
			return err
		}
	}
	if a, ok := p.(hcl.Accepter); ok {
		m.accept = a.Accept
	}
	return nil
}

// use accepts the large pages around a range that Keel is about to touch, those that it
// has not touched before.
func (m *Memory) use(r *Region, offset, n int) error {
	if m.accept == nil || n == 0 {
		return nil
	}
	for page := offset / x86.LargePageSize; page <= (offset+n-1)/x86.LargePageSize; page++ {
		if r.used[page].Load() {
			continue
		}
		if err := m.accept(r.GPA+x86.GPA(page)*x86.LargePageSize, x86.LargePageSize); err != nil {
			return err
		}
		r.used[page].Store(true)
	}
	return nil
}

// Regions returns the runs of RAM in ascending order.
func (m *Memory) Regions() []Region { return m.regions }

// Size returns the bytes of RAM in all.
func (m *Memory) Size() uint64 { return uint64(len(m.backing)) }

// Slice returns n bytes of RAM from gpa on. The guest may change them at any
// time: copy, then check. The error wraps ErrRange when they are not all RAM; any other
// is that of hcl.Accepter.
func (m *Memory) Slice(gpa x86.GPA, n int) ([]byte, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if gpa < r.GPA || gpa-r.GPA > x86.GPA(len(r.data)) {
			continue
		}
		offset := int(gpa - r.GPA)
		if n < 0 || n > len(r.data)-offset {
			break
		}
		if err := m.use(r, offset, n); err != nil {
			return nil, err
		}
		return r.data[offset : offset+n : offset+n], nil
	}
	return nil, fmt.Errorf("%w: %#x+%#x", ErrRange, gpa, n)
}

// Has tells whether all of n bytes from gpa on are RAM.
func (m *Memory) Has(gpa x86.GPA, n int) bool {
	for _, r := range m.regions {
		if gpa >= r.GPA && gpa-r.GPA < x86.GPA(len(r.data)) {
			return n >= 0 && n <= len(r.data)-int(gpa-r.GPA)
		}
	}
	return false
}

// ReadAt copies RAM from gpa on into p.
func (m *Memory) ReadAt(gpa x86.GPA, p []byte) error {
	s, err := m.Slice(gpa, len(p))
	if err != nil {
		return err
	}
	copy(p, s)
	return nil
}

// WriteAt copies p to RAM from gpa on.
func (m *Memory) WriteAt(gpa x86.GPA, p []byte) error {
	s, err := m.Slice(gpa, len(p))
	if err != nil {
		return err
	}
	copy(s, p)
	return nil
}

// Close frees the memory. No VP and no device may use it any more.
func (m *Memory) Close() error {
	err := unix.Munmap(m.backing)
	m.regions, m.backing = nil, nil
	return err
}
