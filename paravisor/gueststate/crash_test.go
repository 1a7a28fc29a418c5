package gueststate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"keel/vtpm/nv"
)

// stamp makes a content that no other commit has.
func stamp(n, size int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, max(size, 8))
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b
}

// TestCrashEverywhere cuts the power during every write and flush of a short life and
// goes through every disk that this can leave.
func TestCrashEverywhere(t *testing.T) {
	for _, size := range blockSizes {
		unit := int(size)
		sizes := []int{10, 5 * unit, unit, 10, 4 * unit}
		left, cuts := 0, 0
		for cut := 1; ; cut++ {
			d := newCrashDisk(size)
			d.cut = cut
			committed, tried := []byte(nil), []byte(nil)
			var mark Mark // what a key server may have heard of
			s, err := Open(d, options())
			for n := 0; err == nil && n < len(sizes); n++ {
				tried = stamp(n+1, sizes[n])
				if err = s.Commit(tried); err == nil {
					committed, mark = tried, s.Mark()
				}
			}
			if !d.dead {
				break // lived to the end
			}
			cuts++
			d.aftermaths(func(a *crashDisk) {
				left++
				next, _ := check(t, a, fmt.Sprintf("blocks of %d, cut in operation %d", size, cut), committed, tried)
				if m := next.Mark(); m.Sequence < mark.Sequence || m.Sequence == mark.Sequence && m != mark && mark.Sequence > 0 {
					t.Errorf("blocks of %d, cut in operation %d: %v would be refused after %v", size, cut, m, mark)
				}
			})
		}
		t.Logf("blocks of %d: %d cuts, %d disks", size, cuts, left)
		if cuts < 12 || left < 100 {
			t.Errorf("only %d cuts and %d disks", cuts, left)
		}
	}
}

// check opens the disk of the next boot: it has what was committed last, or what was
// being committed. It returns which.
func check(t *testing.T, d *crashDisk, when string, committed, tried []byte) (*Store, []byte) {
	t.Helper()
	s, err := Open(d, options())
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	got, err := s.Load()
	if err != nil || !bytes.Equal(got, committed) && !bytes.Equal(got, tried) || (got == nil) != (len(got) == 0) {
		t.Fatalf("%s: %d bytes, %v, neither what was committed (%d bytes) nor what was about to be (%d)", when, len(got), err, len(committed), len(tried))
	}
	if s.Report().Spliced {
		t.Errorf("%s: a power failure taken for a splice", when)
	}
	return s, got
}

// TestCrashSchedules lives through random lives with many power failures each.
func TestCrashSchedules(t *testing.T) {
	const lives, boots = 120, 6
	recovered := 0
	for life := range lives {
		r := rand.New(rand.NewPCG(uint64(life), 4))
		d := newCrashDisk(blockSizes[life%2])
		var committed, tried []byte
		n := 0
		for boot := range boots {
			when := fmt.Sprintf("life %d, boot %d", life, boot)
			d.cut = d.ops + 1 + r.IntN(14)
			if boot == 0 {
				d.cut += r.IntN(20)
			}
			s, err := Open(d, options())
			if err == nil && s.Report().Recovered {
				recovered++
			}
			for err == nil {
				n++
				size := r.IntN(6000)
				if r.IntN(8) == 0 {
					size = r.IntN(160 << 10)
				}
				tried = stamp(n, size)
				if err = s.Commit(tried); err == nil {
					committed = tried
				}
			}
			if !d.dead {
				t.Fatalf("%s: %v", when, err)
			}
			mood := r.IntN(3) // all of the cache is lost, none of it, or some
			d = d.aftermath(func(n int) int {
				switch mood {
				case 0:
					return 0
				case 1:
					return n - 1
				}
				return r.IntN(n)
			})
			_, got := check(t, d, when, committed, tried)
			committed, tried = got, got
		}
	}
	t.Logf("%d recoveries", recovered)
	if recovered < lives/4 {
		t.Errorf("only %d recoveries: the power does not fail where it hurts", recovered)
	}
}

// TestCrashInReset cuts the power during a reset: the old state is there, or none.
func TestCrashInReset(t *testing.T) {
	for _, wrongKey := range []bool{false, true} {
		for cut := 1; ; cut++ {
			d := newCrashDisk(4096)
			s := mustOpen(t, d, options())
			mustCommit(t, s, "x", "old")
			o := options()
			o.Reset = true
			if wrongKey {
				o.Provider = testKey(9)
			}
			d.cut = d.ops + cut
			_, _ = Open(d, o)
			if !d.dead {
				break
			}
			for range 20 {
				a := d.aftermath(rand.IntN)
				o.Reset = false
				if s, err := Open(a, o); err == nil {
					if got, err := s.Load(); err != nil || got != nil && string(got) != "old" {
						t.Fatalf("cut %d: %q, %v", cut, got, err)
					}
				} else if !wrongKey {
					t.Fatalf("cut %d: %v", cut, err)
				}
				o.Reset = true // says the user again
				holds(t, mustOpen(t, a, o), "")
			}
		}
	}
}

// TestCrashInManufacture cuts the power while a TPM is made and used: there is one TPM or
// none, and none only before its manufacture was done.
func TestCrashInManufacture(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	for life := range 80 {
		d := newCrashDisk(blockSizes[life%2])
		var identity byte // of the TPM that was shown to a guest
		for boot := 1; boot < 6; boot++ {
			if d.cut = 1 + r.IntN(12); boot == 1 {
				d.cut += r.IntN(16)
			}
			identity = live(t, d, identity, byte(boot))
			if !d.dead {
				t.Fatal("lived to the end")
			}
			d = d.aftermath(r.IntN)
		}
	}
}

// live is one boot of a TPM until the power fails. The first byte of the engine's state
// is the TPM's identity, which only manufacture sets.
func live(t *testing.T, d *crashDisk, identity, fresh byte) byte {
	t.Helper()
	s, err := Open(d, options())
	if err != nil {
		if !d.dead {
			t.Fatal(err)
		}
		return identity
	}
	n, err := nv.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := n.Load()
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case n.Progress() == 0 && (identity != 0 || engine != nil):
		t.Fatal("a TPM would be manufactured again")
	case n.Progress() == 0:
		for step := range 3 {
			engine = append([]byte{fresh}, stamp(step, 1300)...)
			if err := n.Commit(engine); err != nil {
				t.Fatal(err)
			}
		}
		if n.Advance(1) != nil {
			return 0
		}
	case identity != 0 && engine[0] != identity:
		t.Fatalf("the TPM is %d and was %d", engine[0], identity)
	}
	identity = engine[0]
	for i := 0; ; i++ {
		if i%3 == 2 {
			err = n.SetPPI([]byte{byte(i)})
		} else {
			err = n.Commit(append([]byte{identity}, stamp(i, 1000+i)...))
		}
		if err != nil {
			return identity
		}
	}
}
