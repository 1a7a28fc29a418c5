// Package crb is the command/response buffer interface of the TPM: a page of registers
// and a buffer for each locality.
//
// No access waits for the TPM. A write to Start hands the command to the Transport, and
// the guest polls until Start reads as 0. What the guest gives up (goIdle, commandReady, a
// lost locality, a reset) is cancelled and never seen.
//
// Specification: TCG PC Client Platform TPM Profile (PTP) 1.05.
package crb

import (
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
	"keel/vtpm"
	"keel/vtpm/front"
)

// state is where the one state machine of the TPM stands (PTP, "CRB interface state
// machine").
type state uint8

const (
	idle state = iota
	ready
	reception
	execution
	completion
)

// CRB is the interface. It implements bus.MMIODevice over Size bytes and bus.Resetter.
type CRB struct {
	base    x86.GPA
	refused atomic.Uint64

	mu      sync.Mutex // guards the fields below
	arbiter front.Arbiter
	runner  *front.Runner
	state   state
	cancel  uint32
	buffer  [dataSize]byte // of the locality that holds the TPM
}

// Stats is a copy of a CRB's counters.
type Stats struct {
	front.Stats
	Refused uint64 // writes without effect: no such register, not the holder, wrong state
}

// New returns an interface at a guest physical address below 4 GiB, in its state after
// reset, that sends its commands to t.
func New(base x86.GPA, t vtpm.Transport, clock irq.Clock) *CRB {
	c := &CRB{base: base}
	c.runner = front.NewRunner(&c.mu, t, clock, c.finish)
	return c
}

// Stats returns the counters.
func (c *CRB) Stats() Stats { return Stats{c.runner.Stats(), c.refused.Load()} }

// Reset takes the TPM from its holder, as a reset of the machine does. A command under
// way is cancelled. The TPM behind the Transport is reset by who owns it.
func (c *CRB) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arbiter = front.Arbiter{}
	c.toIdle()
}

// toIdle gives up what is under way and forgets command and response.
func (c *CRB) toIdle() {
	c.runner.Abort()
	c.state = idle
	c.cancel = 0
	clear(c.buffer[:])
}

// control carries out a write to TPM_LOC_CTRL. Of several bits, which PTP leaves
// undefined, one counts.
func (c *CRB) control(locality uint8, v uint32) {
	switch {
	case v&locSeize != 0:
		if !c.arbiter.Seize(locality) {
			c.refused.Add(1)
			return
		}
		c.arbiter.ForgetSeizure(locality)
		c.toIdle()
	case v&locRelinquish != 0:
		if c.arbiter.Release(locality) {
			c.toIdle()
		}
	case v&locRequest != 0:
		c.arbiter.ForgetSeizure(locality)
		c.arbiter.Request(locality)
	}
}

// request carries out a write to TPM_CRB_CTRL_REQ.
func (c *CRB) request(v uint32) {
	switch v & (reqCommandReady | reqGoIdle) {
	case reqCommandReady:
		// Also while a command runs: a driver that took over from a crashed one would
		// else read the response to a command that it does not know of.
		c.toIdle()
		c.state = ready
	case reqGoIdle:
		c.toIdle()
	default:
		c.refused.Add(1)
	}
}

// start carries out a write to TPM_CRB_CTRL_START.
func (c *CRB) start(locality uint8, v uint32) {
	if v&startInvoke == 0 || c.state != reception {
		c.refused.Add(1)
		return
	}
	c.state = execution
	c.runner.Start(locality, c.buffer[:front.DeclaredSize(c.buffer[:])])
}

// setCancel carries out a write to TPM_CRB_CTRL_CANCEL: the guest sets the bit to end the
// running command early, and clears it before it sends the next one. A bit that it left
// set does nothing to that.
func (c *CRB) setCancel(v uint32) {
	c.cancel = v & cancelInvoke
	if c.cancel != 0 && c.state == execution {
		c.runner.Cancel()
	}
}

// finish takes the response to the running command.
func (c *CRB) finish(response []byte) {
	n := copy(c.buffer[:], response)
	clear(c.buffer[n:])
	c.state = completion
}
