package nvme

import (
	"fmt"
	"sync/atomic"

	"keel/hcl/pci"
)

// ring is a submission queue with the completion queue that belongs to it. Its
// owner has the lock.
type ring struct {
	id             int
	size           int // entries of each
	sq, cq         pci.Buffer
	regs           pci.Registers
	sqBell, cqBell int

	tail, rung int // next entry to write; what the controller was told of it
	head       int // what the controller said that it has taken
	next       int // completion to look at
	phase      uint32
}

// phaseTag is the bit of a completion's last word that changes with every round
// (NVMe §4.6).
const phaseTag = 1 << 16

// newRing allocates the memory of a queue pair.
func newRing(f pci.Function, regs pci.Registers, c capabilities, id, size int) (ring, error) {
	r := ring{id: id, size: size, regs: regs}
	r.sqBell = regDoorbells + 2*id*c.stride()
	r.cqBell = r.sqBell + c.stride()
	var err error
	if r.sq, err = allocate(f, size*entrySize); err != nil {
		return ring{}, err
	}
	if r.cq, err = allocate(f, size*resultSize); err != nil {
		return ring{}, err
	}
	r.clear()
	return r, nil
}

// allocate gets memory from the function and checks what came.
func allocate(f pci.Function, size int) (pci.Buffer, error) {
	b, err := f.Allocate(size)
	if err != nil {
		return b, fmt.Errorf("%d bytes for the controller: %w", size, err)
	}
	if len(b.Bytes) < size || len(b.Words) < size/4 || b.DMA%pageSize != 0 {
		return b, fmt.Errorf("%w: %d bytes for the controller came as %d at %#x", pci.ErrLimit, size, len(b.Bytes), b.DMA)
	}
	return b, nil
}

// clear makes both queues empty.
// Preconditions: the controller is disabled.
func (r *ring) clear() {
	for i := range r.cq.Words {
		atomic.StoreUint32(&r.cq.Words[i], 0)
	}
	r.tail, r.rung, r.head, r.next, r.phase = 0, 0, 0, 0, phaseTag
}

// push adds a command. The controller hears of it at the next tell.
// Preconditions: fewer than size-1 commands are under way.
func (r *ring) push(e *entry) {
	// The doorbell that follows is a store to device memory, which the processor
	// keeps behind this one.
	copy(r.sq.Bytes[r.tail*entrySize:], e[:])
	if r.tail++; r.tail == r.size {
		r.tail = 0
	}
}

// tell rings the doorbell when there are new commands.
func (r *ring) tell() {
	if r.tail != r.rung {
		r.rung = r.tail
		r.regs.Write32(r.sqBell, uint32(r.tail))
	}
}

// last returns the word of the next completion that changes last.
func (r *ring) last() *uint32 { return &r.cq.Words[r.next*resultSize/4+3] }

// pop copies the next completion, if there is one.
func (r *ring) pop() (completion, bool) {
	w := r.cq.Words[r.next*resultSize/4:][:resultSize/4]
	last := atomic.LoadUint32(&w[3])
	if last&phaseTag != r.phase {
		return completion{}, false
	}
	// The controller writes the tag last, so that the rest is complete; each word is
	// read once, because it may still change them.
	where := atomic.LoadUint32(&w[2])
	c := completion{
		result: atomic.LoadUint32(&w[0]),
		head:   uint16(where),
		queue:  uint16(where >> 16),
		id:     uint16(last),
		status: status(last >> 17),
	}
	if r.next++; r.next == r.size {
		r.next = 0
		r.phase ^= phaseTag
	}
	return c, true
}

// took notes how far the controller has read the submission queue. It refuses what
// lies outside of what was written.
func (r *ring) took(head uint16) bool {
	h := int(head)
	if h >= r.size || (h-r.head+r.size)%r.size > (r.rung-r.head+r.size)%r.size {
		return false
	}
	r.head = h
	return true
}

// acknowledge gives the completions that were popped back to the controller.
func (r *ring) acknowledge() { r.regs.Write32(r.cqBell, uint32(r.next)) }
