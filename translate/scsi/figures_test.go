package scsi

import (
	"testing"

	"keel/diag/inspect"
	"keel/translate/blk"
)

// figure returns a field of logical unit 0.
func (r *rig) figure(tb testing.TB, name string) any {
	tb.Helper()
	f, err := inspect.Look(r.ct.Unit(0), name, 1)
	if err != nil {
		tb.Fatal(err)
	}
	if f.Sensitivity != inspect.Private {
		tb.Errorf("%s is public: a host cannot count commands of a guest", name)
	}
	return f.Value
}

func (r *rig) wantFigures(tb testing.TB, want map[string]uint64) {
	tb.Helper()
	for name, n := range want {
		if got := r.figure(tb, name); got != n {
			tb.Errorf("%s is %v, want %d", name, got, n)
		}
	}
}

func TestFigures(t *testing.T) {
	r := newRig(t, plain(), Disk)
	buf := make([]byte, 8192)
	r.run(t, "28 00 00000000 00 0008 00", nil, buf)        // READ(10)
	r.run(t, "08 00 00 00 01 00", nil, buf)                // one block into a longer buffer
	r.run(t, "2a 00 00000000 00 0002 00", buf[:1024], nil) // WRITE(10)
	r.run(t, "35 00 00000000 00 0000 00", nil, nil)        // SYNCHRONIZE CACHE
	r.run(t, "00 00 00 00 00 00", nil, nil)                // TEST UNIT READY
	r.run(t, "28 00 00001000 00 0008 00", nil, buf)        // beyond the end
	r.disk.Fault(3, blk.ErrMedium)
	r.run(t, "28 00 00000003 00 0001 00", nil, buf)
	r.wantFigures(t, map[string]uint64{
		"reads": 4, "writes": 1, "flushes": 1, "others": 1, "discards": 0, "read_bytes": 9 * 512, "written_bytes": 1024,
		"failed": 2, "errors": 1, "aborted": 0, "depth": 0, "depth_highest": 1,
	})
	sum := uint64(0)
	h, _ := r.figure(t, "latency").(inspect.Histogram)
	for _, n := range h.Counts {
		sum += n
	}
	if sum != 7 {
		t.Errorf("the latencies of %d commands, want 7", sum)
	}
	if r.ct.Unit(1) != nil || r.ct.Unit(MaxLUNs) != nil {
		t.Error("there are figures of a logical unit that is not there")
	}
}

func TestFiguresOfWhatIsUnderWay(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Hold()
	var ends []chan struct{}
	for range 3 {
		_, done := r.start(t, 0, 0, "28 00 00000000 00 0001 00", nil, make([]byte, 512))
		ends = append(ends, done)
	}
	r.wantFigures(t, map[string]uint64{"depth": 3, "depth_highest": 3, "reads": 0})
	r.ct.Manage(&Task{Function: LogicalUnitReset, Done: func(*Task) {}})
	r.disk.Release(false)
	for _, done := range ends {
		<-done
	}
	r.wantFigures(t, map[string]uint64{"depth": 0, "depth_highest": 3, "reads": 3, "aborted": 3, "read_bytes": 0})
}

func BenchmarkRead4K(b *testing.B) {
	r := newRig(b, plain(), Disk)
	c := &Command{CDB: cdb(b, "28 00 00000000 00 0008 00"), In: one(make([]byte, 4096)), Done: func(*Command) {}}
	for b.Loop() {
		r.ct.Submit(c)
	}
}
