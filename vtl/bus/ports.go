package bus

import (
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
)

// ErrOverlap says that two devices claim the same address.
var ErrOverlap = errors.New("address range is taken or malformed")

// portRange is one device's claim of ports first to last.
type portRange struct {
	first, last uint16
	name        string
	device      PIODevice
}

// Ports routes port I/O. Map everything before the first VP runs; from then on
// the routes are read-only.
type Ports struct {
	ranges    []portRange // sorted by first port
	unclaimed atomic.Uint64
}

// Map gives count ports from first on to a device. The name is for reports.
func (p *Ports) Map(name string, first uint16, count int, d PIODevice) error {
	last := int(first) + count - 1
	if count < 1 || last > 0xffff {
		return fmt.Errorf("%w: %s: ports %#x+%d", ErrOverlap, name, first, count)
	}
	i := sort.Search(len(p.ranges), func(i int) bool { return p.ranges[i].first > first })
	if i > 0 && p.ranges[i-1].last >= first {
		return fmt.Errorf("%w: %s: port %#x belongs to %s", ErrOverlap, name, first, p.ranges[i-1].name)
	}
	if i < len(p.ranges) && int(p.ranges[i].first) <= last {
		return fmt.Errorf("%w: %s: port %#x belongs to %s", ErrOverlap, name, p.ranges[i].first, p.ranges[i].name)
	}
	p.ranges = append(p.ranges, portRange{})
	copy(p.ranges[i+1:], p.ranges[i:])
	p.ranges[i] = portRange{first: first, last: uint16(last), name: name, device: d}
	return nil
}

// find returns the claim on a port, or nil.
func (p *Ports) find(port uint16) *portRange {
	lo, hi := 0, len(p.ranges)
	for lo < hi {
		mid := (lo + hi) / 2
		if p.ranges[mid].last < port {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(p.ranges) && p.ranges[lo].first <= port {
		return &p.ranges[lo]
	}
	return nil
}

// Read answers an IN of 1, 2 or 4 bytes. Ports that nobody claims read all
// ones. An access that reaches past one device's ports is split into bytes, as
// an ISA bus does.
func (p *Ports) Read(port uint16, size int) uint32 {
	if r := p.find(port); r != nil && int(port)+size-1 <= int(r.last) {
		return r.device.ReadPIO(port-r.first, size) & ones32(size)
	}
	var v uint32
	claimed := false
	for i := range size {
		b := uint32(0xff)
		if r := p.find(port + uint16(i)); r != nil && int(port)+i <= 0xffff {
			b = r.device.ReadPIO(port+uint16(i)-r.first, 1) & 0xff
			claimed = true
		}
		v |= b << (8 * i)
	}
	if !claimed {
		p.unclaimed.Add(1)
	}
	return v
}

// Write answers an OUT of 1, 2 or 4 bytes, split as for Read. Writes to ports
// that nobody claims vanish.
func (p *Ports) Write(port uint16, size int, value uint32) {
	if r := p.find(port); r != nil && int(port)+size-1 <= int(r.last) {
		r.device.WritePIO(port-r.first, size, value&ones32(size))
		return
	}
	claimed := false
	for i := range size {
		if r := p.find(port + uint16(i)); r != nil && int(port)+i <= 0xffff {
			r.device.WritePIO(port+uint16(i)-r.first, 1, value>>(8*i)&0xff)
			claimed = true
		}
	}
	if !claimed {
		p.unclaimed.Add(1)
	}
}

// Unclaimed counts the accesses that no device answered.
func (p *Ports) Unclaimed() uint64 { return p.unclaimed.Load() }

func ones32(size int) uint32 { return uint32(1)<<(8*size) - 1 }
