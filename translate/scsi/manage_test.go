package scsi

import (
	"errors"
	"slices"
	"testing"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// manage runs a task management function.
func (r *rig) manage(t *testing.T, f Function, lun uint16, initiator uint8, tag uint64) Response {
	t.Helper()
	done := make(chan struct{})
	m := &Task{Function: f, LUN: lun, Initiator: initiator, Tag: tag, Done: func(*Task) { close(done) }}
	r.ct.Manage(m)
	<-done
	return m.Response
}

// TestManage aborts what the function names and nothing else (SAM-5, clause 7).
func TestManage(t *testing.T) {
	tests := []struct {
		name      string
		f         Function
		tag       uint64
		aborted   []int // commands: nexus 0 with tags 1 and 2, nexus 1 with tag 1
		ending    Ending
		attention int // of nexus 1 afterwards
	}{
		{"ABORT TASK", AbortTask, 2, []int{1}, Aborted, 0},
		{"ABORT TASK of none", AbortTask, 9, nil, Aborted, 0},
		{"ABORT TASK SET", AbortTaskSet, 0, []int{0, 1}, Aborted, 0},
		{"CLEAR TASK SET", ClearTaskSet, 0, []int{0, 1, 2}, Aborted, 0x062f00},
		{"LOGICAL UNIT RESET", LogicalUnitReset, 0, []int{0, 1, 2}, WasReset, 0x062903},
		{"I_T NEXUS RESET", NexusReset, 0, []int{0, 1}, WasReset, 0},
		{"power on", PowerOn, 0, []int{0, 1, 2}, WasReset, 0x062900},
	}
	for _, tt := range tests {
		r := newRig(t, plain(), Disk)
		r.disk.Hold()
		var all []*Command
		var dones []chan struct{}
		for n, who := range []struct {
			initiator uint8
			tag       uint64
		}{{0, 1}, {0, 2}, {1, 1}} {
			done := make(chan struct{})
			c := &Command{CDB: cdb(t, "2a 00 00000000 00 0001 00"), Initiator: who.initiator, Tag: who.tag, Queue: n, Out: one(make([]byte, 512)), Done: func(*Command) { close(done) }}
			r.ct.Submit(c)
			all, dones = append(all, c), append(dones, done)
		}
		if got := r.manage(t, tt.f, 0, 0, tt.tag); got != FunctionComplete {
			t.Errorf("%s: response %d", tt.name, got)
		}
		for n, done := range dones {
			if got := ended(done); got != slices.Contains(tt.aborted, n) {
				t.Errorf("%s: command %d ended: %v", tt.name, n, got)
			}
		}
		r.disk.Release(false)
		for n, done := range dones {
			<-done
			if slices.Contains(tt.aborted, n) && (all[n].Ending != tt.ending || all[n].Status != StatusTaskAborted) {
				t.Errorf("%s: command %d: ending %d, status %#x", tt.name, n, all[n].Ending, all[n].Status)
			}
		}
		wantKey(t, tt.name, r.as(t, 1, "00", nil, nil), tt.attention)
	}
}

func TestManageAnswers(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Hold()
	c := &Command{CDB: cdb(t, "2a 00 00000000 00 0001 00"), Tag: 7, Out: one(make([]byte, 512)), Done: func(*Command) {}}
	r.ct.Submit(c)
	tests := []struct {
		name      string
		f         Function
		lun       uint16
		initiator uint8
		tag       uint64
		want      Response
	}{
		{"QUERY TASK", QueryTask, 0, 0, 7, FunctionSucceeded},
		{"QUERY TASK of another", QueryTask, 0, 0, 8, FunctionComplete},
		{"QUERY TASK of another nexus", QueryTask, 0, 1, 7, FunctionComplete},
		{"QUERY TASK SET", QueryTaskSet, 0, 0, 0, FunctionSucceeded},
		{"QUERY TASK SET of another nexus", QueryTaskSet, 0, 1, 0, FunctionComplete},
		{"absent LUN", LogicalUnitReset, 3, 0, 0, IncorrectLUN},
		{"well known LUN", LogicalUnitReset, ReportLUNs, 0, 0, FunctionComplete},
		{"unknown function", 99, 0, 0, 0, FunctionRejected},
		{"unknown nexus", AbortTaskSet, 0, MaxInitiators, 0, FunctionRejected},
	}
	for _, tt := range tests {
		if got := r.manage(t, tt.f, tt.lun, tt.initiator, tt.tag); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	r.disk.Release(false)
}

// TestReset sees what a reset sets back and what it leaves.
func TestReset(t *testing.T) {
	r := newRig(t, plain(), Disk)
	wantGood(t, "descriptor sense", r.run(t, "55 10 0000000000 0014 00", raw(t, "0000000000000000 0a0a 04 10 00 00 0000 ffff 0000"), nil))
	wantGood(t, "register", r.prout(t, 0, saRegister, 0, 0, 1))
	wantGood(t, "stop", r.run(t, "1b 00 00 00 04 00", nil, nil))
	r.manage(t, LogicalUnitReset, 0, 0, 0)
	c := r.run(t, "00", nil, nil)
	wantKey(t, "reset", c, 0x062903)
	if c.Sense[0] != 0x70 {
		t.Error("D_SENSE survived a reset")
	}
	wantGood(t, "ready again", r.run(t, "00", nil, nil))
	golden(t, "registrations survive", r.data(t, "5e 00 0000000000 00ff 00"), "00000001 00000008 0000000000000001")
	r.manage(t, PowerOn, 0, 0, 0)
	wantKey(t, "power on", r.run(t, "00", nil, nil), 0x062900)
	golden(t, "registrations do not survive power on", r.data(t, "5e 00 0000000000 00ff 00"), "00000000 00000000")
}

// TestHotplug adds, grows and removes logical units.
func TestHotplug(t *testing.T) {
	r := newRig(t, plain(), Disk)
	wantEvents := func(name string, want ...Event) {
		t.Helper()
		if got := r.takeEvents(); !slices.Equal(got, want) {
			t.Errorf("%s: events %v, want %v", name, got, want)
		}
	}
	second := newDisk()
	if err := r.ct.Add(1, Disk, second); err != nil {
		t.Fatal(err)
	}
	wantEvents("add", Event{LUNAdded, 1})
	wantGood(t, "INQUIRY does not report", r.run(t, "12 00 00 00 60 00", nil, make([]byte, 96)))
	wantKey(t, "LUNs changed", r.run(t, "00", nil, nil), 0x063f0e)
	wantGood(t, "once", r.run(t, "00", nil, nil))
	c, done := r.start(t, 0, 1, "00", nil, nil)
	<-done
	wantKey(t, "power on of the new one", c, 0x062900)
	wantKey(t, "another nexus", r.as(t, 1, "00", nil, nil), 0x063f0e)
	r.calm()

	second.Resize(4096)
	wantEvents("resize", Event{LUNResized, 1})
	c, done = r.start(t, 0, 1, "00", nil, nil)
	<-done
	wantKey(t, "capacity changed", c, 0x062a09)
	in := make([]byte, 8)
	c, done = r.start(t, 0, 1, "25", nil, in)
	<-done
	wantGood(t, "READ CAPACITY", c)
	golden(t, "capacity", in, "00000fff 00000200")

	// REPORT LUNS also clears the condition.
	second.Hold()
	busy, busyDone := r.start(t, 0, 1, "28 00 00000000 00 0001 00", nil, make([]byte, 512))
	if err := r.ct.Remove(1); err != nil {
		t.Fatal(err)
	}
	<-busyDone
	if busy.Ending != Removed {
		t.Errorf("ending %d", busy.Ending)
	}
	wantEvents("remove", Event{LUNRemoved, 1})
	r.data(t, "a0 00 00 000000 00001000 00 00")
	wantGood(t, "after REPORT LUNS", r.run(t, "00", nil, nil))
	wantKey(t, "not for others", r.as(t, 1, "00", nil, nil), 0x063f0e)

	// The disk goes away by itself.
	r.disk.Hold()
	read, readDone := r.start(t, 0, 0, "28 00 00000000 00 0001 00", nil, make([]byte, 512))
	r.disk.Remove()
	<-readDone
	wantKey(t, "read", read, 0x052500)
	wantEvents("disk gone", Event{LUNRemoved, 0})
	wantKey(t, "gone", r.run(t, "00", nil, nil), 0x052500)
	second.Resize(8192)
	wantEvents("event of a removed LUN")
}

func TestAddRefuses(t *testing.T) {
	r := newRig(t, plain(), Disk)
	disk := func(f func(*blk.Info)) blk.Disk {
		d := newDisk()
		d.Change(f)
		return d
	}
	fine := func(*blk.Info) {}
	tests := []struct {
		name string
		lun  uint16
		kind Kind
		disk blk.Disk
		want error
	}{
		{"taken", 0, Disk, disk(fine), ErrLUN},
		{"out of range", MaxLUNs, Disk, disk(fine), ErrLUN},
		{"block size", 1, Disk, disk(func(i *blk.Info) { i.BlockSize = 520 }), ErrDisk},
		{"no blocks", 1, Disk, disk(func(i *blk.Info) { i.Blocks = 0 }), ErrDisk},
		{"DVD of large blocks", 1, DVD, blktest.New(blk.Info{Blocks: 8, BlockSize: 4096}), ErrDisk},
		{"DVD too small", 1, DVD, blktest.New(blk.Info{Blocks: 3, BlockSize: 512}), ErrDisk},
		{"DVD of small requests", 1, DVD, disk(func(i *blk.Info) { i.MaxBlocks = 2 }), ErrDisk},
		{"kind", 1, 9, disk(fine), ErrDisk},
	}
	for _, tt := range tests {
		if err := r.ct.Add(tt.lun, tt.kind, tt.disk); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := r.ct.Remove(9); !errors.Is(err, ErrLUN) {
		t.Errorf("removing nothing: %v", err)
	}
}

// TestShrunk reads from a disk that has become smaller, or changed its blocks.
func TestShrunk(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Change(func(i *blk.Info) { i.Blocks = 10 })
	wantKey(t, "beyond the new end", r.run(t, "28 00 0000000a 00 0001 00", nil, make([]byte, 512)), 0x052100)
	r.disk.Change(func(i *blk.Info) { i.BlockSize = 4096 })
	wantKey(t, "other blocks", r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)), 0x052100)
	wantKey(t, "capacity", r.run(t, "25", nil, make([]byte, 8)), 0x023a00)
}
