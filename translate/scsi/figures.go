package scsi

import (
	"sync/atomic"
	"time"

	"keel/diag/inspect"
	"keel/translate/meter"
)

// class is what a command does, for those who count commands.
type class uint8

const (
	classOther class = iota
	classRead
	classWrite
	classFlush
	classDiscard
	classSame
	classVerify
	classCompare
	classes
)

// classOf has the class of every operation code that moves or changes blocks.
var classOf = [256]class{
	opRead6: classRead, opRead10: classRead, opRead12: classRead, opRead16: classRead,
	opWrite6: classWrite, opWrite10: classWrite, opWrite12: classWrite, opWrite16: classWrite,
	opWriteAndVerify10: classWrite, opWriteAndVerify12: classWrite, opWriteAndVerify16: classWrite,
	opSynchronizeCache10: classFlush, opSynchronizeCache16: classFlush,
	opUnmap:       classDiscard,
	opWriteSame10: classSame, opWriteSame16: classSame,
	opVerify10: classVerify, opVerify12: classVerify, opVerify16: classVerify,
	opCompareAndWrite: classCompare,
}

// className says what is published of each class.
var className = [classes]struct{ name, doc string }{
	classOther:   {"others", "commands that touch no blocks"},
	classRead:    {"reads", "READ commands"},
	classWrite:   {"writes", "WRITE and WRITE AND VERIFY commands"},
	classFlush:   {"flushes", "SYNCHRONIZE CACHE commands"},
	classDiscard: {"discards", "UNMAP commands"},
	classSame:    {"write_sames", "WRITE SAME commands"},
	classVerify:  {"verifies", "VERIFY commands"},
	classCompare: {"compares", "COMPARE AND WRITE commands"},
}

// figures are what a logical unit did so far.
type figures struct {
	depth         meter.Gauge
	commands      [classes]atomic.Uint64
	read, written atomic.Uint64 // bytes
	failed        atomic.Uint64
	errors        atomic.Uint64 // of these, what counters.errors counts
	aborted, full atomic.Uint64
	latency       meter.Histogram
}

// count counts a command that ends. moved are the bytes that it moved.
func (f *figures) count(c *Command, moved uint64, took time.Duration) {
	f.depth.Down()
	f.latency.Add(took)
	kind := classOf[c.CDB[0]]
	f.commands[kind].Add(1)
	switch {
	case c.Ending != Completed:
		f.aborted.Add(1)
	case c.Status != StatusGood:
		f.failed.Add(1)
		if c.Status == StatusTaskSetFull {
			f.full.Add(1)
		}
	case kind == classRead:
		f.read.Add(moved)
	case kind == classWrite:
		f.written.Add(moved)
	}
}

// Inspect writes what a logical unit did since it was added. All of it is the guest's
// own business.
func (u *unit) Inspect(f *inspect.Fields) {
	n := &u.figures
	count := func(name string, v uint64, doc string) { f.Uint(name, inspect.Private, inspect.Count, v, doc) }
	for i, c := range className {
		count(c.name, n.commands[i].Load(), c.doc)
	}
	f.Uint("read_bytes", inspect.Private, inspect.Bytes, n.read.Load(), "bytes that READ commands moved")
	f.Uint("written_bytes", inspect.Private, inspect.Bytes, n.written.Load(), "bytes that WRITE commands moved")
	count("failed", n.failed.Load(), "commands that ended with another status than GOOD, unit attentions included")
	count("errors", n.errors.Load(), "of these, medium and hardware errors and comparisons that failed")
	count("aborted", n.aborted.Load(), "commands that were aborted, by the guest or by a reset")
	count("full", n.full.Load(), "commands that were answered with TASK SET FULL")
	f.Gauge("depth", inspect.Private, inspect.Count, uint64(max(n.depth.Now(), 0)), "commands under way")
	f.Gauge("depth_highest", inspect.Private, inspect.Count, uint64(n.depth.Highest()), "the most that ever were")
	var latency meter.Counts
	n.latency.AddTo(&latency)
	f.Histogram("latency", inspect.Private, inspect.Microseconds, latency.Inspect(), "from the guest's command to its status")
}

// Unit returns the figures of a logical unit that is there, nil of one that is not.
func (ct *Controller) Unit(lun uint16) inspect.Node {
	if lun < MaxLUNs {
		if u := ct.units[lun].Load(); u != nil {
			return u
		}
	}
	return nil
}
