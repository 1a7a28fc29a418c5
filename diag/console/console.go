// Package console lets several readers follow what a guest says on a serial port. The
// guest never waits for them: a slow reader loses the oldest bytes, and is told how many.
package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Bounds of a Port, in bytes unless they say otherwise.
const (
	MaxReaders = 8        // at a time
	MaxChunk   = 16 << 10 // that are read at once
	scrollback = 16 << 10 // of what was said before a reader came
	backlog    = 64 << 10 // of what a reader has not taken yet
)

// ErrMany says that there are too many readers.
var ErrMany = errors.New("too many readers of this port")

// Port follows the output of one serial port. The zero value is ready; its memory comes
// with the first byte and with each reader.
type Port struct {
	mu      sync.Mutex
	past    ring
	readers map[*Reader]struct{}
	lost    uint64 // bytes that readers lost
}

// Write takes output. It never fails, and never waits for a reader.
func (p *Port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past.push(b, scrollback)
	for r := range p.readers {
		n := r.ahead.push(b, backlog)
		r.lost += n
		p.lost += n
		select {
		case r.more <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

// Attach adds a reader, which begins with what was said last. It is closed when done.
func (p *Port) Attach() (*Reader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.readers) >= MaxReaders {
		return nil, fmt.Errorf("%w: %d", ErrMany, MaxReaders)
	}
	if p.readers == nil {
		p.readers = map[*Reader]struct{}{}
	}
	r := &Reader{port: p, more: make(chan struct{}, 1)}
	r.lost = p.past.total - uint64(p.past.n)
	one, two := p.past.parts(p.past.n)
	r.ahead.push(one, backlog)
	r.ahead.push(two, backlog)
	if p.past.n > 0 {
		r.more <- struct{}{}
	}
	p.readers[r] = struct{}{}
	return r, nil
}

// Readers returns how many there are, and how many bytes all that ever were have lost.
func (p *Port) Readers() (now int, lost uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.readers), p.lost
}

// Reader reads what a guest says.
type Reader struct {
	port *Port
	more chan struct{} // there may be something

	// Of the port's lock:
	ahead ring
	lost  uint64 // bytes since the last read
}

// Read waits for output and moves up to len(b) bytes, the oldest first. lost is how many
// bytes before these the reader does not get: they were said long before it came, or it
// was slow. The error is that of ctx.
func (r *Reader) Read(ctx context.Context, b []byte) (n int, lost uint64, err error) {
	for {
		r.port.mu.Lock()
		n, lost = r.ahead.pop(b), r.lost
		if n > 0 {
			r.lost = 0
		}
		r.port.mu.Unlock()
		if n > 0 {
			return n, lost, nil
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

// Close ends the reading.
func (r *Reader) Close() {
	r.port.mu.Lock()
	defer r.port.mu.Unlock()
	delete(r.port.readers, r)
}

// ring has the last bytes of a stream, in memory that it takes when it needs it.
type ring struct {
	buf     []byte
	head, n int    // the oldest byte, and how many there are
	total   uint64 // bytes that were ever pushed
}

// push adds bytes, drops the oldest beyond the capacity, and returns how many those were.
// The capacity is the same each time.
func (r *ring) push(b []byte, capacity int) (dropped uint64) {
	if len(b) == 0 {
		return 0
	}
	if r.buf == nil {
		r.buf = make([]byte, capacity)
	}
	r.total += uint64(len(b))
	if skip := len(b) - capacity; skip > 0 {
		dropped = uint64(skip)
		b = b[skip:]
	}
	if over := r.n + len(b) - capacity; over > 0 {
		dropped += uint64(over)
		r.head = (r.head + over) % capacity
		r.n -= over
	}
	at := (r.head + r.n) % capacity
	copied := copy(r.buf[at:], b)
	copy(r.buf, b[copied:])
	r.n += len(b)
	return dropped
}

// parts returns the oldest n bytes.
func (r *ring) parts(n int) (one, two []byte) {
	one = r.buf[min(r.head, len(r.buf)):min(r.head+n, len(r.buf))]
	return one, r.buf[:n-len(one)]
}

// pop moves the oldest bytes to b.
func (r *ring) pop(b []byte) int {
	n := min(len(b), r.n)
	one, two := r.parts(n)
	copy(b[copy(b, one):], two)
	if n > 0 {
		r.head = (r.head + n) % len(r.buf)
		r.n -= n
	}
	return n
}
