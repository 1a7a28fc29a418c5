package nvme_test

import (
	"encoding/binary"
	"testing"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
	"keel/translate/tap"
)

func TestCapture(t *testing.T) {
	f, c := open(t, one(), nvme.Config{})
	d, g := first(t, c), newGuest(f, 8192)
	ring := tap.New(1, tap.MaxData)
	first := true
	f.Set(func(to *nvmetest.Faults) {
		to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			if cmd.LBA == 9 && first {
				first = false
				return nvmetest.Action{Status: 0x82} // namespace not ready: it is tried again
			}
			return nvmetest.Action{}
		}
	})
	c.Capture(ring.Tap(0))
	for _, r := range []*blk.Request{rw(blk.OpRead, 5, 512, g.at(0, 1024)), {Op: blk.OpFlush}, rw(blk.OpWrite, 9, 512, g.at(512, 512))} {
		if err := do(t, d, r); err != nil {
			t.Fatal(err)
		}
	}
	c.Capture(nil)
	if err := do(t, d, rw(blk.OpRead, 1, 512, g.at(0, 512))); err != nil {
		t.Fatal(err)
	}
	var b tap.Batch
	ring.Take(&b)
	want := []struct {
		opcode byte
		lba    uint64
		status uint16
	}{{2, 5, 0}, {0, 0, 0}, {1, 9, 0x82}, {1, 9, 0}}
	if len(b.Records) != 2*len(want) {
		t.Fatalf("%d records, want %d", len(b.Records), 2*len(want))
	}
	le := binary.LittleEndian
	for i, w := range want {
		command, end := &b.Records[2*i], &b.Records[2*i+1]
		sqe, cqe := command.Bytes[:command.Length], end.Bytes[:end.Length]
		if command.Kind != tap.NVMeCommand || len(sqe) != 64 || sqe[0] != w.opcode || w.opcode != 0 && le.Uint64(sqe[40:]) != w.lba || command.Queue != 1 {
			t.Errorf("command %d: %+v", i, command)
		}
		if end.Kind != tap.NVMeCompletion || len(cqe) != 16 || le.Uint16(cqe[14:])>>1 != w.status || le.Uint16(cqe[12:]) != le.Uint16(sqe[2:]) || le.Uint16(cqe[10:]) != 1 || end.Time < command.Time {
			t.Errorf("completion %d: %+v", i, end)
		}
	}
}

// TestCaptureAllocatesNothing holds the path to none while somebody captures, too.
func TestCaptureAllocatesNothing(t *testing.T) {
	fake := one()
	fake.Sync = true
	f, c := open(t, fake, nvme.Config{Poll: -1})
	d, g := first(t, c), newGuest(f, 8192)
	ring := tap.New(1, 0)
	c.Capture(ring.Tap(0))
	done := make(chan struct{}, 1)
	r := rw(blk.OpRead, 0, 512, g.at(0, 4096))
	r.Done = func(*blk.Request) { done <- struct{}{} }
	if n := testing.AllocsPerRun(200, func() {
		d.Submit(0, r)
		<-done
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
