package guestmem

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

const mib = 1 << 20

var layout = Layout{LowTop: 4 * mib, HighBase: 1 << 32}

func newMemory(t *testing.T, size uint64) *Memory {
	t.Helper()
	m, err := New(size, layout, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestNewRefusesOddSizes(t *testing.T) {
	for _, size := range []uint64{0, 1, 4096, 3 * mib, 1 << 60} {
		if _, err := New(size, layout, false); !errors.Is(err, ErrAlloc) {
			t.Errorf("%d bytes: %v, want ErrAlloc", size, err)
		}
	}
}

func TestLayoutSplitsAtTheHole(t *testing.T) {
	if r := newMemory(t, 4*mib).Regions(); len(r) != 1 || r[0].Size() != 4*mib {
		t.Errorf("memory that fits below the hole: %d regions", len(r))
	}
	r := newMemory(t, 6*mib).Regions()
	if len(r) != 2 || r[0].Size() != 4*mib || r[1].GPA != layout.HighBase || r[1].Size() != 2*mib {
		t.Errorf("memory over the hole: %d regions", len(r))
	}
}

func TestSliceBounds(t *testing.T) {
	m := newMemory(t, 6*mib)
	for _, c := range []struct {
		gpa x86.GPA
		n   int
		ok  bool
	}{
		{0, 4 * mib, true},
		{4*mib - 1, 1, true},
		{4*mib - 1, 2, false},
		{4 * mib, 0, true},
		{4*mib + 1, 0, false},
		{layout.HighBase, 2 * mib, true},
		{layout.HighBase + 2*mib - 8, 8, true},
		{layout.HighBase + 2*mib - 8, 9, false},
		{layout.HighBase - 1, 1, false},
		{0, -1, false},
		{^x86.GPA(0), 1, false},
		{^x86.GPA(0), 1 << 30, false},
	} {
		s, err := m.Slice(c.gpa, c.n)
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrRange)) {
			t.Errorf("%#x+%#x: %v, want ok=%v", c.gpa, c.n, err, c.ok)
		}
		if err == nil && (len(s) != c.n || cap(s) != c.n) {
			t.Errorf("%#x+%#x: length %d, capacity %d", c.gpa, c.n, len(s), cap(s))
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	m := newMemory(t, 6*mib)
	at := layout.HighBase + 4096
	if err := m.WriteAt(at, []byte("keel")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if err := m.ReadAt(at, got); err != nil || string(got) != "keel" {
		t.Errorf("read %q, %v", got, err)
	}
}

// accepting is a partition whose memory must be accepted. It notes what was.
type accepting struct {
	hcl.Partition
	ranges []string
	fail   error
}

func (a *accepting) MapMemory(x86.GPA, []byte) error { return nil }

func (a *accepting) Accept(gpa x86.GPA, length uint64) error {
	a.ranges = append(a.ranges, fmt.Sprintf("%#x+%#x", gpa, length))
	return a.fail
}

// TestAccept: Keel accepts each large page before it touches it, once.
func TestAccept(t *testing.T) {
	m, p := newMemory(t, 6*mib), &accepting{}
	if err := m.Map(p); err != nil {
		t.Fatal(err)
	}
	for _, use := range []struct {
		gpa x86.GPA
		n   int
	}{{2*mib - 1, 2}, {0, 1}, {0, 0}, {3 * mib, mib}, {layout.HighBase + 5, 1}} {
		if _, err := m.Slice(use.gpa, use.n); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"0x0+0x200000", "0x200000+0x200000", "0x100000000+0x200000"}; !slices.Equal(p.ranges, want) {
		t.Errorf("accepted %v, want %v", p.ranges, want)
	}
}

// TestAcceptFails: memory that cannot be accepted is not handed out, nor forgotten.
func TestAcceptFails(t *testing.T) {
	m, p := newMemory(t, 4*mib), &accepting{fail: errors.New("the host says no")}
	if err := m.Map(p); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.WriteAt(0, []byte{1}); !errors.Is(err, p.fail) {
			t.Errorf("%v, want that of Accept", err)
		}
	}
	if len(p.ranges) != 2 {
		t.Errorf("tried %v", p.ranges)
	}
}
