package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
)

var (
	errDescriptor = errors.New("no such descriptor")
	errLoop       = errors.New("loop")
	errOrder      = errors.New("readable after writable")
	errTable      = errors.New("indirect table out of bounds")
	errNested     = errors.New("indirect table inside of one, or followed by more")
	errIndirect   = errors.New("indirect tables were not negotiated")
	errBytes      = errors.New("too many bytes")
)

// Chain is a buffer of the driver: memory that the device reads, followed by
// memory that it writes. The segments are checked to be guest RAM; their contents
// may change at any time.
type Chain struct {
	// Readable and Writable may be cut and re-sliced by whoever has the chain.
	Readable, Writable []blk.Segment
	// ReadableBytes and WritableBytes are their lengths as the driver made them.
	ReadableBytes, WritableBytes uint64

	ring       *ring
	slot, head uint16
	readable   []blk.Segment // as Readable and Writable were: they keep the memory
	writable   []blk.Segment
}

// Slot tells the queue's chains in flight apart: it is below the queue's size, and
// no two have the same one.
func (c *Chain) Slot() int { return int(c.slot) }

// Complete gives the chain back to the driver. written is the number of bytes
// that were written, from the start of the writable part on. It may be called
// from any goroutine, once, and the chain is not used any more.
func (c *Chain) Complete(written uint32) { c.ring.complete(c.slot, c.head, written) }

// walk follows the chain from its head on. Each descriptor is read once.
func (c *Chain) walk() error {
	c.Readable, c.Writable = c.readable[:0], c.writable[:0]
	c.ReadableBytes, c.WritableBytes = 0, 0
	err := c.follow()
	// The segments may have grown: keep what is now behind them.
	c.readable, c.writable = c.Readable, c.Writable
	return err
}

func (c *Chain) follow() error {
	r := c.ring
	table, limit := r.desc, int(r.size)
	inside := false
	at := c.head
	for seen := 0; ; seen++ {
		switch {
		case int(at) >= limit:
			return fmt.Errorf("%w: %d of %d", errDescriptor, at, limit)
		case seen >= limit:
			return errLoop // every descriptor of the table was seen
		}
		d := table[descSize*int(at):][:descSize]
		address := binary.LittleEndian.Uint64(d)
		length := binary.LittleEndian.Uint32(d[descLength:])
		flags := get16(d[descFlags:])
		next := get16(d[descNext:])
		if flags&flagIndirect == 0 {
			if err := c.add(address, length, flags&flagWrite != 0); err != nil {
				return err
			}
			if flags&flagNext == 0 {
				return nil
			}
			at = next
			continue
		}
		switch {
		case !r.indirect:
			return errIndirect
		case inside || flags&flagNext != 0:
			return errNested
		case length == 0 || length%descSize != 0 || length > MaxIndirect*descSize:
			return fmt.Errorf("%w: %d bytes", errTable, length)
		}
		view, err := r.queue.device.memory.Slice(x86.GPA(address), int(length))
		if err != nil {
			return err
		}
		table, limit, inside = view, int(length/descSize), true
		at, seen = 0, -1
	}
}

// add appends a segment. Descriptors of no length are allowed and say nothing.
func (c *Chain) add(address uint64, length uint32, write bool) error {
	if !write && c.WritableBytes != 0 {
		return errOrder
	}
	if length == 0 {
		return nil
	}
	if c.ReadableBytes+c.WritableBytes+uint64(length) > maxBytes {
		return errBytes
	}
	data, err := c.ring.queue.device.memory.Slice(x86.GPA(address), int(length))
	if err != nil {
		return err
	}
	s := blk.Segment{Data: data, DMA: blk.NoDMA}
	if c.ring.queue.device.direct {
		s.DMA = address
	}
	if write {
		c.Writable = append(c.Writable, s)
		c.WritableBytes += uint64(length)
	} else {
		c.Readable = append(c.Readable, s)
		c.ReadableBytes += uint64(length)
	}
	return nil
}

// Read moves bytes from the front of segments into p and returns how many there
// were. The segments are cut accordingly.
func Read(p []byte, from *[]blk.Segment) int {
	n := 0
	for n < len(p) && len(*from) > 0 {
		s := &(*from)[0]
		k := copy(p[n:], s.Data)
		n += k
		cut(from, k)
	}
	return n
}

// Write copies p to the front of segments, which keep what they are, and returns
// how many bytes had room.
func Write(to []blk.Segment, p []byte) int {
	n := 0
	for _, s := range to {
		if n == len(p) {
			break
		}
		n += copy(s.Data, p[n:])
	}
	return n
}

// Take moves the first n bytes of segments, or all when there are fewer, to the
// end of dst, which it returns.
func Take(dst []blk.Segment, from *[]blk.Segment, n int) []blk.Segment {
	for n > 0 && len(*from) > 0 {
		s := (*from)[0]
		if len(s.Data) > n {
			s.Data = s.Data[:n:n]
		}
		dst = append(dst, s)
		n -= len(s.Data)
		cut(from, len(s.Data))
	}
	return dst
}

// cut takes n bytes off the first segment.
func cut(from *[]blk.Segment, n int) {
	s := &(*from)[0]
	if n == len(s.Data) {
		*from = (*from)[1:]
		return
	}
	s.Data = s.Data[n:]
	if s.DMA != blk.NoDMA {
		s.DMA += uint64(n)
	}
}
