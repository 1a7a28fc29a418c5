package scsi

import (
	"encoding/binary"

	"keel/translate/blk"
)

var be = binary.BigEndian

// length returns the bytes of all segments.
func length(segments []blk.Segment) uint64 {
	var n uint64
	for i := range segments {
		n += uint64(len(segments[i].Data))
	}
	return n
}

// window appends to dst the part of src that begins at off and has n bytes, or as
// many as there are.
func window(dst, src []blk.Segment, off, n uint64) []blk.Segment {
	for i := range src {
		s := src[i]
		size := uint64(len(s.Data))
		if n == 0 {
			break
		}
		if off >= size {
			off -= size
			continue
		}
		take := min(size-off, n)
		s.Data = s.Data[off : off+take]
		if s.DMA != blk.NoDMA {
			s.DMA += off
		}
		dst = append(dst, s)
		n -= take
		off = 0
	}
	return dst
}

// part returns n bytes of the guest's segments from off on, the segments
// themselves when that is all of them.
func (c *Command) part(src []blk.Segment, total, off, n uint64) []blk.Segment {
	if off == 0 && n == total {
		return src
	}
	c.scratch = window(c.scratch[:0], src, off, n)
	return c.scratch
}

// scatter copies b into segments and returns the bytes for which there was room.
func scatter(segments []blk.Segment, b []byte) int {
	n := 0
	for i := range segments {
		n += copy(segments[i].Data, b[n:])
		if n == len(b) {
			break
		}
	}
	return n
}

// gather copies from segments, off bytes in, and returns the bytes copied.
func gather(b []byte, segments []blk.Segment, off uint64) int {
	n := 0
	for i := range segments {
		d := segments[i].Data
		if off >= uint64(len(d)) {
			off -= uint64(len(d))
			continue
		}
		n += copy(b[n:], d[off:])
		off = 0
		if n == len(b) {
			break
		}
	}
	return n
}

// differs compares b with segments, off bytes in, and returns the first byte that
// differs, negative when none does.
func differs(b []byte, segments []blk.Segment, off uint64) int {
	at := 0
	for i := range segments {
		d := segments[i].Data
		if off >= uint64(len(d)) {
			off -= uint64(len(d))
			continue
		}
		d = d[off:]
		off = 0
		n := min(len(d), len(b)-at)
		for j := range n {
			if d[j] != b[at+j] {
				return at + j
			}
		}
		if at += n; at == len(b) {
			return -1
		}
	}
	if at < len(b) {
		return at
	}
	return -1
}

// reply ends a command with data, of which the guest gets no more than the
// allocation length (SPC-4, 4.2.5.6).
func (c *Command) reply(b []byte, allocation uint32) {
	b = b[:min(uint64(len(b)), uint64(allocation))]
	n := scatter(c.In, b)
	c.moved = uint64(n)
	if n < len(b) {
		c.Overrun = true
		c.ctl.counters.overruns.Add(1)
	}
	c.good()
}

// parameters copies a parameter list of so many bytes. When the guest's data is
// shorter it ends the command.
func (c *Command) parameters(b []byte) bool {
	if c.out < uint64(len(b)) {
		c.overrun()
		return false
	}
	gather(b, c.Out, 0)
	c.moved = uint64(len(b))
	return true
}
