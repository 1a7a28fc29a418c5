package vtl

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"keel/hcl"
)

// Exits are recorded while somebody asks for them. Each VP has a ring that its thread
// alone writes, without a lock; readers find out what was overwritten under their eyes.

// ringSize is how many exits of a VP are kept, a power of two.
const ringSize = 1024

// ExitRecord is an exit that was recorded.
type ExitRecord struct {
	Time  int64 // of Guest.Now, when the guest was left
	VP    int
	Kind  hcl.ExitKind
	Write bool
	Size  uint8
	RIP   uint64
	Where uint64 // port, address or number of the register
	Value uint64 // what moved either way, its first 8 bytes; else the backend's reason
}

// Words of a record in a ring.
const (
	wordTime = iota
	wordWhat // kind, write and size, a byte each
	wordRIP
	wordWhere
	wordValue
	wordsOfRecord
)

// ring holds the last exits of a VP.
type ring struct {
	count atomic.Uint64 // exits so far
	words [ringSize][wordsOfRecord]atomic.Uint64
}

// add records an exit that has been answered. It belongs to the VP's thread.
func (r *ring) add(at int64, e *hcl.Exit) {
	n := r.count.Load()
	what := uint64(e.Kind) | uint64(e.Size)<<16
	if e.Write {
		what |= 1 << 8
	}
	where, value := whereOf(e), e.Value
	if len(e.Data) > 0 {
		value = load(e.Data[:min(len(e.Data), 8)])
	}
	w := &r.words[n%ringSize]
	w[wordTime].Store(uint64(at))
	w[wordWhat].Store(what)
	w[wordRIP].Store(e.RIP)
	w[wordWhere].Store(where)
	w[wordValue].Store(value)
	r.count.Store(n + 1)
}

// whereOf is what an exit was about: a port, a register's number or an address.
func whereOf(e *hcl.Exit) uint64 {
	switch e.Kind {
	case hcl.ExitPIO:
		return uint64(e.Port)
	case hcl.ExitMSRRead, hcl.ExitMSRWrite:
		return uint64(e.MSR)
	default: // an address, or nothing
		return uint64(e.GPA)
	}
}

// read appends the records from one on to out, and returns the number of the next. What
// is not there any more is counted.
func (r *ring) read(vp int, from uint64, out []ExitRecord) (_ []ExitRecord, next, lost uint64) {
	next = r.count.Load()
	first := oldest(from, next)
	begin := len(out)
	for n := first; n < next; n++ {
		w := &r.words[n%ringSize]
		what := w[wordWhat].Load()
		out = append(out, ExitRecord{
			Time: int64(w[wordTime].Load()), VP: vp,
			Kind: hcl.ExitKind(what), Write: what>>8&1 != 0, Size: uint8(what >> 16),
			RIP: w[wordRIP].Load(), Where: w[wordWhere].Load(), Value: w[wordValue].Load(),
		})
	}
	// Those that the VP has begun to overwrite meanwhile are no records.
	gone := oldest(first, r.count.Load()) - first
	gone = min(gone, next-first)
	out = slices.Delete(out, begin, begin+int(gone))
	return out, next, first + gone - from
}

// oldest is the first record from one on that is whole when there are count: the next
// takes the place of the one a ring ahead.
func oldest(from, count uint64) uint64 {
	if count-from >= ringSize {
		return count - ringSize + 1
	}
	return from
}

// Recorder reads the exits that the guest has while it is open. It belongs to one
// goroutine.
type Recorder struct {
	guest *Guest
	rings []*ring
	next  []uint64
}

// recording counts who reads.
type recording struct {
	mu   sync.Mutex
	open int
}

// Record begins to record exits, of all VPs, beside others who do. Any goroutine may call
// it.
func (g *Guest) Record() *Recorder {
	g.recording.mu.Lock()
	defer g.recording.mu.Unlock()
	g.recording.open++
	r := &Recorder{guest: g}
	for _, v := range g.vps {
		if v.ring.Load() == nil {
			v.ring.Store(&ring{})
		}
		r.rings = append(r.rings, v.ring.Load())
		r.next = append(r.next, v.ring.Load().count.Load())
	}
	return r
}

// Close ends the recording of this reader; with the last one the rings go.
func (r *Recorder) Close() {
	r.guest.recording.mu.Lock()
	defer r.guest.recording.mu.Unlock()
	if r.guest.recording.open--; r.guest.recording.open == 0 {
		for _, v := range r.guest.vps {
			v.ring.Store(nil)
		}
	}
}

// Read appends the exits since the last call to out, in the order of time, and returns how
// many more there were that it came too late for.
func (r *Recorder) Read(out []ExitRecord) (_ []ExitRecord, lost uint64) {
	begin := len(out)
	for i, ring := range r.rings {
		var gone uint64
		out, r.next[i], gone = ring.read(i, r.next[i], out)
		lost += gone
	}
	slices.SortStableFunc(out[begin:], func(a, b ExitRecord) int { return cmp.Compare(a.Time, b.Time) })
	return out, lost
}
