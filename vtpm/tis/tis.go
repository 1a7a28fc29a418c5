// Package tis is the FIFO interface of the TPM, which drivers know as TIS: a page of
// registers for each locality, and one byte stream for commands and responses.
//
// No access waits for the TPM. A write of tpmGo hands the command to the Transport, and
// the guest polls until dataAvail is set. What the guest gives up (commandReady, a lost
// locality, a reset) is cancelled and never seen. There are no interrupts.
//
// Specification: TCG PC Client Platform TPM Profile (PTP) 1.05.
package tis

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"keel/vtl/irq"
	"keel/vtpm"
	"keel/vtpm/front"
)

// state is where the one state machine of the TPM stands (PTP, "FIFO interface state
// machine").
type state uint8

const (
	idle state = iota
	ready
	reception
	execution
	completion
)

// TIS is the interface. It implements bus.MMIODevice over Size bytes and bus.Resetter.
type TIS struct {
	refused atomic.Uint64

	mu      sync.Mutex // guards the fields below
	arbiter front.Arbiter
	runner  *front.Runner
	state   state
	buffer  [vtpm.MaxBuffer]byte // of the locality that holds the TPM
	filled  int                  // bytes of the command or response in buffer
	taken   int                  // bytes of the response that were read
}

// Stats is a copy of a TIS's counters.
type Stats struct {
	front.Stats
	Refused uint64 // writes without effect: no such register, not the holder, wrong state
}

// New returns an interface in its state after reset that sends its commands to t.
func New(t vtpm.Transport, clock irq.Clock) *TIS {
	d := &TIS{}
	d.runner = front.NewRunner(&d.mu, t, clock, d.finish)
	return d
}

// Stats returns the counters.
func (d *TIS) Stats() Stats { return Stats{d.runner.Stats(), d.refused.Load()} }

// Reset takes the TPM from its holder, as a reset of the machine does. A command under
// way is cancelled. The TPM behind the Transport is reset by who owns it.
func (d *TIS) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arbiter = front.Arbiter{}
	d.enter(idle)
}

// enter gives up what is under way, forgets command and response, and enters a state.
func (d *TIS) enter(s state) {
	d.runner.Abort()
	d.state = s
	d.filled, d.taken = 0, 0
	clear(d.buffer[:])
}

// setAccess carries out a write to TPM_ACCESS. Of several bits, which PTP leaves
// undefined, one counts beside the one that clears beenSeized.
func (d *TIS) setAccess(locality uint8, v uint32) {
	if v&accessSeized != 0 {
		d.arbiter.ForgetSeizure(locality)
	}
	switch {
	case v&accessSeize != 0:
		if !d.arbiter.Seize(locality) {
			d.refused.Add(1)
			return
		}
		d.enter(idle)
	case v&accessActive != 0:
		if d.arbiter.Release(locality) {
			d.enter(idle)
		}
	case v&accessRequest != 0:
		d.arbiter.Request(locality)
	}
}

// setStatus carries out a write to TPM_STS by the holder.
func (d *TIS) setStatus(locality uint8, v uint32) {
	if v&statusCancel != 0 && d.state == execution {
		d.runner.Cancel()
	}
	switch v & statusTransitions {
	case 0:
	case statusReady:
		// In all states: what was under way is aborted.
		d.enter(ready)
	case statusGo:
		d.start(locality)
	case statusRetry:
		if d.state == completion {
			d.taken = 0
			return
		}
		d.refused.Add(1)
	default:
		d.refused.Add(1)
	}
}

// start runs the command, once it is complete.
func (d *TIS) start(locality uint8) {
	if d.state != reception || d.expects() {
		d.refused.Add(1)
		return
	}
	d.state = execution
	d.runner.Start(locality, d.buffer[:d.filled])
}

// finish takes the response to the running command.
func (d *TIS) finish(response []byte) {
	d.filled, d.taken = copy(d.buffer[:], response), 0
	clear(d.buffer[d.filled:])
	d.state = completion
}

// expects tells whether the command lacks bytes. One that declares more than the buffer
// holds is complete when the buffer is full, and is then refused for its size.
func (d *TIS) expects() bool {
	const sizeAt, sizeEnd = 2, 6
	if d.filled < sizeEnd {
		return true
	}
	size := binary.BigEndian.Uint32(d.buffer[sizeAt:])
	return uint64(d.filled) < min(uint64(size), uint64(len(d.buffer)))
}

// put takes a byte of a command.
func (d *TIS) put(b byte) {
	switch {
	case d.state == ready:
		d.state = reception
	case d.state != reception || !d.expects():
		d.refused.Add(1)
		return
	}
	d.buffer[d.filled] = b
	d.filled++
}

// get returns the next byte of the response, ones where there is none.
func (d *TIS) get() byte {
	if d.state != completion || d.taken == d.filled {
		return 0xff
	}
	b := d.buffer[d.taken]
	d.taken++
	return b
}
