// Package fronttest gives tests of the register interfaces a Transport whose commands
// end when the test says so, and one that answers by itself.
package fronttest

import (
	"encoding/binary"
	"sync"

	"keel/vtpm"
)

const headerSize = 10

// Command returns a well-formed command of the given length whose body holds n, so that
// no two commands are alike. Preconditions: size is at least 18.
func Command(n uint64, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint16(b, 0x8001)
	binary.BigEndian.PutUint32(b[2:], uint32(size))
	binary.BigEndian.PutUint32(b[6:], 0x17b) // TPM2_GetRandom
	binary.BigEndian.PutUint64(b[headerSize:], n)
	for i := headerSize + 8; i < size; i++ {
		b[i] = byte(n) + byte(i)
	}
	return b
}

// Answer returns the response that belongs to a command: success, the locality, and the
// command itself as far as it fits.
func Answer(locality uint8, command []byte) []byte {
	body := command[:min(len(command), vtpm.MaxBuffer-headerSize-1)]
	b := binary.BigEndian.AppendUint16(nil, 0x8001)
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+1+len(body)))
	b = binary.BigEndian.AppendUint32(b, 0)
	return append(append(b, locality), body...)
}

// Code returns a response that is a code alone.
func Code(rc uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x8001)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, rc)
}

// Run is a command that a Scripted transport took.
type Run struct {
	Locality uint8
	Command  []byte
	done     func([]byte)
}

// Scripted is a vtpm.Transport whose commands end when the test says so. Like a real
// one it may take a command before it has delivered the response of the last.
type Scripted struct {
	mu      sync.Mutex
	busy    bool
	taken   int
	cancels int
	runs    []Run // without a delivered response; the last is under way while busy
}

// Submit takes a command if none is under way.
func (s *Scripted) Submit(locality uint8, command []byte, done func([]byte)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return false
	}
	s.busy = true
	s.taken++
	s.runs = append(s.runs, Run{locality, append([]byte(nil), command...), done})
	return true
}

// Cancel counts.
func (s *Scripted) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels++
}

// Cancels returns how often Cancel was called.
func (s *Scripted) Cancels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

// Taken returns how many commands were taken.
func (s *Scripted) Taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// Occupy makes the Transport busy for somebody else, until Free.
func (s *Scripted) Occupy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = true
}

// Free ends the command under way; its response is still to be delivered.
func (s *Scripted) Free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// Oldest returns the oldest command without a delivered response.
func (s *Scripted) Oldest() (Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) == 0 {
		return Run{}, false
	}
	return s.runs[0], true
}

// Deliver delivers the response of the oldest command, its own Answer when response is
// nil. It returns false when there is none.
func (s *Scripted) Deliver(response []byte) bool {
	s.mu.Lock()
	if len(s.runs) == 0 {
		s.mu.Unlock()
		return false
	}
	r := s.runs[0]
	s.runs = s.runs[1:]
	if len(s.runs) == 0 {
		s.busy = false
	}
	s.mu.Unlock()
	if response == nil {
		response = Answer(r.Locality, r.Command)
	}
	r.done(response)
	return true
}

// Echo is a vtpm.Transport that answers each command with its Answer, from a goroutine.
// Hold, if set, is called before the answer. The zero value is ready to use.
type Echo struct {
	Hold func()

	turn sync.Mutex
	wg   sync.WaitGroup
}

// Submit takes a command if none is under way.
func (e *Echo) Submit(locality uint8, command []byte, done func([]byte)) bool {
	if !e.turn.TryLock() {
		return false
	}
	c := append([]byte(nil), command...)
	e.wg.Go(func() {
		if e.Hold != nil {
			e.Hold()
		}
		e.turn.Unlock()
		done(Answer(locality, c))
	})
	return true
}

// Cancel does nothing: commands end soon.
func (e *Echo) Cancel() {}

// Wait waits until all responses are delivered.
func (e *Echo) Wait() { e.wg.Wait() }
