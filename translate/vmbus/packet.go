package vmbus

import (
	"encoding/binary"

	"keel/hcl/abi/x86"
)

// Packet is one packet of the guest, copied out of the ring. It is valid during
// Device.Receive only.
type Packet struct {
	Transaction uint64 // for Channel.Complete
	Payload     []byte // a multiple of eight bytes
	// Direct tells that the packet names guest memory, for Pages.
	Direct bool

	kind, flags uint16
	ranges      []byte
	count       uint32
	buffer      []byte
}

// Completion tells whether the guest wants an answer.
func (p *Packet) Completion() bool { return p.flags&flagCompletion != 0 }

// parse sets the parts of a packet whose copy is in the buffer. The descriptor was
// parsed from the same copy.
func (p *Packet) parse(offset, length uint32) bool {
	p.Payload, p.ranges, p.count, p.Direct = p.buffer[offset:length], nil, 0, false
	switch p.kind {
	case packetInBand:
		return true
	case packetGPADirect:
		if offset < sizeGPAHeader {
			return false
		}
		p.Direct = true
		p.count = binary.LittleEndian.Uint32(p.buffer[sizeDescriptor+4:])
		p.ranges = p.buffer[sizeGPAHeader:offset]
		// A range takes at least eight bytes.
		return p.count != 0 && p.count <= uint32(len(p.ranges)/packetUnit)
	}
	return false
}

// Pages returns an iterator over the guest memory that the packet names.
func (p *Packet) Pages() Pages { return Pages{list: p.ranges, ranges: p.count} }

// Pages walks a list of ranges: for each its length and its offset in the first
// page, and then the numbers of its pages (Linux struct gpa_range). It copies
// nothing and allocates nothing.
type Pages struct {
	// GPA and Length are the piece that Next found: a run of consecutive pages of
	// one range.
	GPA    x86.GPA
	Length int // bytes

	list   []byte
	ranges uint32 // not begun yet
	left   uint32 // bytes of the range that is under way
	offset uint32 // in its next page
	bad    bool
}

// Valid is false when the list ended too early or had absurd numbers. It is to be
// asked when Next returned false.
func (p *Pages) Valid() bool { return !p.bad }

// Next finds the next piece. Whether it is guest memory is not checked here.
func (p *Pages) Next() bool {
	for p.left == 0 {
		if p.bad || p.ranges == 0 {
			return false
		}
		p.ranges--
		if !p.begin() {
			return false
		}
	}
	frame, ok := p.frame()
	if !ok {
		return p.fail()
	}
	n := min(pageSize-p.offset, p.left)
	p.GPA, p.Length = frame<<x86.PageShift+x86.GPA(p.offset), int(n)
	p.left, p.offset = p.left-n, 0
	for p.left > 0 {
		following, ok := peekFrame(p.list)
		if !ok {
			return p.fail()
		}
		if following != frame+1 {
			break
		}
		frame = following
		p.list = p.list[8:]
		n := min(pageSize, p.left)
		p.Length += int(n)
		p.left -= n
	}
	return true
}

func (p *Pages) fail() bool {
	p.bad, p.left, p.ranges = true, 0, 0
	return false
}

// begin reads the head of a range.
func (p *Pages) begin() bool {
	if len(p.list) < 8 {
		return p.fail()
	}
	p.left = binary.LittleEndian.Uint32(p.list)
	p.offset = binary.LittleEndian.Uint32(p.list[4:])
	p.list = p.list[8:]
	if p.offset >= pageSize {
		return p.fail()
	}
	return true
}

// frame takes a page number.
func (p *Pages) frame() (x86.GPA, bool) {
	f, ok := peekFrame(p.list)
	if ok {
		p.list = p.list[8:]
	}
	return f, ok
}

// peekFrame reads a page number.
func peekFrame(list []byte) (x86.GPA, bool) {
	if len(list) < 8 {
		return 0, false
	}
	f := binary.LittleEndian.Uint64(list)
	return x86.GPA(f), f < 1<<frameBits
}
