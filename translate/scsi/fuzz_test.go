package scsi

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// FuzzCommand runs arbitrary commands on a disk, a read-only disk, a DVD and
// what is not there. Whatever it is, the command ends once, its residual and its
// sense data are within bounds, nothing is written around the guest's segments, and
// what is read-only stays as it was.
func FuzzCommand(f *testing.F) {
	for i := range operations {
		o := &operations[i]
		c := o.usage
		for j := 1; j < int(o.length); j++ {
			if !o.service || j > 1 {
				c[j] = 0
			}
		}
		f.Add(c[:o.length], bytes.Repeat([]byte{0, 0, 0, 0x20}, 16), uint8(0), uint16(4096), false)
		c[o.length-2], c[o.length-3] = 0x40, 0
		f.Add(c[:o.length], make([]byte, 1024), uint8(1), uint16(700), true)
	}
	f.Add([]byte{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, make([]byte, 1024), uint8(0), uint16(0), true)
	f.Add([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24}, []byte{0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, uint8(0), uint16(0), false)
	f.Fuzz(func(t *testing.T, code, out []byte, lun uint8, room uint16, small bool) {
		rw := blk.Info{Blocks: 300, BlockSize: 512, Volatile: true, Discard: true, DiscardUnit: 1, MaxRanges: 2, MaxDiscard: 40, ID: [16]byte{1}}
		if small {
			rw.MaxBlocks, rw.WriteZeroes, rw.MaxZeroes = 20, true, 30
		}
		ro := rw
		ro.ReadOnly, ro.ID[0] = true, 2
		disks := []*blktest.Disk{blktest.New(rw), blktest.New(ro), blktest.New(blk.Info{Blocks: 300, BlockSize: 512, ID: [16]byte{3}})}
		before := pattern(300*512, 7)
		ct := New(nil)
		for i, d := range disks {
			d.Fill(before)
			kind := Disk
			if i == 2 {
				kind = DVD
			}
			if err := ct.Add(uint16(i), kind, d); err != nil {
				t.Fatal(err)
			}
		}
		for u := range ct.each() {
			u.attentions[0].Store(0)
		}
		// The guest's memory: a segment, a gap, a segment.
		memory := bytes.Repeat([]byte{0xa5}, int(room)+64)
		split := int(room) / 3
		segments := []blk.Segment{
			{Data: memory[16 : 16+split : 16+split], DMA: blk.NoDMA},
			{Data: memory[32+split : 32+int(room) : 32+int(room)], DMA: blk.NoDMA},
		}
		kept := bytes.Clone(out)
		var ends atomic.Int32
		done := make(chan struct{}, 8)
		c := &Command{LUN: uint16(lun), Out: one(out), In: segments, Done: func(*Command) { ends.Add(1); done <- struct{}{} }}
		if lun == 255 {
			c.LUN = ReportLUNs
		}
		copy(c.CDB[:], code)
		for range 2 { // the second time with what the first one left
			ct.Submit(c)
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("the command does not end")
			}
			if c.Residual > uint64(room)+uint64(len(out)) {
				t.Errorf("residual %d of %d and %d bytes", c.Residual, room, len(out))
			}
			if c.SenseLen < 0 || c.SenseLen > SenseSize || (c.Status == StatusCheckCondition) != (c.SenseLen != 0) {
				t.Errorf("status %#x with %d bytes of sense data", c.Status, c.SenseLen)
			}
			if c.Ending != Completed {
				t.Errorf("ending %d", c.Ending)
			}
		}
		if n := ends.Load(); n != 2 {
			t.Errorf("it ended %d times in two runs", n)
		}
		gap := bytes.Repeat([]byte{0xa5}, 16)
		for _, at := range []int{0, 16 + split, 32 + int(room)} {
			if !bytes.Equal(memory[at:at+16], gap) {
				t.Errorf("bytes at %d were overwritten", at)
			}
		}
		if !bytes.Equal(out, kept) {
			t.Error("the guest's data was changed")
		}
		for _, d := range disks[1:] {
			if !bytes.Equal(d.Bytes(), before) {
				t.Error("a read-only disk has changed")
			}
		}
		u := ct.units[0].Load()
		if u.gate.queued.Load() != 0 || u.tasks.count(everything) != 0 || ct.pool.frees != ct.pool.made {
			t.Error("something is left of the command")
		}
	})
}
