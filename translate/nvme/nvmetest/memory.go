package nvmetest

import (
	"encoding/binary"
	"slices"

	"keel/hcl/pci"
	"keel/hcl/sys"
)

const (
	pageSize = 4096
	// firstDMA is where the controller sees the first memory; between two regions
	// lies gap, so that whoever overruns one finds nothing.
	firstDMA = 0x1_0000_0000
	gap      = 16 * pageSize
)

// region is memory that the controller may reach.
type region struct {
	dma  uint64
	data []byte
}

// Allocate implements pci.Function.
func (c *Controller) Allocate(size int) (pci.Buffer, error) {
	if size <= 0 || size > 1<<30 {
		return pci.Buffer{}, pci.ErrLimit
	}
	b := make([]byte, (size+pageSize-1)/pageSize*pageSize)
	return pci.Buffer{Bytes: b, Words: sys.Words(b), DMA: c.Register(b)}, nil
}

// Register lets the controller reach memory of the guest, and returns the address
// at which it sees it: a page's.
func (c *Controller) Register(b []byte) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	dma := c.nextDMA
	c.nextDMA += uint64(len(b)+pageSize-1)/pageSize*pageSize + gap
	c.memory = append(c.memory, region{dma, b})
	return dma
}

// Revoke takes memory away: the controller must not be told to reach it any more.
func (c *Controller) Revoke(dma uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory = slices.DeleteFunc(c.memory, func(r region) bool { return r.dma == dma })
}

// reach returns memory at an address of the controller, nil where it must not be.
func (c *Controller) reach(dma uint64, n int) []byte {
	if !c.master || c.vanished {
		c.counts.Barred++
		return nil
	}
	for _, r := range c.memory {
		if dma >= r.dma && dma-r.dma <= uint64(len(r.data)) && uint64(n) <= uint64(len(r.data))-(dma-r.dma) {
			return r.data[dma-r.dma:][:n]
		}
	}
	c.counts.Strays++
	c.t.Errorf("DMA of %d bytes at %#x, where the controller has no memory", n, dma)
	return nil
}

// Statuses and constants of data pointers.
const (
	statusInvalidPRP = 0x013
	statusInvalidSGL = 0x00d
	statusLengthSGL  = 0x00f
	statusTypeSGL    = 0x011
	statusTransfer   = 0x004
	descriptorSize   = 16
	sglDataBlock     = 0x00
	sglSegment       = 0x20
	sglLastSegment   = 0x30
	longestList      = 1 << 16
	flagsSGL         = 0x40
	flagsPointer     = 0xc0
	noStatus         = 0
)

// transfer walks over a command's data, whose length is known, and calls f with
// each run of memory.
func (c *Controller) transfer(e []byte, length int, f func([]byte)) uint16 {
	if e[1]&flagsPointer == flagsSGL {
		c.counts.Scattered++
		return c.scattered(e[24:40], length, f)
	}
	return c.pages(binary.LittleEndian.Uint64(e[24:]), binary.LittleEndian.Uint64(e[32:]), length, f)
}

// pages walks over PRP entries (NVMe §4.3).
func (c *Controller) pages(first, second uint64, length int, f func([]byte)) uint16 {
	if first%4 != 0 {
		c.t.Errorf("PRP1 is %#x", first)
		return statusInvalidPRP
	}
	touch := func(address uint64) bool {
		n := min(length, pageSize-int(address%pageSize))
		b := c.reach(address, n)
		if b == nil {
			return false
		}
		f(b)
		length -= n
		return true
	}
	if !touch(first) {
		return statusTransfer
	}
	if length == 0 {
		return noStatus
	}
	if length <= pageSize {
		if second%pageSize != 0 {
			c.t.Errorf("PRP2 is %#x", second)
			return statusInvalidPRP
		}
		if !touch(second) {
			return statusTransfer
		}
		return noStatus
	}
	if second%8 != 0 {
		c.t.Errorf("PRP list at %#x", second)
		return statusInvalidPRP
	}
	for at := second; length > 0; at += 8 {
		b := c.reach(at, 8)
		if b == nil {
			return statusTransfer
		}
		entry := binary.LittleEndian.Uint64(b)
		// The last entry of a page leads to the next list when more follows.
		if at%pageSize == pageSize-8 && length > pageSize {
			at = entry - 8
			continue
		}
		if entry%pageSize != 0 {
			c.t.Errorf("PRP entry %#x", entry)
			return statusInvalidPRP
		}
		if !touch(entry) {
			return statusTransfer
		}
	}
	return noStatus
}

// scattered walks over a scatter gather list (NVMe §4.4).
func (c *Controller) scattered(d []byte, length int, f func([]byte)) uint16 {
	if c.config.SGL&3 == 0 {
		c.t.Errorf("scatter gather list for a controller without")
		return statusInvalidSGL
	}
	for range longestList {
		address, n, kind := binary.LittleEndian.Uint64(d), int(binary.LittleEndian.Uint32(d[8:])), d[15]
		switch kind {
		case sglDataBlock:
			if c.config.SGL&3 == 2 && (address%4 != 0 || n%4 != 0) {
				c.t.Errorf("descriptor of %d bytes at %#x is not aligned", n, address)
			}
			if n > length {
				c.t.Errorf("descriptor of %d bytes for %d", n, length)
				return statusLengthSGL
			}
			b := c.reach(address, n)
			if b == nil {
				return statusTransfer
			}
			f(b)
			if length -= n; length == 0 {
				return noStatus
			}
			if d = d[descriptorSize:]; len(d) < descriptorSize {
				return statusLengthSGL
			}
		case sglLastSegment, sglSegment:
			if d = c.reach(address, n); len(d) < descriptorSize {
				return statusTransfer
			}
		default:
			return statusTypeSGL
		}
	}
	return statusInvalidSGL
}
