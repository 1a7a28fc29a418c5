package vmbustest

import (
	"sync/atomic"
	"time"

	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/guestmem"
)

// Words of a ring's control page.
const (
	ctlWrite    = 0
	ctlRead     = 1
	ctlMask     = 2
	ctlPending  = 3
	ctlFeatures = 16
)

// Port is the guest's end of an open channel. One goroutine uses it.
type Port struct {
	RelID   uint32
	Handle  uint32 // GPADL of the rings
	Signal  uint32 // connection
	Out, In Half
	Signals int // that were sent

	g *Guest
}

// Half is a ring as the guest sees it.
type Half struct {
	Ctl  []uint32 // words of the control page
	Size uint32   // bytes of data

	mem   *guestmem.Memory
	pages []x86.GPA
}

// half makes an empty ring of pages.
func (g *Guest) half(pages []x86.GPA) Half {
	g.t.Helper()
	for _, p := range pages {
		if err := g.Mem.WriteAt(p, make([]byte, Page)); err != nil {
			g.t.Fatal(err)
		}
	}
	c, err := g.Mem.Slice(pages[0], Page)
	if err != nil {
		g.t.Fatal(err)
	}
	h := Half{mem: g.Mem, Ctl: sys.Words(c), pages: pages[1:], Size: uint32(len(pages)-1) * Page}
	atomic.StoreUint32(&h.Ctl[ctlFeatures], 1)
	return h
}

// Copy moves bytes to the ring, or from it, over its end.
func (h *Half) Copy(at uint32, p []byte, write bool) {
	for i := range p {
		o := (at + uint32(i)) % h.Size
		b, err := h.mem.Slice(h.pages[o/Page]+x86.GPA(o%Page), 1)
		switch {
		case err != nil:
			return
		case write:
			b[0] = p[i]
		default:
			p[i] = b[0]
		}
	}
}

// Open gives pages to the channel, the first split of them for what the guest
// writes, and opens it. It returns the status.
func (p *Port) Open(vp uint32, pages []x86.GPA, split int) uint32 {
	p.g.t.Helper()
	p.Out, p.In = p.g.half(pages[:split]), p.g.half(pages[split:])
	p.Handle = p.g.GPADL(p.RelID, pages)
	words := make([]uint32, 35)
	copy(words, []uint32{p.RelID, p.RelID, p.Handle, vp, uint32(split)})
	p.g.Post(5, words...)
	m := p.g.Want(6, 20)
	if le.Uint32(m[8:]) != p.RelID || le.Uint32(m[12:]) != p.RelID {
		p.g.t.Fatalf("open was answered with % x", m)
	}
	return le.Uint32(m[16:])
}

// Close closes the channel and takes the pages back.
func (p *Port) Close() {
	p.g.t.Helper()
	p.g.Post(7, p.RelID)
	p.g.Post(11, p.RelID, p.Handle)
	if m := p.g.Want(12, 12); le.Uint32(m[8:]) != p.Handle {
		p.g.t.Fatalf("torn down % x", m)
	}
}

// Packet makes a packet without its trailer. direct is what follows the descriptor
// of packets that name pages.
func Packet(kind, flags uint16, transaction uint64, direct, payload []byte) []byte {
	packet := make([]byte, 16, 16+len(direct)+len(payload)+7)
	packet = append(packet, direct...)
	offset := len(packet)
	packet = append(packet, payload...)
	packet = append(packet, make([]byte, -len(packet)&7)...)
	le.PutUint16(packet, kind)
	le.PutUint16(packet[2:], uint16(offset/8))
	le.PutUint16(packet[4:], uint16(len(packet)/8))
	le.PutUint16(packet[6:], flags)
	le.PutUint64(packet[8:], transaction)
	return packet
}

// Send writes a packet and signals as Linux does; false when it does not fit.
func (p *Port) Send(kind, flags uint16, transaction uint64, direct, payload []byte) bool {
	p.g.t.Helper()
	return p.Write(Packet(kind, flags, transaction, direct, payload))
}

// Write puts a packet and a trailer into the ring, and signals where the server
// found the ring empty and did not mask.
func (p *Port) Write(packet []byte) bool {
	r := &p.Out
	at, read := atomic.LoadUint32(&r.Ctl[ctlWrite]), atomic.LoadUint32(&r.Ctl[ctlRead])
	used := (at + r.Size - read) % r.Size
	if r.Size-used <= uint32(len(packet)+8) {
		return false
	}
	r.Copy(at, packet, true)
	var tail [8]byte
	le.PutUint32(tail[4:], at)
	r.Copy((at+uint32(len(packet)))%r.Size, tail[:], true)
	atomic.StoreUint32(&r.Ctl[ctlWrite], (at+uint32(len(packet)+8))%r.Size)
	if atomic.LoadUint32(&r.Ctl[ctlMask]) == 0 && atomic.LoadUint32(&r.Ctl[ctlRead]) == at {
		p.Ring()
	}
	return true
}

// Ring signals the server.
func (p *Port) Ring() {
	p.g.t.Helper()
	p.Signals++
	if err := p.g.Bus.Signal(p.Signal); err != nil {
		p.g.t.Fatal(err)
	}
}

// Poll takes a packet if there is one: its type, transaction and payload.
func (p *Port) Poll() (kind uint16, transaction uint64, payload []byte, ok bool) {
	p.g.t.Helper()
	r := &p.In
	at, write := atomic.LoadUint32(&r.Ctl[ctlRead]), atomic.LoadUint32(&r.Ctl[ctlWrite])
	if at == write {
		return 0, 0, nil, false
	}
	var d [16]byte
	r.Copy(at, d[:], false)
	offset, length := uint32(le.Uint16(d[2:]))*8, uint32(le.Uint16(d[4:]))*8
	used := (write + r.Size - at) % r.Size
	if offset < 16 || length < offset || length+8 > used {
		p.g.t.Fatalf("packet with offset %d and length %d, %d bytes are there", offset, length, used)
	}
	payload = make([]byte, length-offset)
	r.Copy((at+offset)%r.Size, payload, false)
	var tail [8]byte
	r.Copy((at+length)%r.Size, tail[:], false)
	if le.Uint32(tail[4:]) != at || le.Uint32(tail[:]) != 0 {
		p.g.t.Errorf("trailer % x of the packet at %d", tail, at)
	}
	atomic.StoreUint32(&r.Ctl[ctlRead], (at+length+8)%r.Size)
	pending := atomic.LoadUint32(&r.Ctl[ctlPending])
	if atomic.LoadUint32(&r.Ctl[ctlFeatures])&1 != 0 && pending != 0 {
		// The server waits, and has room now that it had not before.
		if r.Size-used <= pending && r.Size-used+length+8 > pending {
			p.Ring()
		}
	}
	return le.Uint16(d[:]), le.Uint64(d[8:]), payload, true
}

// Recv waits for a packet. It looks into the ring only when it was interrupted, so
// that an interrupt that does not come fails the test.
func (p *Port) Recv() (kind uint16, transaction uint64, payload []byte) {
	p.g.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		seen := p.g.SynIC.Interrupts(int(p.RelID))
		if kind, transaction, payload, ok := p.Poll(); ok {
			return kind, transaction, payload
		}
		for p.g.SynIC.Interrupts(int(p.RelID)) == seen {
			if time.Now().After(deadline) {
				p.g.t.Fatal("no packet arrived")
			}
			time.Sleep(20 * time.Microsecond)
		}
	}
}
