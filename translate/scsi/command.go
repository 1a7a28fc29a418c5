package scsi

import (
	"sync/atomic"
	"time"

	"keel/translate/blk"
	"keel/translate/meter"
	"keel/translate/tap"
)

// CDBSize is the longest command descriptor block that is understood. Front ends
// cut off what is longer: no longer command is supported.
const CDBSize = 16

// Status is a SCSI status (SAM-5, 5.3.1).
type Status uint8

// Ending says why a command ended.
type Ending uint8

// The endings. Of a command that did not run to its end the status is TASK
// ABORTED; how the guest learns of it is the front end's business.
const (
	Completed Ending = iota // Status is the device server's
	Aborted                 // by a task management function, or PREEMPT AND ABORT
	WasReset                // by a reset
	Removed                 // the logical unit was taken away
)

// Command is one SCSI command. The front end owns it, sets the fields of the
// first group, and may use it again after Done. It must not be copied.
type Command struct {
	CDB       [CDBSize]byte
	LUN       uint16        // 0 to MaxLUNs-1, or ReportLUNs
	Initiator uint8         // the I_T nexus, less than MaxInitiators
	Queue     int           // hint for the disk, usually the number of the VP
	Tag       uint64        // names the command to task management
	Out       []blk.Segment // data of the guest
	In        []blk.Segment // room for data to the guest
	Done      func(*Command)

	// The result.
	Status   Status
	Ending   Ending
	SenseLen int    // valid bytes of Sense
	Residual uint64 // bytes of Out and In that were not moved
	// Overrun says that the command needed a longer buffer. A command with a
	// fixed length of data was then not started; its status is CHECK CONDITION.
	Overrun bool
	Sense   [SenseSize]byte

	ctl   *Controller
	u     *unit
	op    *operation
	inLen uint64 // bytes
	out   uint64 // bytes
	moved uint64
	since time.Duration // when it was submitted
	tap   *tap.Tap      // who captured it and wants to see its end, or nil
	tag   uint32        // by which the tap knows it

	// Where it stands. step prepares the next request, or ends the command and
	// says false; stage counts its calls.
	req     blk.Request
	step    func(*Command) bool
	stage   int
	phase   atomic.Int32
	stop    atomic.Uint32 // Ending that somebody asked for
	at      uint64        // next block
	left    uint64        // blocks that remain
	fua     bool
	check   bool // compare with the guest's data
	scratch []blk.Segment
	single  [1]blk.Segment
	buf     *buffer

	// Protected by the lock of its shard.
	prev, next *Command
	listed     bool
	ended      bool
	pins       int
	waiters    []*Task

	// Blocks that it touches, for ordering; set before it is listed.
	first, end uint64
	exclusive  bool
	running    atomic.Bool
	link       *Command // of the gate's or the pool's queue
}

// begin makes the command ready to run.
func (c *Command) begin(ctl *Controller) {
	if c.req.Done == nil {
		c.req.Done = c.requestDone // once in the life of the command
	}
	c.ctl = ctl
	c.Status, c.Ending, c.SenseLen, c.Residual, c.Overrun = StatusGood, Completed, 0, 0, false
	c.inLen, c.out, c.moved = length(c.In), length(c.Out), 0
	c.stage, c.fua, c.check, c.exclusive = 0, false, false, false
	c.at, c.left = 0, 0
	c.listed, c.ended = false, false
	c.stop.Store(uint32(Completed))
	c.running.Store(false)
	c.since = meter.Now()
	c.u.figures.depth.Up()
	if t := c.u.tap.Load(); t != nil {
		c.captureStart(t)
	}
}

// launch starts work that ends later. From now on the command can be aborted. It
// touches count blocks from first on.
func (c *Command) launch(first, count uint64, buffered bool, step func(*Command) bool) {
	c.step, c.first, c.end = step, first, first+count
	if !c.u.tasks.add(c) {
		c.fail(illegal(ascBadLUN))
		return
	}
	if buffered && !c.ctl.pool.get(c) {
		return
	}
	c.admit()
}

// admit runs the command when the order of the blocks' users allows it.
// Preconditions: it has its buffer.
func (c *Command) admit() {
	if c.u.gate.enter(c) {
		c.drive()
	}
}

// drive submits requests until one of them is under way, or none is left. Of
// Submit's return and of Done the one that comes second goes on, so that a disk
// that completes at once does not nest calls.
func (c *Command) drive() {
	for c.advance() {
		c.phase.Store(0)
		c.u.disk.Submit(c.Queue, &c.req)
		if c.phase.Add(1) == 1 {
			return
		}
	}
}

func (c *Command) requestDone(*blk.Request) {
	if c.phase.Add(1) == 2 {
		c.drive()
	}
}

// advance takes the next step, unless the last one failed or nobody wants it.
func (c *Command) advance() bool {
	why := Ending(c.stop.Load())
	if c.stage > 0 && c.req.Err != nil && why == Completed {
		c.fail(c.diskError(c.req.Err))
		return false
	}
	if why != Completed {
		c.abandon(why)
		return false
	}
	c.stage++
	return c.step(c)
}

// abandon ends a command that was aborted.
func (c *Command) abandon(why Ending) {
	c.Status, c.Ending, c.moved = StatusTaskAborted, why, 0
	c.ctl.counters.aborted.Add(1)
	c.finish()
}

// good ends a command that did what it was asked for.
func (c *Command) good() {
	c.Status = StatusGood
	c.finish()
}

// fail ends a command with CHECK CONDITION.
func (c *Command) fail(s sense) {
	if c.ctl.counters.count(s) {
		c.u.figures.errors.Add(1)
	}
	c.Status, c.moved = StatusCheckCondition, 0
	c.SenseLen = s.encode(c.Sense[:], c.u.descriptorSense())
	c.finish()
}

// refuse ends a command with a status that has no sense data.
func (c *Command) refuse(s Status) {
	c.Status, c.moved = s, 0
	c.finish()
}

// overrun ends a command whose buffer is shorter than its data.
func (c *Command) overrun() {
	c.Overrun = true
	c.ctl.counters.overruns.Add(1)
	c.fail(sense{key: keyAbortedCommand, code: ascDataPhase})
}

// finish takes the command out of the task set and gives it back, unless somebody
// is about to cancel it: then that one does.
func (c *Command) finish() {
	if c.exclusive {
		c.u.gate.leave(c)
	}
	if c.listed && !c.u.tasks.end(c) {
		return
	}
	c.deliver()
}

// deliver gives the command back and lets others go on that waited for it.
func (c *Command) deliver() {
	u, ctl, buf, waiters := c.u, c.ctl, c.buf, c.waiters
	c.buf, c.waiters = nil, nil
	c.Residual = c.inLen + c.out - min(c.moved, c.inLen+c.out)
	now := meter.Now()
	u.figures.count(c, c.moved, now-c.since)
	if c.tap != nil {
		c.captureEnd(now)
	}
	c.Done(c)
	// The command may be another one by now.
	if buf != nil {
		ctl.pool.put(buf)
	}
	u.gate.wake()
	for _, t := range waiters {
		t.release()
	}
}
