package nvme

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"keel/translate/blk"
)

// Namespace is a namespace of a controller: a disk.
type Namespace struct {
	c          *Controller
	id         uint32
	blockSize  uint32
	identity   identity
	info       atomic.Pointer[blk.Info]
	deallocate atomic.Bool // Write Zeroes may give the space back
	gone       atomic.Bool
	lanes      []lane // one a queue pair

	watcher atomic.Pointer[func(blk.Event)]
	news    atomic.Uint32 // events that the watcher has not heard of
	listed  bool          // among the controller's pending; its lock guards it
}

// Bits of news.
const (
	newsResized = 1 << blk.EventResized
	newsRemoved = 1 << blk.EventRemoved
)

var _ blk.Disk = (*Namespace)(nil)

// newNamespace makes the disk of a namespace.
func newNamespace(c *Controller, id uint32, data *namespaceData) *Namespace {
	n := &Namespace{c: c, id: id, blockSize: data.info.BlockSize, identity: data.identity}
	n.lanes = make([]lane, len(c.queues))
	for i := range n.lanes {
		n.lanes[i].n = n
	}
	n.update(data)
	return n
}

// update takes over what the namespace says of itself now, and tells whether
// something changed.
func (n *Namespace) update(data *namespaceData) bool {
	info := data.info
	info.ID = n.diskID()
	// Every disk needs a serial of its own; the first has the controller's.
	info.Serial = n.c.identity.serial
	if n.id != 1 {
		info.Serial = fmt.Sprintf("%s-%d", info.Serial, n.id)
	}
	n.deallocate.Store(data.deallocate)
	before := n.info.Swap(&info)
	return before != nil && *before != info
}

// diskID returns the globally unique identifier, the shorter one with zeroes
// behind it, or else a hash of what names the namespace. The UUID is no part of it:
// QEMU makes up a new one for every start unless told one.
func (n *Namespace) diskID() (id [16]byte) {
	switch {
	case n.identity.nguid != [16]byte{}:
		return n.identity.nguid
	case n.identity.eui64 != [8]byte{}:
		copy(id[:], n.identity.eui64[:])
		return id
	}
	h := sha256.New()
	for _, field := range []string{n.c.identity.serial, n.c.identity.model} {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(field))))
		h.Write([]byte(field))
	}
	h.Write(binary.LittleEndian.AppendUint32(nil, n.id))
	copy(id[:], h.Sum(nil))
	return id
}

// NSID returns the number of the namespace.
func (n *Namespace) NSID() uint32 { return n.id }

// UUID returns the namespace's UUID, zeroes when it has none.
func (n *Namespace) UUID() [16]byte { return n.identity.uuid }

// Info implements blk.Disk.
func (n *Namespace) Info() blk.Info { return *n.info.Load() }

// Submit implements blk.Disk.
func (n *Namespace) Submit(hint int, r *blk.Request) {
	if err := r.Check(n.info.Load()); err != nil {
		r.Complete(err)
		return
	}
	if n.gone.Load() {
		r.Complete(blk.ErrRemoved)
		return
	}
	if empty(r) {
		r.Complete(nil)
		return
	}
	index := int(uint(hint) % uint(len(n.c.queues)))
	n.c.queues[index].submit(&n.lanes[index], r)
}

// Cancel implements blk.Disk.
func (n *Namespace) Cancel(r *blk.Request) {
	for i, q := range n.c.queues {
		l, parts, found := &n.lanes[i], 0, false
		q.mu.Lock()
		waits := l.remove(r)
		if l.cursor.r == r {
			parts = l.cursor.parts
			l.cursor = cursor{}
		}
		for i := range q.slots {
			s := &q.slots[i]
			if s.r == r && (s.state == slotIssued || s.state == slotDelayed) {
				s.cancel, found = true, true
			}
		}
		q.mu.Unlock()
		if waits {
			r.Complete(blk.ErrAborted)
			return
		}
		for range parts {
			r.Finish(blk.ErrAborted)
		}
		if found {
			n.c.wake()
		}
		if found || parts > 0 {
			return
		}
	}
}

// Watch implements blk.Disk.
func (n *Namespace) Watch(f func(blk.Event)) {
	n.watcher.Store(&f)
	if n.news.Load() != 0 {
		n.c.announce(n, 0)
	}
}

// tell tells the watcher of what happened. Nobody hears anything of a disk that is
// gone but that.
func (n *Namespace) tell() {
	f := n.watcher.Load()
	if f == nil {
		return
	}
	switch news := n.news.Swap(0); {
	case news&newsRemoved != 0:
		(*f)(blk.EventRemoved)
	case news != 0:
		(*f)(blk.EventResized)
	}
}
