// Package gueststate is a sealed, crash-safe store on a small disk of the VM's that the
// guest never sees. It holds one content, which a commit replaces as a whole.
//
// The disk has two slots. A commit seals the content, writes it over the older slot,
// flushes, and only then counts; a power failure at any moment leaves the slot that was
// committed last as it is. Open takes the slot that authenticates and has the highest
// sequence number. format.go has the layout, seal.go the cryptography, README.md what
// the host can still do.
//
// The disk belongs to the host: what comes from it is copied once, then checked.
package gueststate

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
	"keel/translate/blk"
	"keel/vtpm"
)

// Causes for which a disk is refused. Open and Inspect wrap them in a *handoff.Failure
// that also names the remedy; the disk stays as it was.
var (
	ErrSize     = errors.New("the state disk has an unusable size")
	ErrReadOnly = errors.New("the state disk is read-only")
	ErrForeign  = errors.New("the disk holds something that is no state")
	ErrDamaged  = errors.New("neither slot of the state disk is intact")
	ErrVM       = errors.New("the state belongs to another VM")
	ErrProvider = errors.New("the state is sealed with a key of another kind")
	ErrKey      = errors.New("the state is sealed with another key")
	ErrNewer    = errors.New("the state has a newer format")
	ErrDisk     = errors.New("the state disk does not work")
)

// Errors of a store that is open.
var (
	ErrFull     = errors.New("the state does not fit into its slot")
	ErrEmpty    = errors.New("an empty state cannot be committed")
	ErrRollback = errors.New("the state disk no longer holds what was committed last")
)

// Options say whose state is wanted.
type Options struct {
	VM       string   // identity of the VM: 1 to MaxVM bytes of printable ASCII, the same for as long as the VM exists
	Provider Provider // of the key
	// Reset gives up whatever state there is, also one that cannot be opened. It does
	// not touch a disk that holds something else.
	Reset bool
	// Confirm, unless it is nil, is asked whether a state may be used, before anything is
	// written. Its mark is zero when there is none, or when it is to be given up. The store
	// goes on with sequence numbers from floor on, before Open returns if the state has a
	// lower one. Open returns its error as it is.
	Confirm func(m Mark) (floor uint64, err error)
}

// Store is an open state disk. Its methods may be called from any goroutine.
type Store struct {
	mu     sync.Mutex
	device *device
	sealer sealer
	newest header // of the slot that was committed last
	report Report
	first  []byte // its content as Open found it, until Load hands it out
	buf    []byte // what a commit writes

	stats counters
}

var _ vtpm.Store = (*Store)(nil)

// Report says what Open found.
type Report struct {
	New       bool    // the disk was empty and has been prepared
	Reset     bool    // the state was given up because Options said so
	Recovered bool    // one slot is not intact: a commit was interrupted, or the slot was damaged
	Spliced   bool    // the slots do not follow each other: the disk lost a write, or the host mixed two histories
	Raised    bool    // an older state was allowed, and goes on above all newer ones
	Slots     [2]Slot // as they were found
	From      string  // name of the slot that is in use
	Sequence  uint64  // of that slot
}

// String says it in one line.
func (r Report) String() string {
	s := fmt.Sprintf("slot %s, sequence %d", r.From, r.Sequence)
	switch {
	case r.Reset:
		return "reset; nothing of the old state is left"
	case r.New:
		return "new and empty"
	case r.Recovered:
		s = "recovered from " + s
	}
	for _, slot := range r.Slots {
		if r.Recovered && slot.Condition != Valid {
			s += fmt.Sprintf("; slot %s: %s", slot.Name, slot.Cause)
		}
	}
	if r.Raised {
		s += "; it was older than one that was known, which was allowed, and goes on above that"
	}
	if r.Spliced {
		s += "; the slots do not follow each other: the disk lost a write or was rolled back in part"
	}
	return s
}

// Open opens the state disk of a VM, and prepares one that is empty. Its errors are of
// type *handoff.Failure and wrap one of the causes above.
//
// Preconditions: nobody else uses the disk, nor has called its Watch.
func Open(disk blk.Disk, o Options) (*Store, error) {
	if !printable(o.VM, MaxVM) {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadConfig, Cause: fmt.Sprintf("%d bytes are no identity of a VM", len(o.VM)),
			Remedy: fmt.Sprintf("use 1 to %d bytes of printable ASCII", MaxVM),
		}
	}
	s := &Store{sealer: sealer{vm: o.VM, provider: o.Provider}}
	var err error
	if s.device, err = newDevice(disk); err != nil {
		return nil, failure(err)
	}
	if s.device.info.ReadOnly {
		return nil, failure(ErrReadOnly)
	}
	if err := s.sealer.prepare(); err != nil {
		return nil, failure(err)
	}
	found, err := s.device.look(s.sealer.judge)
	if err != nil {
		return nil, failure(err)
	}
	s.report.Slots = [2]Slot{found[0].Slot, found[1].Slot}
	if err := s.choose(found, &o); err != nil {
		if f, ok := errors.AsType[*handoff.Failure](err); ok {
			return nil, f
		}
		return nil, failure(err)
	}
	s.report.From, s.report.Sequence = slotName(s.newest.slot), s.newest.sequence
	return s, nil
}

