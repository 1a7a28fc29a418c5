package vmbustest

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/vmbus"
	"keel/vtl/guestmem"
)

var le = binary.LittleEndian

const (
	// Page is the size of a page, in bytes.
	Page = x86.PageSize
	// VPs is how many VPs a guest has, where the configuration does not say.
	VPs = 4

	firstHandle = 0xE1E10
	ramSize     = 16 << 20
	lowRAM      = 8 << 20
	highRAM     = 1 << 32

	// Room for page numbers in the two messages of a GPADL, in bytes.
	roomHeader = 216
	roomBody   = 224
)

// Guest is a driver of the bus.
type Guest struct {
	Mem   *guestmem.Memory
	SynIC *SynIC
	Bus   *vmbus.Server

	t          testing.TB
	connection uint32
	next       x86.GPA // page that is free
	handle     uint32  // last GPADL
}

// NewGuest makes a guest with 16 MiB of memory, and a server of its own as the
// configuration says. They end with the test.
func NewGuest(tb testing.TB, c vmbus.Config) *Guest {
	tb.Helper()
	mem, err := guestmem.New(ramSize, guestmem.Layout{LowTop: lowRAM, HighBase: highRAM}, false)
	if err != nil {
		tb.Fatal(err)
	}
	g := &Guest{t: tb, Mem: mem, SynIC: newSynIC(), connection: 1, next: Page, handle: firstHandle}
	c.Memory, c.Hypervisor = mem, g.SynIC
	if c.VPs == 0 {
		c.VPs = VPs
	}
	if g.Bus, err = vmbus.New(c); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		g.Bus.Close()
		_ = mem.Close()
	})
	return g
}

// Pages allocates guest memory, every second page so that none follow another.
func (g *Guest) Pages(n int) []x86.GPA {
	list := make([]x86.GPA, n)
	for i := range list {
		list[i] = g.next
		g.next += 2 * Page
	}
	return list
}

// Post sends a message of words after the header.
func (g *Guest) Post(kind uint32, words ...uint32) {
	g.t.Helper()
	m := make([]byte, 8, 8+4*len(words))
	le.PutUint32(m, kind)
	for _, w := range words {
		m = le.AppendUint32(m, w)
	}
	g.Raw(m)
}

// Raw sends a message as it is.
func (g *Guest) Raw(m []byte) {
	g.t.Helper()
	if err := g.Bus.Message(g.connection, m); err != nil {
		g.t.Fatalf("posting message %d: %v", le.Uint32(m), err)
	}
}

// Want takes a message and checks its type and size.
func (g *Guest) Want(kind uint32, size int) []byte {
	g.t.Helper()
	m := g.SynIC.Take(g.t)
	if le.Uint32(m) != kind || len(m) != size {
		g.t.Fatalf("message of type %d and %d bytes, want %d and %d", le.Uint32(m), len(m), kind, size)
	}
	return m
}

// Contact asks for a version and returns the answer.
func (g *Guest) Contact(version, vp uint32) []byte {
	g.t.Helper()
	g.connection = 1
	target := uint32(0)
	if version >= 5<<16 {
		g.connection, target = 4, vmbus.MessageSINT
	}
	g.Post(14, version, vp, target, 0, 0x1000, 0, 0x2000, 0)
	return g.Want(15, 16)
}

// Connect does what the driver does first.
func (g *Guest) Connect(version uint32) {
	g.t.Helper()
	if m := g.Contact(version, 0); m[8] != 1 {
		g.t.Fatalf("version %#x was refused", version)
	}
}

// Offers asks for offers and returns them.
func (g *Guest) Offers() [][]byte {
	g.t.Helper()
	g.Post(3)
	var list [][]byte
	for {
		m := g.SynIC.Take(g.t)
		if le.Uint32(m) == 4 {
			return list
		}
		if le.Uint32(m) != 1 || len(m) != 196 {
			g.t.Fatalf("message of type %d among the offers", le.Uint32(m))
		}
		list = append(list, m)
	}
}

// GPADL gives pages to a channel, in as many messages as it takes, and returns the
// handle.
func (g *Guest) GPADL(relID uint32, pages []x86.GPA) uint32 {
	g.t.Helper()
	g.handle++
	list := Range(0, uint32(Page*len(pages)), pages...)
	head := make([]byte, 20, vmbus.MessageSize)
	le.PutUint32(head, 8)
	le.PutUint32(head[8:], relID)
	le.PutUint32(head[12:], g.handle)
	le.PutUint16(head[16:], uint16(len(list)))
	le.PutUint16(head[18:], 1)
	n := min(len(list), roomHeader)
	g.Raw(append(head, list[:n]...))
	for i := uint32(1); n < len(list); i++ {
		body := make([]byte, 16, vmbus.MessageSize)
		le.PutUint32(body, 9)
		le.PutUint32(body[8:], i)
		le.PutUint32(body[12:], g.handle)
		part := list[n:min(n+roomBody, len(list))]
		g.Raw(append(body, part...))
		n += len(part)
	}
	m := g.Want(10, 20)
	if le.Uint32(m[8:]) != relID || le.Uint32(m[12:]) != g.handle || le.Uint32(m[16:]) != 0 {
		g.t.Fatalf("GPADL was answered with % x", m)
	}
	return g.handle
}

// Range makes a range of a page list: length, offset, page numbers.
func Range(offset, length uint32, pages ...x86.GPA) []byte {
	b := make([]byte, 8, 8+8*len(pages))
	le.PutUint32(b, length)
	le.PutUint32(b[4:], offset)
	for _, p := range pages {
		b = le.AppendUint64(b, uint64(p)/Page)
	}
	return b
}

// Direct makes what follows the descriptor of a GPA direct packet: a list of one
// range.
func Direct(offset, length uint32, pages ...x86.GPA) []byte {
	return append([]byte{0, 0, 0, 0, 1, 0, 0, 0}, Range(offset, length, pages...)...)
}

// OpenWith opens an offered channel over rings of so many data pages and returns
// the status.
func (g *Guest) OpenWith(offer []byte, vp uint32, data int) (*Port, uint32) {
	g.t.Helper()
	p := &Port{g: g, RelID: le.Uint32(offer[184:]), Signal: le.Uint32(offer[192:])}
	return p, p.Open(vp, g.Pages(2*(data+1)), data+1)
}

// Open opens an offered channel over small rings.
func (g *Guest) Open(offer []byte, vp uint32) *Port {
	g.t.Helper()
	p, status := g.OpenWith(offer, vp, 3)
	if status != 0 {
		g.t.Fatalf("open failed with %#x", status)
	}
	return p
}
