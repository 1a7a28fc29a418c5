package virtioscsi

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
	"keel/translate/scsi"
	"keel/translate/virtio/virtiotest"
)

// newReal returns a controller over the real target, with a disk as LUN 0.
func newReal(tb testing.TB, queues int) (*bench, *scsi.Controller, *blktest.Disk) {
	tb.Helper()
	disk := newDisk(1)
	var ct *scsi.Controller
	b := newBench(tb, queues, func(notify func(scsi.Event)) Target {
		ct = scsi.New(notify)
		return ct
	})
	if err := ct.Add(0, scsi.Disk, disk); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { disk.Release(false) })
	return b, ct, disk
}

func newDisk(id byte) *blktest.Disk {
	return blktest.New(blk.Info{Blocks: 2048, BlockSize: 512, ID: [16]byte{id}, Serial: "test", Discard: true, WriteZeroes: true, MaxRanges: 8, DiscardUnit: 1})
}

// settle takes the unit attentions that wait for a nexus.
func (b *bench) settle(lun [8]byte) {
	b.tb.Helper()
	for range 10 {
		if r := b.do(lun, make([]byte, 6), nil, 0); r.status == 0 {
			return
		}
	}
	b.tb.Fatal("unit attentions without end")
}

// rw makes a READ(10) or WRITE(10).
func rw(opcode byte, lba uint32, blocks uint16) []byte {
	cdb := make([]byte, 10)
	cdb[0] = opcode
	binary.BigEndian.PutUint32(cdb[2:], lba)
	binary.BigEndian.PutUint16(cdb[7:], blocks)
	return cdb
}

func TestRealTarget(t *testing.T) {
	b, _, _ := newReal(t, 2)
	b.start(allFeatures)
	r := b.do(lun1(0), make([]byte, 6), nil, 0)
	if r.status != 2 || r.senseLen < 14 || r.sense[2]&0xf != 6 || r.sense[12] != 0x29 {
		t.Errorf("the first command gets no unit attention of a power on: %+v", r)
	}
	b.settle(lun1(0))
	r = b.do(lun1(0), []byte{0x12, 0, 0, 0, 36, 0}, nil, 36)
	if r.response != respOK || r.status != 0 || r.data[0] != 0 || r.residual != 0 || r.written != 108+36 {
		t.Errorf("INQUIRY %+v", r)
	}
	out := bytes.Repeat([]byte("keel"), 256)
	r = b.do(lun1(0), rw(0x2a, 7, 2), out, 0)
	if r.response != respOK || r.status != 0 || r.written != 108 || r.residual != 0 {
		t.Errorf("WRITE %+v", r)
	}
	r = b.do(lun1(0), rw(0x28, 7, 2), nil, 1024)
	if r.response != respOK || r.status != 0 || r.written != 108+1024 || !bytes.Equal(r.data, out) {
		t.Errorf("READ %d %d, %d bytes", r.response, r.status, r.written)
	}
	r = b.do(lun1(0), rw(0x28, 7, 2), nil, 2048)
	if r.response != respOK || r.residual != 1024 || r.written != 108+1024 {
		t.Errorf("READ with room to spare: %d, residual %d, %d bytes", r.response, r.residual, r.written)
	}
	if r = b.do(lun1(0), rw(0x28, 7, 2), nil, 512); r.response != respOverrun {
		t.Errorf("READ without room: %d", r.response)
	}
	r = b.do(lun1(0), rw(0x28, 2047, 2), nil, 1024)
	if r.status != 2 || r.sense[2]&0xf != 5 || r.sense[12] != 0x21 || r.residual != 1024 || r.written != 108 {
		t.Errorf("READ past the end: %+v", r)
	}
	r = b.do(lun1(9), make([]byte, 6), nil, 0)
	if r.response != respOK || r.status != 2 || r.sense[12] != 0x25 {
		t.Errorf("an absent logical unit: %+v", r)
	}
	r = b.do([8]byte{1, 0, 0xc1, 1}, []byte{0xa0, 9: 64, 11: 0}, nil, 64)
	if r.response != respOK || r.status != 0 || binary.BigEndian.Uint32(r.data) != 8 {
		t.Errorf("REPORT LUNS %d %d %x", r.response, r.status, r.data)
	}
}

