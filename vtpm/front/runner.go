package front

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"keel/vtl/irq"
	"keel/vtpm"
)

const headerSize = 10 // of a command and of a response: tag, size, code (Library part 1 §18)

// A command that comes while the Transport still works for somebody else waits: it is
// offered again at this pace, for so long. Then the guest is told to send it again.
const (
	retryPause = int64(time.Millisecond)
	retryTime  = int64(2 * time.Second)
)

// Runner runs the command of one register interface: one at a time from where the guest
// stands, although an earlier one, which the guest gave up, may still run in the TPM. A
// response reaches the guest only if its command is the one that the guest waits for.
//
// The lock of the device guards it. All methods but Stats want it to be held, and finish
// is called with it held.
type Runner struct {
	transport vtpm.Transport
	finish    func(response []byte)
	clock     irq.Clock
	timer     irq.Timer

	mu         *sync.Mutex // of the device
	generation uint64      // counts commands
	running    bool        // the newest has no response yet
	parked     bool        // and the Transport has not taken it yet
	locality   uint8       // of the parked command
	command    []byte      // the parked command
	giveUp     int64       // when the parked command is refused

	count counters
}

// counters are what Stats copies.
type counters struct {
	commands, late, cancels, aborts, waits, malformed atomic.Uint64
}

// Stats is a copy of a Runner's counters.
type Stats struct {
	Commands  uint64 // commands that the guest started
	Late      uint64 // responses that nobody waited for any more, and nobody saw
	Cancels   uint64 // commands that the guest cancelled
	Aborts    uint64 // commands that the guest gave up while they ran
	Waits     uint64 // commands that waited for the TPM to end an earlier one
	Malformed uint64 // responses that were no TPM responses; the guest saw TPM_RC_FAILURE
}

// NewRunner returns a Runner of the device with the lock mu. It calls finish with a whole
// response of at most vtpm.MaxBuffer bytes, which is valid during the call.
func NewRunner(mu *sync.Mutex, t vtpm.Transport, clock irq.Clock, finish func(response []byte)) *Runner {
	r := &Runner{mu: mu, transport: t, finish: finish, clock: clock, command: make([]byte, 0, vtpm.MaxBuffer)}
	r.timer = clock.NewTimer(r.onTimer)
	return r
}

// Stats returns the counters. The lock need not be held.
func (r *Runner) Stats() Stats {
	c := &r.count
	return Stats{
		Commands: c.commands.Load(), Late: c.late.Load(), Cancels: c.cancels.Load(),
		Aborts: c.aborts.Load(), Waits: c.waits.Load(), Malformed: c.malformed.Load(),
	}
}

// Start runs a command, which is copied; it must be as long as its header says. It never
// waits. finish may be called before Start returns.
//
// Preconditions: no command runs.
func (r *Runner) Start(locality uint8, command []byte) {
	r.count.commands.Add(1)
	r.generation++
	r.running = true
	switch {
	case !wellFormed(command):
		r.answer(vtpm.RCCommandSize)
	case !r.submit(locality, command):
		r.count.waits.Add(1)
		r.parked, r.locality = true, locality
		r.command = append(r.command[:0], command...)
		now := r.clock.Now()
		r.giveUp = now + retryTime
		r.timer.Arm(now + retryPause)
	}
}

// Cancel asks the command to end early, with a response all the same.
func (r *Runner) Cancel() {
	if !r.running {
		return
	}
	r.count.cancels.Add(1)
	if r.parked {
		r.answer(vtpm.RCCanceled)
		return
	}
	r.transport.Cancel()
}

// Abort forgets the command, if one runs: its response will not be seen.
func (r *Runner) Abort() {
	if !r.running {
		return
	}
	r.count.aborts.Add(1)
	if !r.parked {
		r.transport.Cancel()
	}
	r.running = false
	r.unpark()
}

// submit offers the newest command to the Transport. The number goes with it: a Transport
// may take the next command before it has delivered the last response.
func (r *Runner) submit(locality uint8, command []byte) bool {
	generation := r.generation
	return r.transport.Submit(locality, command, func(response []byte) { r.done(generation, response) })
}

// done takes a response from the Transport.
func (r *Runner) done(generation uint64, response []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running || r.parked || generation != r.generation {
		r.count.late.Add(1)
		r.offer()
		return
	}
	if !wellFormed(response) {
		r.count.malformed.Add(1)
		r.answer(vtpm.RCFailure)
		return
	}
	r.running = false
	r.finish(response)
}

// offer offers a parked command again.
func (r *Runner) offer() {
	if r.parked && r.submit(r.locality, r.command) {
		r.unpark()
	}
}

func (r *Runner) onTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offer()
	if !r.parked {
		return
	}
	now := r.clock.Now()
	if now >= r.giveUp {
		r.answer(rcRetry)
		return
	}
	r.timer.Arm(now + retryPause)
}

func (r *Runner) unpark() {
	if r.parked {
		r.parked = false
		r.timer.Disarm()
	}
}

// rcRetry is TPM_RC_RETRY: the command was not started, and is to be sent again
// (Library part 2 §6.6.3).
const rcRetry vtpm.RC = 0x922

// answer ends the newest command with a code alone.
func (r *Runner) answer(rc vtpm.RC) {
	r.unpark()
	r.running = false
	var b [headerSize]byte
	binary.BigEndian.PutUint16(b[:], 0x8001) // TPM_ST_NO_SESSIONS
	binary.BigEndian.PutUint32(b[2:], headerSize)
	binary.BigEndian.PutUint32(b[6:], uint32(rc))
	r.finish(b[:])
}

// wellFormed tells whether b is as long as its header says, and not too long.
func wellFormed(b []byte) bool {
	return len(b) >= headerSize && len(b) <= vtpm.MaxBuffer && DeclaredSize(b) == len(b)
}

// DeclaredSize returns the size that the header of a command or response declares, or 0
// when it is cut short or declares more than vtpm.MaxBuffer bytes.
func DeclaredSize(b []byte) int {
	const sizeEnd = 6
	if len(b) < sizeEnd {
		return 0
	}
	if n := binary.BigEndian.Uint32(b[2:]); n <= vtpm.MaxBuffer {
		return int(n)
	}
	return 0
}
