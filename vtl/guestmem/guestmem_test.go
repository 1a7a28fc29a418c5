package guestmem

import (
	"errors"
	"testing"

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
