package bus

import (
	"fmt"
	"sort"
	"sync/atomic"

	"keel/hcl/abi/x86"
)

// memoryRange is one device's claim of first to last.
type memoryRange struct {
	first, last x86.GPA
	name        string
	device      MMIODevice
}

// Memory routes accesses to guest physical addresses that are not RAM. Map
// everything before the first VP runs; from then on the routes are read-only.
type Memory struct {
	ranges    []memoryRange // sorted by first address
	unclaimed atomic.Uint64
}

// Map gives size bytes from first on to a device. The name is for reports.
func (m *Memory) Map(name string, first x86.GPA, size uint64, d MMIODevice) error {
	last := first + x86.GPA(size) - 1
	if size == 0 || last < first {
		return fmt.Errorf("%w: %s: %#x+%#x", ErrOverlap, name, first, size)
	}
	i := sort.Search(len(m.ranges), func(i int) bool { return m.ranges[i].first > first })
	if i > 0 && m.ranges[i-1].last >= first {
		return fmt.Errorf("%w: %s: %#x belongs to %s", ErrOverlap, name, first, m.ranges[i-1].name)
	}
	if i < len(m.ranges) && m.ranges[i].first <= last {
		return fmt.Errorf("%w: %s: %#x belongs to %s", ErrOverlap, name, m.ranges[i].first, m.ranges[i].name)
	}
	m.ranges = append(m.ranges, memoryRange{})
	copy(m.ranges[i+1:], m.ranges[i:])
	m.ranges[i] = memoryRange{first: first, last: last, name: name, device: d}
	return nil
}

// Range is what a device claims.
type Range struct {
	Name  string
	First x86.GPA
	Size  uint64
}

// Ranges lists the claims by address.
func (m *Memory) Ranges() []Range {
	var out []Range
	for _, r := range m.ranges {
		out = append(out, Range{r.name, r.first, uint64(r.last-r.first) + 1})
	}
	return out
}

// find returns the claim that holds the whole access, or nil.
func (m *Memory) find(gpa x86.GPA, size int) *memoryRange {
	lo, hi := 0, len(m.ranges)
	for lo < hi {
		mid := (lo + hi) / 2
		if m.ranges[mid].last < gpa {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(m.ranges) {
		return nil
	}
	r := &m.ranges[lo]
	if r.first > gpa || r.last-gpa < x86.GPA(size-1) {
		return nil
	}
	return r
}

// Read answers a load of 1 to 8 bytes. What nobody claims, in whole, reads all
// ones. Sizes that no instruction has come from accesses cut at a page's edge;
// they reach the device byte by byte.
func (m *Memory) Read(gpa x86.GPA, size int) uint64 {
	if size&(size-1) != 0 {
		var v uint64
		for i := range size {
			v |= m.Read(gpa+x86.GPA(i), 1) << (8 * i)
		}
		return v
	}
	r := m.find(gpa, size)
	if r == nil {
		m.unclaimed.Add(1)
		return ones64(size)
	}
	return r.device.ReadMMIO(uint64(gpa-r.first), size) & ones64(size)
}

// Write answers a store of 1 to 8 bytes, cut as for Read. Stores that nobody
// claims vanish.
func (m *Memory) Write(gpa x86.GPA, size int, value uint64) {
	if size&(size-1) != 0 {
		for i := range size {
			m.Write(gpa+x86.GPA(i), 1, value>>(8*i))
		}
		return
	}
	r := m.find(gpa, size)
	if r == nil {
		m.unclaimed.Add(1)
		return
	}
	r.device.WriteMMIO(uint64(gpa-r.first), size, value&ones64(size))
}

// Unclaimed counts the accesses that no device answered.
func (m *Memory) Unclaimed() uint64 { return m.unclaimed.Load() }

func ones64(size int) uint64 {
	if size >= 8 {
		return ^uint64(0)
	}
	return uint64(1)<<(8*size) - 1
}
