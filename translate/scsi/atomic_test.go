package scsi

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/translate/blk"
)

// waitHeld waits until the disk keeps n requests.
func (r *rig) waitHeld(t *testing.T, n int) {
	t.Helper()
	for range 2000 {
		if r.disk.Held() == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d requests at the disk, want %d", r.disk.Held(), n)
}

func ended(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// TestCompareAndWriteOrder sees who waits for whom.
func TestCompareAndWriteOrder(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Hold()
	write := func(lba string) (*Command, chan struct{}) {
		return r.start(t, 0, 0, "2a 00 "+lba+" 00 0001 00", make([]byte, 512), nil)
	}
	_, before := write("00000005")
	caw, cawDone := r.start(t, 0, 0, "89 00 0000000000000004 000000 02 00 00", make([]byte, 2048), nil)
	r.waitHeld(t, 1) // it waits for the write
	_, same := write("00000004")
	_, elsewhere := write("00000100")
	_, second := r.start(t, 0, 0, "89 00 0000000000000005 000000 01 00 00", make([]byte, 1024), nil)
	r.waitHeld(t, 2) // of these only the write elsewhere goes on
	r.disk.Release(false)
	for _, done := range []chan struct{}{before, cawDone, same, elsewhere, second} {
		<-done
	}
	wantGood(t, "COMPARE AND WRITE", caw)
	if n := r.ct.units[0].Load().gate.queued.Load(); n != 0 {
		t.Errorf("%d commands are left in the gate", n)
	}
}

// TestAbortHeld aborts commands in each place where one can wait.
func TestAbortHeld(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Hold()
	_, first := r.start(t, 1, 0, "2a 00 00000000 00 0001 00", make([]byte, 512), nil)
	caw, cawDone := r.start(t, 0, 0, "89 00 0000000000000000 000000 01 00 00", make([]byte, 1024), nil) // at the gate
	behind, behindDone := r.start(t, 1, 0, "2a 00 00000000 00 0001 00", make([]byte, 512), nil)
	// Verifies elsewhere take the buffers that are left; the last one waits for one.
	var verifies []chan struct{}
	for range buffers - 1 {
		_, d := r.start(t, 1, 0, "2f 00 00000100 00 0001 00", nil, nil)
		verifies = append(verifies, d)
	}
	hungry, hungryDone := r.start(t, 0, 0, "2f 00 00000100 00 0001 00", nil, nil)
	r.waitHeld(t, 1+buffers-1)
	task := make(chan struct{})
	r.ct.Manage(&Task{Function: AbortTaskSet, Initiator: 0, Done: func(*Task) { close(task) }})
	<-task
	<-cawDone
	<-hungryDone
	for _, c := range []*Command{caw, hungry} {
		if c.Ending != Aborted || c.Status != StatusTaskAborted {
			t.Errorf("ending %d, status %#x", c.Ending, c.Status)
		}
	}
	if ended(first) {
		t.Error("another nexus's command was aborted")
	}
	r.waitHeld(t, 2+buffers-1) // what stood behind COMPARE AND WRITE goes on
	r.disk.Release(true)
	<-first
	<-behindDone
	wantGood(t, "behind", behind)
	for _, d := range verifies {
		<-d
	}
}

// TestCompareAndWriteAtomic lets several nexuses count in one block.
func TestCompareAndWriteAtomic(t *testing.T) {
	r := newRig(t, plain(), Disk)
	const workers, rounds = 4, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range rounds {
				for {
					got := make([]byte, 512)
					wantGood(t, "read", r.as(t, uint8(w), "28 00 00000007 00 0001 00", nil, got))
					next := make([]byte, 512)
					binary.BigEndian.PutUint64(next, binary.BigEndian.Uint64(got)+1)
					c := r.as(t, uint8(w), "89 00 0000000000000007 000000 01 00 00", append(got, next...), nil)
					if c.Status == StatusGood {
						break
					}
					if key(c) != 0x0e1d00 && c.Status != StatusTaskSetFull {
						t.Errorf("unexpected %06x", key(c))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got := binary.BigEndian.Uint64(r.disk.Bytes()[7*512:]); got != workers*rounds {
		t.Errorf("counted %d, want %d", got, workers*rounds)
	}
}

// TestBusy fills the queue for buffers.
func TestBusy(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Hold()
	var all []chan struct{}
	var commands []*Command
	for range buffers + maxHeld + 3 {
		c, d := r.start(t, 0, 0, "2f 00 00000000 00 0001 00", nil, nil)
		all, commands = append(all, d), append(commands, c)
	}
	full := 0
	for n, d := range all {
		if ended(d) && commands[n].Status == StatusTaskSetFull {
			full++
		}
	}
	if full != 3 {
		t.Errorf("%d commands were told TASK SET FULL, want 3", full)
	}
	r.disk.Release(false)
	for _, d := range all {
		<-d
	}
	if got := r.ct.Stats().Busy; got != 3 {
		t.Errorf("counted %d", got)
	}
}

// TestAllocations holds the I/O path to none.
func TestAllocations(t *testing.T) {
	r := newRig(t, plain(), Disk)
	done := func(*Command) {}
	buf := make([]byte, 8192)
	split := []blk.Segment{{Data: buf[:700], DMA: blk.NoDMA}, {Data: buf[700:], DMA: blk.NoDMA}}
	for _, code := range []string{
		"28 00 00000000 00 0008 00", "2a 08 00000000 00 0008 00", "88 00 0000000000000000 00000008 00 00", "35 00 00000000 00 0000 00",
		"28 08 00000000 00 0001 00", "42 00 00000000 00 0028 00", "89 00 0000000000000000 000000 04 00 00", "2f 02 00000000 00 0002 00", "93 00 0000000000000000 00000010 00 00", "00 00 00 00 00 00",
	} {
		c := &Command{CDB: cdb(t, code), Out: split, In: split, Done: done}
		if code[:2] == "42" {
			c.Out = one(raw(t, "0026 0020 00000000 0000000000000000 00000008 00000000 0000000000000100 00000001 00000000"))
		}
		if n := testing.AllocsPerRun(50, func() { r.ct.Submit(c) }); n != 0 || c.Status != StatusGood && key(c) != 0x0e1d00 {
			t.Errorf("%s: %v allocations, status %#x", code, n, c.Status)
		}
	}
}

// TestStress lets several queues run everything at once, with resets, aborts and
// logical units that come and go. Every command ends once.
func TestStress(t *testing.T) {
	r := newRig(t, plain(), Disk)
	codes := []string{
		"28 00 00000000 00 0008 00", "2a 00 00000004 00 0008 00", "89 00 0000000000000004 000000 01 00 00", "2f 00 00000000 00 0100 00",
		"93 00 0000000000000000 00000100 00 00", "35 00 00000000 00 0000 00", "42 00 00000000 00 0018 00", "00", "5f 06 00 0000 00000018 00",
		"5f 05 01 0000 00000018 00", "15 10 0000 04 00", "a0 00 00 000000 00001000 00 00",
	}
	late := &late{Disk: newDisk(), work: make(chan func(), 1024)}
	var helpers, wg sync.WaitGroup
	for range 2 {
		helpers.Go(func() {
			for f := range late.work {
				f()
			}
		})
	}
	if err := r.ct.Add(1, Disk, late); err != nil {
		t.Fatal(err)
	}
	list := raw(t, "0016 0010 00000000 0000000000000004 00000004 00000000"+strings.Repeat("00", 8192-24))
	for w := range 4 {
		wg.Go(func() {
			var all []*Command
			free := make(chan *Command, 16)
			for range cap(free) {
				c := &Command{Queue: w, Initiator: uint8(w % 2), Out: one(list), In: one(make([]byte, 8192))}
				c.Done = func(c *Command) { free <- c }
				all = append(all, c)
				free <- c
			}
			for n := range 1500 {
				c := <-free
				c.CDB, c.LUN, c.Tag = cdb(t, codes[(n*7+w)%len(codes)]), uint16(n/3%3), uint64(n)
				r.ct.Submit(c)
				if n%40 == 39 {
					f := Function(n / 40 % int(PowerOn+1))
					done := make(chan struct{})
					r.ct.Manage(&Task{Function: f, LUN: uint16(n % 2), Initiator: uint8(w % 2), Tag: uint64(n), Done: func(*Task) { close(done) }})
					<-done
				}
			}
			for range all {
				<-free
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			_ = r.ct.Add(2, Disk, newDisk())
			time.Sleep(time.Millisecond)
			_ = r.ct.Remove(2)
		}
	})
	wg.Wait()
	close(late.work)
	helpers.Wait()
	for u := range r.ct.each() {
		if u.gate.queued.Load() != 0 || u.tasks.count(everything) != 0 || u.gate.head != nil {
			t.Errorf("LUN %d: commands are left", u.lun)
		}
	}
	if p := &r.ct.pool; p.frees != p.made || p.waiting != 0 || p.head != nil {
		t.Errorf("%d of %d buffers are free, %d commands wait", p.frees, p.made, p.waiting)
	}
}

// late completes requests on other goroutines.
type late struct {
	blk.Disk
	work chan func()
}

func (l *late) Submit(q int, r *blk.Request) {
	select {
	case l.work <- func() { l.Disk.Submit(q, r) }:
	default:
		l.Disk.Submit(q, r)
	}
}
