package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrParse reports bytes that are no crypto-agile event log.
var ErrParse = errors.New("event log: malformed")

// Parsed is a log that was read.
type Parsed struct {
	Banks  []Algorithm // in the header's order
	Events []Event     // without the header; they alias the bytes that were read
}

// Parse reads a log, or a log area whose rest is zero. It is strict: every event has
// exactly one digest for each bank, in any order, and nothing follows the last event but
// zeroes. Its errors are ErrParse.
func Parse(log []byte) (*Parsed, error) {
	p, err := parse(log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParse, err)
	}
	return p, nil
}

func parse(log []byte) (*Parsed, error) {
	if len(log) > maxLog {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(log), maxLog)
	}
	r := reader{rest: log}
	banks, err := r.header()
	if err != nil {
		return nil, err
	}
	p := &Parsed{Banks: banks}
	for !r.done() {
		e, err := r.event(banks)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(p.Events)+1, err)
		}
		p.Events = append(p.Events, e)
	}
	return p, nil
}

// errShort reports a log that ends within an event.
var errShort = errors.New("it ends early")

// reader takes the log apart from its start. After the first read past the end it
// returns zeroes and short stays true.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) bytes(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.rest)) {
		r.short = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

// done tells whether only zeroes are left. No event is all zero: its count of digests
// is not.
func (r *reader) done() bool { return allZero(r.rest) }

// header reads the legacy event that begins every log and returns the banks.
func (r *reader) header() ([]Algorithm, error) {
	h := r.bytes(hdrSize)
	if h == nil {
		return nil, errShort
	}
	if le.Uint32(h[hdrPCR:]) != 0 || EventType(le.Uint32(h[hdrType:])) != EVNoAction || !allZero(h[hdrDigest:hdrEventSize]) {
		return nil, errors.New("it does not begin with the specification's event")
	}
	spec := reader{rest: r.bytes(le.Uint32(h[hdrEventSize:])), short: r.short}
	fixed := spec.bytes(specFixed)
	if fixed == nil {
		return nil, errShort
	}
	if !bytes.HasPrefix(fixed, []byte(specSignature)) || fixed[specVersionMajor] != versionMajor {
		return nil, fmt.Errorf("specification %q version %d is not known", fixed[:specPlatform-1], fixed[specVersionMajor])
	}
	count := le.Uint32(fixed[specAlgorithms:])
	if count > uint32(len(Supported())) {
		return nil, fmt.Errorf("%d banks", count)
	}
	var banks []Algorithm
	for range count {
		a, size := Algorithm(spec.u16()), int(spec.u16())
		if a.Size() != size {
			return nil, fmt.Errorf("%v has digests of %d bytes", a, size)
		}
		banks = append(banks, a)
	}
	vendor := spec.bytes(1)
	if vendor == nil || spec.bytes(uint32(vendor[0])) == nil && vendor[0] > 0 {
		return nil, errShort
	}
	if len(spec.rest) != 0 {
		return nil, errors.New("its header is too long")
	}
	return banks, checkBanks(banks)
}

// event reads one crypto-agile event.
func (r *reader) event(banks []Algorithm) (Event, error) {
	e := Event{PCR: r.u32(), Type: EventType(r.u32())}
	count := r.u32()
	if r.short {
		return e, errShort
	}
	if e.PCR >= PCRCount {
		return e, fmt.Errorf("PCR %d", e.PCR)
	}
	if count != uint32(len(banks)) {
		return e, fmt.Errorf("%d digests for %d banks", count, len(banks))
	}
	for range count {
		a := Algorithm(r.u16())
		if !r.short && (!slices.Contains(banks, a) || e.digest(a) != nil) {
			return e, fmt.Errorf("a digest of %v", a)
		}
		e.Digests = append(e.Digests, Digest{a, r.bytes(uint32(a.Size()))})
	}
	e.Data = r.bytes(r.u32())
	if r.short {
		return e, errShort
	}
	return e, nil
}

// digest returns the event's digest of a, or nil.
func (e Event) digest(a Algorithm) []byte {
	for _, d := range e.Digests {
		if d.Algorithm == a {
			return d.Value
		}
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
