package nvme

import (
	"encoding/binary"

	"keel/hcl/pci"
	"keel/translate/blk"
)

// mode is how a command reaches its data.
type mode uint8

const (
	modeNone   mode = iota
	modePRP         // the memory itself, page by page
	modeSGL         // the memory itself, as runs of bytes
	modeBounce      // pages of the pool, copied
)

// part is one command's share of a request.
type part struct {
	mode   mode
	blocks uint32
}

// worthwhile is how many bytes must be reachable without a copy to make a command
// of them rather than of what a copy could add.
const worthwhile = 16 << 10

// limits bound the commands of a queue. They do not change, so that a request is
// cut into the same parts whenever it is looked at.
type limits struct {
	transfer int // bytes of one command, a multiple of the page size
	bounce   int // bytes of one command that is copied, likewise
	list     int // bytes of a slot's list, at most a page
	sgl      sglSupport
}

// place is a position in a request's segments.
type place struct {
	segment, offset int
}

// run is memory that the device sees as one.
type run struct {
	address uint64
	length  int
}

// next returns the rest of the segment at a place, at most limit bytes, and moves
// the place behind it. There is no address where the device cannot reach it.
func (p *place) next(segments []blk.Segment, limit int) (data []byte, address uint64, ok bool) {
	for p.segment < len(segments) {
		s := &segments[p.segment]
		if p.offset >= len(s.Data) {
			p.segment, p.offset = p.segment+1, 0
			continue
		}
		data = s.Data[p.offset:]
		data = data[:min(len(data), limit)]
		address = blk.NoDMA
		if end := s.DMA + uint64(len(s.Data)); s.DMA != blk.NoDMA && end >= s.DMA {
			address = s.DMA + uint64(p.offset)
		}
		p.offset += len(data)
		return data, address, true
	}
	return nil, 0, false
}

// plan decides what the next command of a transfer moves: at most left blocks of
// size bytes, from a place on.
func (l *limits) plan(segments []blk.Segment, at place, left, size uint32) part {
	want := int(min(uint64(left)*uint64(size), uint64(l.transfer)))
	blocks := func(m mode, n int) part { return part{m, uint32(n / int(size))} }
	pages := l.pages(segments, at, want) / int(size) * int(size)
	// What PRP entries describe needs no list that the controller must parse; a
	// transfer in one command beats one in several, and these beat a copy.
	if pages == want {
		return blocks(modePRP, want)
	}
	if l.sgl != sglNone {
		if n := l.runs(segments, at, want) / int(size) * int(size); n == want || n >= worthwhile && n > pages {
			return blocks(modeSGL, n)
		}
	}
	if pages >= worthwhile {
		return blocks(modePRP, pages)
	}
	return blocks(modeBounce, min(want, l.bounce))
}

// pages returns how many bytes from a place on PRP entries can describe: the first
// at any multiple of four, the others at pages, all but the last up to a page's end
// (NVMe §4.3).
func (l *limits) pages(segments []blk.Segment, at place, want int) int {
	total, end := 0, uint64(0)
	for total < want {
		data, address, ok := at.next(segments, want-total)
		if !ok || address == blk.NoDMA {
			break
		}
		switch {
		case total == 0:
			if address%4 != 0 {
				return 0
			}
		case address == end:
		case address%pageSize != 0 || end%pageSize != 0:
			return total
		}
		total += len(data)
		end = address + uint64(len(data))
	}
	return total
}

// runs returns how many bytes from a place on a scatter gather list can describe.
func (l *limits) runs(segments []blk.Segment, at place, want int) int {
	total, count, end := 0, 0, uint64(0)
	for total < want {
		data, address, ok := at.next(segments, want-total)
		if !ok || address == blk.NoDMA || l.sgl == sglDwords && (address%4 != 0 || len(data)%4 != 0) {
			break
		}
		if total == 0 || address != end {
			if count++; count > l.list/descriptorSize {
				break
			}
		}
		total += len(data)
		end = address + uint64(len(data))
	}
	return total
}

// pageList writes PRP entries: two in the command, or one and a list.
type pageList struct {
	list          pci.Buffer
	first, second uint64
	entries       int
}

// add adds the pages of a run. It returns false when the list is full.
func (l *pageList) add(r run) bool {
	for r.length > 0 {
		n := min(r.length, pageSize-int(r.address%pageSize))
		switch l.entries {
		case 0:
			l.first = r.address
		default:
			offset := (l.entries - 1) * addressSize
			if offset+addressSize > len(l.list.Bytes) {
				return false
			}
			binary.LittleEndian.PutUint64(l.list.Bytes[offset:], r.address)
			l.second = r.address
		}
		l.entries++
		r.address += uint64(n)
		r.length -= n
	}
	return true
}

// finish sets a command's data pointer.
func (l *pageList) finish(e *entry) {
	if l.entries > 2 {
		l.second = l.list.DMA
	}
	e.prp(l.first, l.second)
}

// direct makes a command reach the segments' own memory with PRP entries, and moves
// the place behind them.
func direct(e *entry, list pci.Buffer, segments []blk.Segment, at *place, length int) bool {
	l := pageList{list: list}
	// Runs that touch are one: a page may lie in two segments.
	var now run
	for length > 0 {
		data, address, ok := at.next(segments, length)
		if !ok || address == blk.NoDMA {
			return false
		}
		length -= len(data)
		if now.length > 0 && now.address+uint64(now.length) == address {
			now.length += len(data)
			continue
		}
		if !l.add(now) {
			return false
		}
		now = run{address, len(data)}
	}
	if !l.add(now) {
		return false
	}
	l.finish(e)
	return true
}

// scattered makes a command reach the segments' own memory with a scatter gather
// list, and moves the place behind them.
func scattered(e *entry, list pci.Buffer, segments []blk.Segment, at *place, length int) bool {
	var now run
	count := 0
	put := func() bool {
		if count*descriptorSize+descriptorSize > len(list.Bytes) {
			return false
		}
		descriptor(list.Bytes[count*descriptorSize:], now.address, uint32(now.length), sglData)
		count++
		return true
	}
	for length > 0 {
		data, address, ok := at.next(segments, length)
		if !ok || address == blk.NoDMA {
			return false
		}
		length -= len(data)
		if now.length > 0 && now.address+uint64(now.length) == address {
			now.length += len(data)
			continue
		}
		if now.length > 0 && !put() {
			return false
		}
		now = run{address, len(data)}
	}
	if count == 0 {
		e.sgl(now.address, uint32(now.length), sglData)
		return true
	}
	if !put() {
		return false
	}
	e.sgl(list.DMA, uint32(count*descriptorSize), sglLastSegment)
	return true
}
