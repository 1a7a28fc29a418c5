// Package tap copies storage commands on their way through Keel to whoever captures them.
//
// The I/O path has a Tap, or none: then it pays for one load of a pointer. What a Tap is
// given goes into a ring of a bounded size, from which one reader takes it; what finds no
// room there is lost and counted. The I/O path never waits for the reader.
package tap

import (
	"sync"
	"time"

	"keel/translate/blk"
)

// Kind is what a Record says.
type Kind uint8

// The kinds, and what Bytes are.
const (
	SCSICommand    Kind = iota // the command descriptor block
	SCSIStatus                 // sense data
	NVMeCommand                // the entry of the submission queue
	NVMeCompletion             // the entry of the completion queue
)

// Bounds of a ring.
const (
	// MaxBytes is the most that Bytes of a Record hold.
	MaxBytes = 64
	// MaxData is the most data that comes with a record, in bytes.
	MaxData = 4096

	records = 1024      // of each of a ring's two buffers
	room    = 128 << 10 // bytes of data, likewise
)

// Record is a command, or how one ended.
type Record struct {
	Kind   Kind
	Length uint8  // of Bytes
	Status uint8  // of SCSIStatus: the status (SAM-5, 5.3.1)
	Ended  bool   // of SCSIStatus: the command ran to its end; others have no status
	LUN    uint16 // of SCSI
	Queue  uint16 // of NVMe: the queue pair; of SCSI: the queue of the front end
	Source uint16 // where it comes from: the number of its Tap
	Tag    uint32 // of SCSI: the same for command and status, and for no other command
	Time   time.Duration
	// In and Out are the bytes that a SCSI command may move to and from the guest. Of
	// SCSIStatus, In is what was moved to it, and Residual what was not moved.
	In, Out, Residual uint64
	Bytes             [MaxBytes]byte

	at, data int // in the buffer's data
}

// buffer is what a ring collects until its reader comes.
type buffer struct {
	records []Record
	data    []byte
}

// Ring is where the records of several Taps come together.
type Ring struct {
	snap  int
	ready chan struct{}

	mu     sync.Mutex
	now    buffer // to which records are added
	spare  buffer // which the reader has given back
	seen   []Count
	tags   uint32
	closed bool
}

// Count is how many records a source has had.
type Count struct {
	Seen uint64 // all of them
	Lost uint64 // of these, what found no room; the end of a lost command does not count
}

// New makes a ring for as many sources. Each record comes with the first snap bytes of its
// data, at most MaxData.
func New(sources, snap int) *Ring {
	r := &Ring{snap: min(max(snap, 0), MaxData), ready: make(chan struct{}, 1), seen: make([]Count, sources)}
	for _, b := range []*buffer{&r.now, &r.spare} {
		b.records = make([]Record, 0, records)
		if r.snap > 0 {
			b.data = make([]byte, 0, room)
		}
	}
	return r
}

// Tap returns what a part of the I/O path gives its records to. Its number is less than
// the ring's number of sources.
func (r *Ring) Tap(source int) *Tap { return &Tap{r, uint16(source)} }

// Ready has a token when the ring is about to be full.
func (r *Ring) Ready() <-chan struct{} { return r.ready }

// Batch is what a ring has collected.
type Batch struct {
	Records []Record
	Counts  []Count // of each source, since the ring was made
	data    []byte
}

// Data returns the data that came with a record of the batch.
func (b *Batch) Data(r *Record) []byte { return b.data[r.at : r.at+r.data] }

// Take fills a batch with what there is, in the order in which it came. What the batch
// had before is gone. There is one reader.
func (r *Ring) Take(b *Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.now
	r.now = buffer{r.spare.records[:0], r.spare.data[:0]}
	r.spare = full // the reader's until it comes again
	b.Records, b.data = full.records, full.data
	b.Counts = append(b.Counts[:0], r.seen...)
}

// Close lets go of the ring's memory. Records that come later are dropped.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.now, r.spare = true, buffer{}, buffer{}
}

// Tap takes the records of one source.
type Tap struct {
	ring   *Ring
	source uint16
}

// Command adds a command, with the first bytes of its data, and tells whether there was
// room. It sets the record's source and tag.
func (t *Tap) Command(r *Record, data []blk.Segment) bool {
	t.ring.mu.Lock()
	defer t.ring.mu.Unlock()
	t.ring.tags++
	r.Tag = t.ring.tags
	return t.add(r, data, uint64(t.ring.snap))
}

// End adds how a command ended, with the first of the bytes that it moved. It sets the
// record's source.
func (t *Tap) End(r *Record, data []blk.Segment, moved uint64) {
	t.ring.mu.Lock()
	defer t.ring.mu.Unlock()
	t.add(r, data, min(moved, uint64(t.ring.snap)))
}

// add adds a record with at most so many bytes of data.
// Preconditions: locked.
func (t *Tap) add(r *Record, data []blk.Segment, most uint64) bool {
	ring := t.ring
	if ring.closed {
		return false
	}
	b, count := &ring.now, &ring.seen[t.source]
	count.Seen++
	length := uint64(0)
	for i := range data {
		length += uint64(len(data[i].Data))
	}
	left := int(min(most, length))
	if len(b.records) == cap(b.records) || left > cap(b.data)-len(b.data) {
		count.Lost++
		return false
	}
	r.Source, r.at = t.source, len(b.data)
	for i := range data {
		n := min(left, len(data[i].Data))
		b.data = append(b.data, data[i].Data[:n]...)
		left -= n
	}
	r.data = len(b.data) - r.at
	b.records = append(b.records, *r)
	if len(b.records) == cap(b.records)/2 || cap(b.data) > 0 && len(b.data) > cap(b.data)/2 {
		select {
		case ring.ready <- struct{}{}:
		default:
		}
	}
	return true
}
