package virtiotest

import (
	"encoding/binary"
	"sync/atomic"

	"keel/hcl/abi/x86"
)

// Buffer is memory of the guest.
type Buffer struct {
	GPA  x86.GPA
	Size uint32
}

// Ring is the driver's side of a split virtqueue. One goroutine uses it at a time.
// Desc, Avail and Used are for tests that write what no driver should.
type Ring struct {
	Desc, Avail, Used []byte

	driver   *Driver
	queue    int
	offset   uint64 // for notifications
	size     uint16
	events   bool
	indirect bool
	tables   []x86.GPA // one for each descriptor
	free     []uint16
	chains   map[uint16][]uint16 // descriptors by head
	added    uint16              // available index
	kicked   uint16              // available index of the last notification
	seen     uint16              // used index
	fence    atomic.Uint32
	// Kicks counts the notifications.
	Kicks int
}

// maxTable is how many descriptors a chain may have in an indirect table.
const maxTable = 64

// AddRing sets a queue up: its vector is the number of the queue plus 1.
func (d *Driver) AddRing(queue int, size uint16, features uint64) *Ring {
	r := &Ring{
		driver: d, queue: queue, size: size, events: features&(1<<29) != 0, indirect: features&(1<<28) != 0,
		chains: map[uint16][]uint16{},
	}
	desc := d.Allocate(16 * int(size))
	avail := d.Allocate(6 + 2*int(size))
	used := d.Allocate(6 + 8*int(size))
	r.Desc, r.Avail, r.Used = d.View(desc, 16*int(size)), d.View(avail, 6+2*int(size)), d.View(used, 6+8*int(size))
	for i := range size {
		r.free = append(r.free, size-1-i)
		if r.indirect {
			r.tables = append(r.tables, d.Allocate(16*maxTable))
		}
	}
	d.SetCommon(0x16, 2, uint64(queue))
	d.SetCommon(0x18, 2, uint64(size))
	d.SetCommon(0x1a, 2, uint64(queue+1))
	for i, at := range []x86.GPA{desc, avail, used} {
		d.SetCommon(0x20+x86.GPA(8*i), 4, uint64(at)&0xffffffff)
		d.SetCommon(0x24+x86.GPA(8*i), 4, uint64(at)>>32)
	}
	r.offset = d.Common(0x1e, 2)
	d.SetCommon(0x1c, 2, 1)
	return r
}

// SetDescriptor writes a descriptor into a table.
func SetDescriptor(table []byte, i int, at x86.GPA, length uint32, flags, next uint16) {
	b := table[16*i:]
	binary.LittleEndian.PutUint64(b, uint64(at))
	binary.LittleEndian.PutUint32(b[8:], length)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// Add offers a chain and returns its head, false when the ring has no room. With
// indirect descriptors, chains of more than one buffer use a table.
func (r *Ring) Add(readable, writable []Buffer) (uint16, bool) {
	total := len(readable) + len(writable)
	need := total
	if r.indirect && total > 1 {
		need = 1
	}
	if need > len(r.free) || total > maxTable {
		return 0, false
	}
	used := append([]uint16(nil), r.free[len(r.free)-need:]...)
	r.free = r.free[:len(r.free)-need]
	head := used[0]
	table, place := r.Desc, func(i int) uint16 { return used[i] }
	if r.indirect && total > 1 {
		SetDescriptor(r.Desc, int(head), r.tables[head], uint32(16*total), 4, 0)
		table, place = r.driver.View(r.tables[head], 16*maxTable), func(i int) uint16 { return uint16(i) }
	}
	for i := range total {
		var b Buffer
		var flags, next uint16
		if i < len(readable) {
			b = readable[i]
		} else {
			b, flags = writable[i-len(readable)], 2
		}
		if i+1 < total {
			flags, next = flags|1, place(i+1)
		}
		SetDescriptor(table, int(place(i)), b.GPA, b.Size, flags, next)
	}
	r.chains[head] = used
	r.Offer(head)
	return head, true
}

// Offer puts a head into the available ring.
func (r *Ring) Offer(head uint16) {
	binary.LittleEndian.PutUint16(r.Avail[4+2*int(r.added%r.size):], head)
	r.fence.Add(1)
	r.added++
	binary.LittleEndian.PutUint16(r.Avail[2:], r.added)
}

// Kick notifies the device if it wants to be notified of what was added.
func (r *Ring) Kick() {
	r.fence.Add(1)
	old := r.kicked
	r.kicked = r.added
	if r.events {
		event := binary.LittleEndian.Uint16(r.Used[4+8*int(r.size):])
		if r.added-event-1 >= r.added-old {
			return
		}
	} else if r.Used[0]&1 != 0 {
		return
	}
	r.Kicks++
	r.driver.notifyAt(r.queue, r.offset)
}

// Poll takes a used chain, false when there is none.
func (r *Ring) Poll() (head uint16, written uint32, ok bool) {
	index := binary.LittleEndian.Uint16(r.Used[2:])
	r.fence.Add(1)
	if index == r.seen {
		return 0, 0, false
	}
	entry := r.Used[4+8*int(r.seen%r.size):]
	id := binary.LittleEndian.Uint32(entry)
	written = binary.LittleEndian.Uint32(entry[4:])
	r.seen++
	r.free = append(r.free, r.chains[uint16(id)]...)
	delete(r.chains, uint16(id))
	return uint16(id), written, true
}

// Want asks for an interrupt with the next used chain, or without events for all;
// it tells whether there is still none.
func (r *Ring) Want() bool {
	if r.events {
		binary.LittleEndian.PutUint16(r.Avail[4+2*int(r.size):], r.seen)
	} else {
		binary.LittleEndian.PutUint16(r.Avail, 0)
	}
	r.fence.Add(1)
	return binary.LittleEndian.Uint16(r.Used[2:]) == r.seen
}

// Unwant asks for no interrupts.
func (r *Ring) Unwant() {
	if r.events {
		binary.LittleEndian.PutUint16(r.Avail[4+2*int(r.size):], r.seen-1)
		return
	}
	binary.LittleEndian.PutUint16(r.Avail, 1)
}