// choose takes the slot that is in use, or makes one.
func (s *Store) choose(found [2]finding, o *Options) error {
	v := verdict(found)
	switch {
	case errors.Is(v.err, ErrForeign):
		return v.err
	case o.Reset:
		floor, err := o.confirm(Mark{})
		if err != nil {
			return err
		}
		s.report.Reset = true
		return s.reset(v, floor)
	case v.err != nil:
		return v.err
	case v.blank:
		floor, err := o.confirm(Mark{})
		if err != nil {
			return err
		}
		s.report.New = true
		return s.prepare(floor)
	}
	s.newest, s.first = found[v.use].header, found[v.use].content
	floor, err := o.confirm(s.newest.mark())
	if err != nil {
		return err
	}
	s.report.Recovered, s.report.Spliced = v.recovered, v.spliced
	return s.raise(floor)
}

// Report returns what Open found.
func (s *Store) Report() Report { return s.report }

// Load returns what was committed last, nil when nothing ever was. The caller owns the
// result. A disk that no longer has it ends in ErrRollback.
func (s *Store) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest.length == 0 {
		return nil, nil
	}
	if b := s.first; b != nil {
		s.first = nil
		return b, nil
	}
	f, err := s.device.read(s.newest.slot, s.sealer.judge)
	if err != nil {
		return nil, err
	}
	if f.Condition != Valid || f.header.sequence != s.newest.sequence || f.header.salt != s.newest.salt {
		s.stats.rollbacks.Add(1)
		return nil, fmt.Errorf("%w: slot %s, sequence %d", ErrRollback, slotName(s.newest.slot), s.newest.sequence)
	}
	return f.content, nil
}

// Commit makes content durable: when it returns nil, a power failure at any later moment
// leaves this content or one that was committed after it. After an error the content
// before is still there.
func (s *Store) Commit(content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(content) == 0:
		s.stats.refused.Add(1)
		return ErrEmpty
	case len(content) > MaxContent:
		s.stats.refused.Add(1)
		return fmt.Errorf("%w: %d bytes, at most %d", ErrFull, len(content), MaxContent)
	}
	start := time.Now()
	nothingYet := s.newest.length == 0
	err := s.write(content, s.newest.slot^1, s.newest.sequence+1)
	if err == nil && nothingYet {
		// From the first commit on both slots have a content. A damaged slot can
		// then never make the state look as if there never had been one.
		err = s.write(content, s.newest.slot^1, s.newest.sequence+1)
	}
	s.stats.committed(len(content), time.Since(start), err)
	return err
}

// write seals content, writes it into a slot and flushes. On success that slot is the
// newest.
func (s *Store) write(content []byte, slot uint32, sequence uint64) error {
	h := header{
		version: Format, sequence: sequence, length: uint32(len(content)), slot: slot, parent: s.newest.salt,
		provider: s.sealer.provider.Name(), vm: s.sealer.vm, hint: s.sealer.hint,
	}
	n := s.device.round(headerBytes + len(content) + tagBytes)
	if cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	s.buf = s.buf[:n]
	if err := s.sealer.seal(s.buf, &h, content); err != nil {
		return err
	}
	if err := s.device.write(int64(slot)*SlotBytes, s.buf); err != nil {
		return err
	}
	if err := s.device.flush(); err != nil {
		return err
	}
	s.newest, s.first = h, nil
	return nil
}

// prepare makes an empty disk a state disk. The zeroes that it writes over zeroes make a
// thin disk allocate its space now, while there is no state to lose; that a block is
// written as a whole or not at all makes the record that follows atomic.
func (s *Store) prepare(floor uint64) error {
	for slot := range uint32(slots) {
		if err := s.device.wipe(int64(slot)*SlotBytes, SlotBytes); err != nil {
			return err
		}
	}
	if err := s.device.flush(); err != nil {
		return err
	}
	return s.write(nil, slots-1, floor)
}

// reset gives the state up. From the first flush on there is none; the rest wipes what
// remains of the old one.
func (s *Store) reset(v outcome, floor uint64) error {
	slot, sequence := uint32(slots-1), floor
	if v.err == nil && !v.blank {
		slot, sequence = v.newest.slot^1, max(v.newest.sequence+1, floor)
	}
	if err := s.write(nil, slot, sequence); err != nil {
		return err
	}
	first := int64(s.device.info.BlockSize)
	if err := s.device.wipe(int64(slot^1)*SlotBytes, SlotBytes); err != nil {
		return err
	}
	if err := s.device.wipe(int64(slot)*SlotBytes+first, SlotBytes-first); err != nil {
		return err
	}
	return s.device.flush()
}

// Stats counts what a store did since Open.
type Stats struct {
	Commits, Failed uint64        // that were made durable; that were not
	Refused         uint64        // commits of contents that no slot takes
	Bytes           uint64        // of committed contents
	Rollbacks       uint64        // loads that did not find what was committed last
	Last, Max, Sum  time.Duration // of commits
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Commits: c.commits.Load(), Failed: c.failed.Load(), Refused: c.refused.Load(), Bytes: c.bytes.Load(), Rollbacks: c.rollbacks.Load(),
		Last: time.Duration(c.last.Load()), Max: time.Duration(c.max.Load()), Sum: time.Duration(c.sum.Load()),
	}
}

type counters struct {
	commits, failed, refused, bytes, rollbacks atomic.Uint64
	last, max, sum                             atomic.Int64 // nanoseconds
}

// committed counts a commit. Preconditions: the store is locked.
func (c *counters) committed(bytes int, took time.Duration, err error) {
	if err != nil {
		c.failed.Add(1)
		return
	}
	c.commits.Add(1)
	c.bytes.Add(uint64(bytes))
	c.last.Store(int64(took))
	c.max.Store(max(c.max.Load(), int64(took)))
	c.sum.Add(int64(took))
}
