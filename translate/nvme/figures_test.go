package nvme_test

import (
	"testing"

	"keel/diag/inspect"
	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// TestFigures lets five requests meet three slots.
func TestFigures(t *testing.T) {
	f, c := open(t, one(), nvme.Config{Depth: 4})
	d, g := first(t, c), newGuest(f, 8192)
	hold := make(chan struct{})
	f.Set(func(to *nvmetest.Faults) {
		to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			<-hold
			if cmd.LBA == 4 {
				return nvmetest.Action{Status: 0x4281} // unrecovered read error, do not retry
			}
			return nvmetest.Action{}
		}
	})
	var ends []<-chan error
	for i := range 5 {
		ends = append(ends, start(d, 0, rw(blk.OpRead, uint64(i), 512, g.at(512*i, 512))))
	}
	if s := c.Stats(); s.Depth != 3 || s.DepthHighest != 3 || s.Full != 2 {
		t.Errorf("depth %d, highest %d, %d requests found no room", s.Depth, s.DepthHighest, s.Full)
	}
	close(hold)
	failed := 0
	for _, end := range ends {
		if wait(t, end) != nil {
			failed++
		}
	}
	if err := do(t, d, rw(blk.OpWrite, 0, 512, g.at(0, 4096))); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{
		"reads": 5, "writes": 1, "flushes": 0, "read_bytes": 4 * 512, "written_bytes": 4096, "errors": 1,
		"depth": 0, "depth_highest": 3, "full": 2, "queues": 1,
	}
	root, err := inspect.Look(c, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, field := range root.Fields {
		if n, ok := want[field.Name]; ok {
			delete(want, field.Name)
			if field.Value != n {
				t.Errorf("%s is %v, want %d", field.Name, field.Value, n)
			}
		}
		if h, ok := field.Value.(inspect.Histogram); ok {
			for _, n := range h.Counts {
				sum += n
			}
		}
	}
	if failed != 1 || sum != 6 || len(want) != 0 {
		t.Errorf("%d failed; the latencies of %d commands, want 6; not there: %v", failed, sum, want)
	}
}