func TestRealHotplug(t *testing.T) {
	b, ct, disk := newReal(t, 1)
	b.start(allFeatures)
	b.settle(lun1(0))
	v := b.give(4, 16)
	second := newDisk(2)
	if err := ct.Add(5, scsi.Disk, second); err != nil {
		t.Fatal(err)
	}
	disk.Resize(4096)
	if err := ct.Remove(5); err != nil {
		t.Fatal(err)
	}
	want := []gotEvent{{1, [8]byte{1, 0, 0, 5}, 1}, {3, [8]byte{1}, 0x092a}, {1, [8]byte{1, 0, 0, 5}, 2}}
	for i, w := range want {
		wait(t, func() bool { _, _, ok := b.events.Poll(); return ok })
		if got := parse(v[i]); got != w {
			t.Errorf("event %d: %+v, want %+v", i, got, w)
		}
	}
}

func wait(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

func TestRealManagement(t *testing.T) {
	b, ct, disk := newReal(t, 2)
	b.start(allFeatures)
	b.settle(lun1(0))
	for _, c := range []struct {
		name string
		do   func() int
		want response
	}{
		{"abort task", func() int { return b.function(tmfAbortTask, lun1(0), 77) }, respAborted},
		{"abort task set", func() int { return b.function(tmfAbortTaskSet, lun1(0), 0) }, respAborted},
		{"unit reset", func() int { return b.function(tmfUnitReset, lun1(0), 0) }, respReset},
		{"nexus reset", func() int { return b.function(tmfNexusReset, lun1(0), 0) }, respReset},
	} {
		disk.Hold()
		p := b.send(1, lun1(0), 77, rw(0x28, 0, 1), nil, 512)
		if got := b.function(tmfQueryTask, lun1(0), 77); got != int(respSucceeded) {
			t.Errorf("%s: the task is not there: %d", c.name, got)
		}
		if got := c.do(); got != 0 {
			t.Errorf("%s: response %d", c.name, got)
		}
		_, n, ok := b.requests[1].Poll()
		if r := b.reply(p, n, ok); !ok || r.response != c.want {
			t.Errorf("%s: command %v, %+v", c.name, ok, r)
		}
		if got := b.function(tmfQueryTask, lun1(0), 77); got != 0 {
			t.Errorf("%s: the task is still there: %d", c.name, got)
		}
		disk.Release(false)
		b.settle(lun1(0))
	}
	if got := b.function(tmfUnitReset, lun1(8), 0); got != int(respIncorrectLUN) {
		t.Errorf("reset of nothing: %d", got)
	}
	// A logical unit that goes away takes its commands with it.
	disk.Hold()
	p := b.send(1, lun1(0), 78, rw(0x28, 0, 1), nil, 512)
	if err := ct.Remove(0); err != nil {
		t.Fatal(err)
	}
	_, n, ok := b.requests[1].Poll()
	if r := b.reply(p, n, ok); !ok || r.response != respBadTarget {
		t.Errorf("command of a removed unit: %v, %+v", ok, r)
	}
}

func TestRealReset(t *testing.T) {
	b, _, disk := newReal(t, 2)
	b.start(allFeatures)
	b.settle(lun1(0))
	disk.Hold()
	for i := range 8 {
		b.send(i%2, lun1(0), uint64(100+i), rw(0x28, uint32(i), 1), nil, 512)
	}
	b.SetStatus(0)
	wait(t, func() bool { return b.Status() == 0 })
	for i, r := range b.requests {
		if _, _, ok := r.Poll(); ok {
			t.Errorf("queue %d: a completion after the reset", i)
		}
	}
	disk.Release(false)
	b.start(allFeatures)
	b.settle(lun1(0))
}

// TestRealLoad runs writes and reads on all queues at once, with resets of the
// logical unit and hot plugging meanwhile.
func TestRealLoad(t *testing.T) {
	const rounds = 300
	b, ct, _ := newReal(t, 4)
	b.start(allFeatures)
	b.settle(lun1(0))
	type slot struct{ out, in, hdr, resp virtiotest.Buffer }
	slots := make([]slot, len(b.requests))
	for i := range slots {
		s := &slots[i]
		s.out, _ = b.buffer(1024)
		s.in, _ = b.buffer(1024)
		s.hdr, _ = b.buffer(51)
		s.resp, _ = b.buffer(108)
	}
	var vps sync.WaitGroup
	for i, r := range b.requests {
		s := slots[i]
		run := func(cdb []byte, out, in []virtiotest.Buffer) (response, byte) {
			h := b.View(s.hdr.GPA, 51)
			copy(h, []byte{1, 0, 0x40, 0})
			h[8] = byte(i)
			copy(h[19:], cdb)
			if _, ok := r.Add(append([]virtiotest.Buffer{s.hdr}, out...), append([]virtiotest.Buffer{s.resp}, in...)); !ok {
				t.Error("no room")
				return respFailure, 0
			}
			r.Kick()
			wait(t, func() bool { _, _, ok := r.Poll(); return ok })
			v := b.View(s.resp.GPA, 12)
			return response(v[11]), v[10]
		}
		vps.Go(func() {
			for n := range rounds {
				lba := uint32(i*400 + n)
				out, in := b.View(s.out.GPA, 1024), b.View(s.in.GPA, 1024)
				for k := range out {
					out[k] = byte(n + k*i)
				}
				clear(in)
				for {
					if c, st := run(rw(0x2a, lba, 2), []virtiotest.Buffer{s.out}, nil); c == respOK && st == 0 {
						break
					}
				}
				for {
					if c, st := run(rw(0x28, lba, 2), nil, []virtiotest.Buffer{s.in}); c == respOK && st == 0 {
						break
					}
				}
				if !bytes.Equal(out, in) {
					t.Errorf("queue %d, round %d: what was read is not what was written", i, n)
					return
				}
			}
		})
	}
	vps.Go(func() {
		for n := range 20 {
			if got := b.function(tmfUnitReset, lun1(0), 0); got != 0 {
				t.Errorf("unit reset %d", got)
			}
			if err := ct.Add(7, scsi.Disk, newDisk(byte(n+2))); err != nil {
				t.Error(err)
			}
			if err := ct.Remove(7); err != nil {
				t.Error(err)
			}
			runtime.Gosched()
		}
	})
	vps.Wait()
	if s := b.controller.Stats(); s.Virtio.Broken != 0 || s.Malformed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRealSteadyStateDoesNotAllocate(t *testing.T) {
	b, _, _ := newReal(t, 1)
	b.start(allFeatures)
	b.settle(lun1(0))
	hdr, h := b.buffer(51)
	copy(h, []byte{1, 0, 0x40, 0})
	copy(h[19:], rw(0x28, 3, 8))
	resp, w := b.buffer(108)
	data, _ := b.buffer(4096)
	r := b.requests[0]
	virtiotest.SetDescriptor(r.Desc, 0, hdr.GPA, hdr.Size, 1, 1)
	virtiotest.SetDescriptor(r.Desc, 1, resp.GPA, resp.Size, 3, 2)
	virtiotest.SetDescriptor(r.Desc, 2, data.GPA, data.Size, 2, 0)
	if n := testing.AllocsPerRun(100, func() {
		for range 4 {
			r.Offer(0)
		}
		b.controller.device.Queue(queueRequest).Kick()
	}); n != 0 || w[11] != 0 || w[10] != 0 {
		t.Errorf("%v allocations for 4 commands, response %d, status %d", n, w[11], w[10])
	}
}
