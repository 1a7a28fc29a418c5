// Package eventlog writes, reads and replays the log of what the firmware measured:
// the crypto-agile event log of the TCG.
//
// Specification: TCG PC Client Platform Firmware Profile (PFP) 1.06, §10.
package eventlog

import (
	"errors"
	"fmt"
	"slices"
)

// Errors of the writer.
var (
	// ErrFull reports an event that had no room in the log area. What was measured must
	// be extended all the same: a PCR that no log explains is seen, a measurement
	// that is left out is not.
	ErrFull = errors.New("event log: no room for the event")
	// ErrEvent reports an event that does not fit the log's header.
	ErrEvent = errors.New("event log: bad event")
)

// Event is a measurement.
type Event struct {
	PCR     uint32
	Type    EventType
	Digests []Digest // one for each bank of the log
	Data    []byte
}

// Log is an event log that is being written into an area of fixed size. Equal events
// give equal bytes. It is not safe for concurrent use.
type Log struct {
	banks   []Algorithm
	area    []byte // its capacity is that of the area
	dropped int
}

// New returns a log of at most size bytes with a header that names the banks, in the
// order in which each event has its digests. Its errors are ErrEvent and ErrFull.
func New(size int, banks []Algorithm) (*Log, error) {
	if err := checkBanks(banks); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	spec := make([]byte, specFixed, specFixed+len(banks)*specAlgorithm+1)
	copy(spec, specSignature)
	spec[specVersionMinor], spec[specVersionMajor] = versionMinor, versionMajor
	spec[specErrata], spec[specUintnSize] = errata, uintn64
	le.PutUint32(spec[specAlgorithms:], uint32(len(banks)))
	for _, a := range banks {
		spec = le.AppendUint16(spec, uint16(a))
		spec = le.AppendUint16(spec, uint16(a.Size()))
	}
	spec = append(spec, 0) // no vendor information

	if hdrSize+len(spec) > size {
		return nil, fmt.Errorf("%w: an area of %d bytes", ErrFull, size)
	}
	l := &Log{banks: slices.Clone(banks), area: make([]byte, hdrSize, size)}
	le.PutUint32(l.area[hdrType:], uint32(EVNoAction))
	le.PutUint32(l.area[hdrEventSize:], uint32(len(spec)))
	l.area = append(l.area, spec...)
	return l, nil
}

// Append adds an event, whole or not at all. After ErrFull the log stays as it is and
// takes no further event, so that what it holds is always a prefix of what happened
// (the EFI TCG2 protocol calls such a log truncated).
func (l *Log) Append(e Event) error {
	if e.PCR >= PCRCount {
		return fmt.Errorf("%w: PCR %d", ErrEvent, e.PCR)
	}
	if len(e.Digests) != len(l.banks) {
		return fmt.Errorf("%w: %d digests for %d banks", ErrEvent, len(e.Digests), len(l.banks))
	}
	size := eventFixed + sizeField + len(e.Data)
	for i, d := range e.Digests {
		if d.Algorithm != l.banks[i] || len(d.Value) != d.Algorithm.Size() {
			return fmt.Errorf("%w: a digest of %d bytes for %v where %v is due", ErrEvent, len(d.Value), d.Algorithm, l.banks[i])
		}
		size += 2 + len(d.Value)
	}
	if l.dropped > 0 || size > cap(l.area)-len(l.area) {
		l.dropped++
		return fmt.Errorf("%w: %d bytes, %d are left", ErrFull, size, cap(l.area)-len(l.area))
	}
	l.area = le.AppendUint32(l.area, e.PCR)
	l.area = le.AppendUint32(l.area, uint32(e.Type))
	l.area = le.AppendUint32(l.area, uint32(len(e.Digests)))
	for _, d := range e.Digests {
		l.area = le.AppendUint16(l.area, uint16(d.Algorithm))
		l.area = append(l.area, d.Value...)
	}
	l.area = le.AppendUint32(l.area, uint32(len(e.Data)))
	l.area = append(l.area, e.Data...)
	return nil
}

// Bytes returns the log so far, header included. It is the log's own memory.
func (l *Log) Bytes() []byte { return l.area }

// Dropped returns how many events had no room.
func (l *Log) Dropped() int { return l.dropped }
