package gueststate

import (
	"errors"
	"testing"

	"keel/translate/blk"
)

// confirming returns options that note the mark that Confirm is asked about, and answer.
func confirming(floor uint64, err error) (o Options, asked *[]Mark) {
	o, asked = options(), new([]Mark)
	o.Confirm = func(m Mark) (uint64, error) {
		*asked = append(*asked, m)
		return floor, err
	}
	return o, asked
}

// TestMark: each commit has a mark of its own, which is the same on the disk.
func TestMark(t *testing.T) {
	d := newDisk(512)
	s := mustOpen(t, d, options())
	seen := map[Mark]bool{}
	for range 5 {
		if m := s.Mark(); seen[m] {
			t.Errorf("%d twice", m.Sequence)
		}
		seen[s.Mark()] = true
		mustCommit(t, s, "same")
	}
	o, asked := confirming(0, nil)
	again := mustOpen(t, d, o)
	if len(*asked) != 1 || (*asked)[0] != s.Mark() || again.Mark() != s.Mark() || s.Mark().Sequence != 6 {
		t.Errorf("%v, %v, %v", *asked, again.Mark(), s.Mark())
	}
	holds(t, again, "same")
}

// TestConfirmRefused: nothing is written when the state is not confirmed, and the error is
// the one that was given.
func TestConfirmRefused(t *testing.T) {
	no := errors.New("no")
	for name, reset := range map[string]bool{"state": false, "reset": true, "empty": false} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(4096)
			want := Mark{}
			if name != "empty" {
				s := mustOpen(t, d, options())
				mustCommit(t, s, "a", "b")
				if !reset {
					want = s.Mark()
				}
			}
			d.Log()
			o, asked := confirming(0, &noFailure{no})
			o.Reset = reset
			_, err := Open(d, o)
			if len(*asked) != 1 || (*asked)[0] != want || !errors.Is(err, no) {
				t.Errorf("asked about %v, %v", *asked, err)
			}
			for _, op := range d.Log() {
				if op != blk.OpRead {
					t.Errorf("operation %v", op)
				}
			}
		})
	}
}

// noFailure is an error that names no cause of this package.
type noFailure struct{ error }

func (n *noFailure) Unwrap() error { return n.error }

// TestRaise: what was allowed goes on from the floor, whole at each moment that the power
// may fail.
func TestRaise(t *testing.T) {
	const floor = 101
	for name, reset := range map[string]bool{"state": false, "reset": true, "empty": false, "prepared": false} {
		t.Run(name, func(t *testing.T) {
			d, content := newDisk(512), ""
			switch s := options(); name {
			case "state":
				mustCommit(t, mustOpen(t, d, s), "a", "b")
				content = "b"
			case "reset":
				mustCommit(t, mustOpen(t, d, s), "a", "b")
			case "prepared":
				mustOpen(t, d, s)
			}
			o, _ := confirming(floor, nil)
			o.Reset = reset
			s := mustOpen(t, d, o)
			if m := s.Mark(); m.Sequence < floor {
				t.Errorf("sequence %d", m.Sequence)
			}
			holds(t, s, content)
			for range 2 {
				s = mustOpen(t, d, options())
				if r := s.Report(); r.Recovered || r.Spliced || r.Sequence < floor {
					t.Errorf("%+v", r)
				}
				holds(t, s, content)
				content = "c"
				mustCommit(t, s, content)
			}
		})
	}
	// One that is there already is left alone.
	d := newDisk(512)
	mustCommit(t, mustOpen(t, d, options()), "a")
	d.Log()
	o, _ := confirming(2, nil)
	if r := mustOpen(t, d, o).Report(); r.Raised || r.Sequence != 2 {
		t.Errorf("%+v", r)
	}
	for _, op := range d.Log() {
		if op != blk.OpRead {
			t.Errorf("operation %v", op)
		}
	}
}
