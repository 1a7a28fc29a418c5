package private

import (
	"errors"
	"testing"

	"keel/hcl/abi/x86"
)

// fake is a TEE that notes what was accepted.
type fake struct {
	small    bool // it holds pages of 4 KiB
	fail     error
	accepted map[x86.GPA]int
}

func (f *fake) Accept(gpa x86.GPA, large bool) error {
	if large && f.small {
		return ErrSize
	}
	if f.fail != nil {
		return f.fail
	}
	n := x86.GPA(1)
	if large {
		n = pagesPerRegion
	}
	for i := range n {
		f.accepted[gpa+i*x86.PageSize]++
	}
	return nil
}

func (f *fake) Permit(x86.GPA, bool, bool) error { return nil }

const size = 3 << 20 // one region and a half

func newMemory(t *testing.T) (*fake, *Memory) {
	t.Helper()
	f := &fake{accepted: map[x86.GPA]int{}}
	m := New(f)
	if err := m.Add(0, make([]byte, size), 1<<46, func(x86.GPA, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return f, m
}

// TestOnce: every page is accepted once in the guest's life, however it is asked for.
func TestOnce(t *testing.T) {
	for _, small := range []bool{false, true} {
		f, m := newMemory(t)
		f.small = small
		for range 2 {
			if ours, err := m.Fault(0x1234, m.Epoch()-1); !ours || err != nil {
				t.Errorf("%v, %v", ours, err)
			}
			if err := errors.Join(m.Accept(0, size), m.Permit(0x5000, x86.PageSize, false), m.Permit(0x5000, x86.PageSize, true)); err != nil {
				t.Error(err)
			}
			if b, err := m.Bytes(0x2ff000, 8); len(b) != 8 || err != nil {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
		for page, n := range f.accepted {
			if n != 1 {
				t.Errorf("%#x was accepted %d times", page, n)
			}
		}
		if large, single, _ := m.Stats(); len(f.accepted) != size/x86.PageSize || large*pagesPerRegion+single != size/x86.PageSize || small != (large == 0) {
			t.Errorf("%d pages, counted %d and %d", len(f.accepted), large, single)
		}
	}
}

// TestFault: what the guest may use and cannot, the host has taken; what it may not use is
// the caller's; what failed is never tried again.
func TestFault(t *testing.T) {
	f, m := newMemory(t)
	if err := errors.Join(m.Accept(0, 2<<20), m.Permit(0x5000, x86.PageSize, false)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gpa   x86.GPA
		older bool
		ours  bool
		err   error
	}{
		{0x1000, false, true, ErrHost},
		{0x1000, true, true, nil},
		{0x5000, false, false, nil},
		{size, false, false, nil},
		{1<<64 - 1, false, false, nil},
	} {
		epoch := m.Epoch()
		if c.older {
			epoch--
		}
		if ours, err := m.Fault(c.gpa, epoch); ours != c.ours || !errors.Is(err, c.err) {
			t.Errorf("%#x: %v, %v", c.gpa, ours, err)
		}
	}
	if b, err := m.Bytes(0x5000, 8); b != nil || err != nil {
		t.Errorf("a denied page: %d bytes, %v", len(b), err)
	}
	if b, err := m.Bytes(0x1ffc, 8); b != nil || err != nil {
		t.Errorf("across pages: %d bytes, %v", len(b), err)
	}
	f.fail = ErrHost
	if _, err := m.Fault(0x200000, 0); !errors.Is(err, ErrHost) {
		t.Error(err)
	}
	f.fail = nil
	if _, err := m.Fault(0x200000, 0); !errors.Is(err, ErrMemory) || f.accepted[0x200000] != 0 {
		t.Errorf("tried again: %v", err)
	}
}

// TestAloneBefore: a page that was accepted alone keeps its region from being large.
func TestAloneBefore(t *testing.T) {
	f, m := newMemory(t)
	*m.ram[0].at(0x1000) = Accepted
	if err := m.Accept(0, x86.PageSize); err != nil {
		t.Fatal(err)
	}
	if large, small, _ := m.Stats(); large != 0 || small != pagesPerRegion-1 || f.accepted[0x1000] != 0 {
		t.Errorf("%d and %d, %d times", large, small, f.accepted[0x1000])
	}
}

// TestRanges: ranges that cannot be are refused.
func TestRanges(t *testing.T) {
	_, m := newMemory(t)
	place := func(x86.GPA, []byte) error { return nil }
	for what, err := range map[string]error{
		"odd":      m.Accept(1, x86.PageSize),
		"empty":    m.Accept(0, 0),
		"none":     m.Accept(size, x86.PageSize),
		"wraps":    m.Accept(1<<64-x86.PageSize, 2*x86.PageSize),
		"overlaps": m.Add(0x2ff000, make([]byte, 0x2000), 1<<46, place),
		"beyond":   m.Add(1<<46, make([]byte, 0x1000), 1<<46, place),
	} {
		if !errors.Is(err, ErrMemory) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
