// Package pcapng writes packet captures in the format pcapng
// (draft-ietf-opsawg-pcapng): one section with the interfaces that are named at its start,
// timestamps in nanoseconds, little-endian.
package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// LinkRaw is the link type of packets that begin with an IP header (LINKTYPE_RAW).
const LinkRaw = 101

// Interface is where packets come from.
type Interface struct {
	Name        string
	Description string
	Link        uint16
}

// Statistics are what an interface has seen since the capture began.
type Statistics struct {
	Received uint64 // packets, lost ones included
	Dropped  uint64 // packets that are not in the capture, for want of room
}

// ErrPacket says that a packet cannot be written.
var ErrPacket = errors.New("packet of an unknown interface, or too long")

// Types of blocks (section 4).
const (
	BlockSection    = 0x0a0d0d0a
	BlockInterface  = 0x00000001
	BlockStatistics = 0x00000005
	BlockPacket     = 0x00000006
)

// Options of blocks (sections 3.5, 4.1, 4.2 and 4.6).
const (
	optEnd             = 0
	optSectionApp      = 4
	optInterfaceName   = 2
	optInterfaceAbout  = 3
	optInterfaceDigits = 9 // of timestamps
	optStatsStart      = 2
	optStatsEnd        = 3
	optStatsReceived   = 4
	optStatsDropped    = 5
)

const (
	byteOrder = 0x1a2b3c4d
	digits    = 9
	maxOption = 255     // bytes of a text
	maxPacket = 1 << 18 // bytes that readers take
)

// Writer writes a capture. Each method writes whole blocks in one call of the underlying
// writer.
type Writer struct {
	w          io.Writer
	interfaces int
	start      time.Time
	block      []byte
}

// NewWriter begins a capture that an application makes: it writes the section's header and
// the interfaces.
func NewWriter(w io.Writer, application string, start time.Time, interfaces []Interface) (*Writer, error) {
	p := &Writer{w: w, interfaces: len(interfaces), start: start}
	section := p.begin(BlockSection)
	p.u32(byteOrder)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(math.MaxUint64) // the section's length is not known
	p.text(optSectionApp, application)
	p.end(section)
	for _, i := range interfaces {
		at := p.begin(BlockInterface)
		p.u16(i.Link)
		p.u16(0)
		p.u32(maxPacket)
		p.text(optInterfaceName, i.Name)
		p.text(optInterfaceAbout, i.Description)
		p.option(optInterfaceDigits, []byte{digits})
		p.end(at)
	}
	return p, p.flush()
}

// Packet writes a packet of an interface, of which length bytes were there.
func (p *Writer) Packet(of int, at time.Time, data []byte, length int) error {
	if of < 0 || of >= p.interfaces || len(data) > maxPacket || length < len(data) {
		return fmt.Errorf("%w: interface %d, %d bytes", ErrPacket, of, len(data))
	}
	from := p.begin(BlockPacket)
	p.u32(uint32(of))
	p.time(at)
	p.u32(uint32(len(data)))
	p.u32(uint32(length))
	p.padded(data)
	p.close(from)
	return p.flush()
}

// Statistics writes what an interface has seen. Those that come last count.
func (p *Writer) Statistics(of int, now time.Time, s Statistics) error {
	if of < 0 || of >= p.interfaces {
		return fmt.Errorf("%w: interface %d", ErrPacket, of)
	}
	from := p.begin(BlockStatistics)
	p.u32(uint32(of))
	p.time(now)
	for _, x := range []struct {
		option uint16
		at     time.Time
	}{{optStatsStart, p.start}, {optStatsEnd, now}} {
		p.u16(x.option)
		p.u16(8)
		p.time(x.at)
	}
	p.number(optStatsReceived, s.Received)
	p.number(optStatsDropped, s.Dropped)
	p.end(from)
	return p.flush()
}

// begin begins a block and returns where.
func (p *Writer) begin(kind uint32) int {
	at := len(p.block)
	p.u32(kind)
	p.u32(0) // the length, which close writes
	return at
}

// end ends the options and the block that begins at a place.
func (p *Writer) end(from int) {
	p.u16(optEnd)
	p.u16(0)
	p.close(from)
}

// close ends a block.
func (p *Writer) close(from int) {
	length := uint32(len(p.block) - from + 4)
	binary.LittleEndian.PutUint32(p.block[from+4:], length)
	p.u32(length)
}

// flush writes the blocks that there are.
func (p *Writer) flush() error {
	_, err := p.w.Write(p.block)
	p.block = p.block[:0]
	return err
}

func (p *Writer) u16(v uint16) { p.block = binary.LittleEndian.AppendUint16(p.block, v) }
func (p *Writer) u32(v uint32) { p.block = binary.LittleEndian.AppendUint32(p.block, v) }
func (p *Writer) u64(v uint64) { p.block = binary.LittleEndian.AppendUint64(p.block, v) }

// time adds a timestamp: its upper half comes first.
func (p *Writer) time(t time.Time) {
	ns := uint64(t.UnixNano())
	p.u32(uint32(ns >> 32))
	p.u32(uint32(ns))
}

// padded adds bytes, and zeroes up to a multiple of four.
func (p *Writer) padded(b []byte) {
	p.block = append(p.block, b...)
	for len(p.block)%4 != 0 {
		p.block = append(p.block, 0)
	}
}

func (p *Writer) option(code uint16, value []byte) {
	p.u16(code)
	p.u16(uint16(len(value)))
	p.padded(value)
}

func (p *Writer) number(code uint16, v uint64) {
	p.option(code, binary.LittleEndian.AppendUint64(nil, v))
}

// text adds a text, if there is one.
func (p *Writer) text(code uint16, s string) {
	if s != "" {
		p.option(code, []byte(s[:min(len(s), maxOption)]))
	}
}
