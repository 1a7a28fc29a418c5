package nvme

import (
	"encoding/binary"

	"keel/hcl/pci"
	"keel/translate/blk"
)

// noPage ends a chain of pages.
const noPage = ^uint16(0)

// pool is the memory of a queue pair through which data is copied. Its pages are
// chained by number. What the device may write never leads the way.
type pool struct {
	memory pci.Buffer
	after  []uint16 // the page behind each in its chain
	free   uint16
	left   int
}

// newPool allocates a pool of size bytes.
func newPool(f pci.Function, size int) (pool, error) {
	memory, err := allocate(f, size)
	if err != nil {
		return pool{}, err
	}
	p := pool{memory: memory, after: make([]uint16, size/pageSize), left: size / pageSize}
	for i := range p.after {
		p.after[i] = uint16(i + 1)
	}
	p.after[len(p.after)-1] = noPage
	return p, nil
}

// pagesOf is how many pages so many bytes need.
func pagesOf(bytes int) int { return (bytes + pageSize - 1) / pageSize }

// take gives a chain of n pages.
// Preconditions: so many are left.
func (p *pool) take(n int) uint16 {
	first, last := p.free, p.free
	for range n - 1 {
		last = p.after[last]
	}
	p.free = p.after[last]
	p.after[last] = noPage
	p.left -= n
	return first
}

// give takes a chain back.
func (p *pool) give(first uint16) {
	n, last := 1, first
	for p.after[last] != noPage {
		last = p.after[last]
		n++
	}
	p.after[last] = p.free
	p.free = first
	p.left += n
}

// page returns the memory of a page and its address for the device.
func (p *pool) page(n uint16) ([]byte, uint64) {
	at := int(n) * pageSize
	return p.memory.Bytes[at : at+pageSize], p.memory.DMA + uint64(at)
}

// aim makes a command reach the first bytes of a chain.
func (p *pool) aim(e *entry, list pci.Buffer, first uint16, length int) bool {
	l := pageList{list: list}
	for n := first; length > 0; n = p.after[n] {
		_, address := p.page(n)
		if !l.add(run{address, min(length, pageSize)}) {
			return false
		}
		length -= pageSize
	}
	l.finish(e)
	return true
}

// move copies between a chain and segments, from a place on, and returns the place
// behind. in tells that the segments receive.
func (p *pool) move(first uint16, segments []blk.Segment, at place, length int, in bool) place {
	page, _ := p.page(first)
	for length > 0 {
		if len(page) == 0 {
			first = p.after[first]
			page, _ = p.page(first)
		}
		data, _, ok := at.next(segments, min(length, len(page)))
		if !ok {
			break
		}
		if in {
			copy(data, page)
		} else {
			copy(page, data)
		}
		page = page[len(data):]
		length -= len(data)
	}
	return at
}

// ranges writes ranges of Dataset Management into a slot's list, and returns how
// many and the place behind them: a number of a range and a count of its blocks.
func ranges(list []byte, from []blk.Range, at int, done uint64) (n, next int, behind uint64) {
	for n < min(len(list)/rangeSize, maxRanges) && at < len(from) {
		left := from[at].Blocks - done
		if left == 0 {
			at, done = at+1, 0
			continue
		}
		count := min(left, maxRangeBlocks)
		to := list[n*rangeSize:]
		binary.LittleEndian.PutUint32(to, 0)
		binary.LittleEndian.PutUint32(to[4:], uint32(count))
		binary.LittleEndian.PutUint64(to[8:], from[at].LBA+done)
		n++
		done += count
	}
	return n, at, done
}
