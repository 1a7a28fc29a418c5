package scsi

import "sync/atomic"

// Function is a task management function (SAM-5, clause 7).
type Function uint8

// The functions.
const (
	AbortTask Function = iota // LUN, Initiator, Tag
	AbortTaskSet
	ClearTaskSet
	LogicalUnitReset
	NexusReset // Initiator: an I_T nexus was lost
	QueryTask  // LUN, Initiator, Tag
	QueryTaskSet
	PowerOn // the whole controller starts afresh, as after power on
)

// Response answers a task management function (SAM-5, 7.1).
type Response uint8

// The responses.
const (
	FunctionComplete Response = iota
	FunctionSucceeded
	FunctionRejected
	IncorrectLUN
)

// Task is a call of a task management function. The front end owns it and sets
// the fields of the first group. Done is called once, when the commands that were
// aborted have ended.
type Task struct {
	Function  Function
	LUN       uint16
	Initiator uint8
	Tag       uint64
	Done      func(*Task)

	Response Response // the result

	left atomic.Int32
}

// release says that one thing is over which the function waited for.
func (t *Task) release() {
	if t.left.Add(-1) == 0 {
		t.Done(t)
	}
}

// Manage runs a task management function. It does not block.
func (ct *Controller) Manage(t *Task) {
	t.left.Store(1)
	t.Response = ct.manage(t)
	t.release()
}

func (ct *Controller) manage(t *Task) Response {
	if t.Initiator >= MaxInitiators {
		return FunctionRejected
	}
	mine := func(c *Command) bool { return c.Initiator == t.Initiator }
	task := func(c *Command) bool { return c.Initiator == t.Initiator && c.Tag == t.Tag }
	switch t.Function {
	case NexusReset:
		for u := range ct.each() {
			u.abort(WasReset, t, mine)
			u.locked.And(^(uint32(1) << t.Initiator))
			u.attend(t.Initiator, attentionNexusLoss)
		}
		return FunctionComplete
	case PowerOn:
		for u := range ct.each() {
			u.abort(WasReset, t, everything)
			u.powerOn()
		}
		return FunctionComplete
	case AbortTask, AbortTaskSet, ClearTaskSet, LogicalUnitReset, QueryTask, QueryTaskSet:
	default:
		return FunctionRejected
	}
	u := ct.unit(t.LUN)
	if u.kind == kindAbsent {
		return IncorrectLUN
	}
	switch t.Function {
	case AbortTask:
		u.abort(Aborted, t, task)
	case AbortTaskSet:
		u.abort(Aborted, t, mine)
	case ClearTaskSet:
		u.clearTaskSet(t)
	case LogicalUnitReset:
		u.abort(WasReset, t, everything)
		if u.kind != kindWellKnown {
			u.resetState()
			u.attendOthers(-1, attentionReset)
		}
	case QueryTask:
		if u.tasks.count(task) > 0 {
			return FunctionSucceeded
		}
	case QueryTaskSet:
		if u.tasks.count(mine) > 0 {
			return FunctionSucceeded
		}
	default:
	}
	return FunctionComplete
}

func everything(*Command) bool { return true }

// clearTaskSet aborts all commands and tells the nexuses that lost some, save the
// one that asked (SAM-5, 7.5; TAS is zero).
func (u *unit) clearTaskSet(t *Task) {
	var lost uint32
	u.abort(Aborted, t, func(c *Command) bool {
		lost |= 1 << c.Initiator
		return true
	})
	u.attendSet(lost&^(1<<t.Initiator), attentionCleared)
}
