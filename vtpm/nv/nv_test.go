package nv

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
)

var update = flag.Bool("update", false, "write testdata/v1 anew: only together with a new format")

// memory is a store that can fail.
type memory struct {
	content []byte
	err     error
	commits int
}

func (m *memory) Load() ([]byte, error) { return bytes.Clone(m.content), m.err }

func (m *memory) Commit(b []byte) error {
	if m.err != nil {
		return m.err
	}
	m.commits++
	m.content = bytes.Clone(b)
	return nil
}

func mustOpen(t *testing.T, m *memory) *NV {
	t.Helper()
	n, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// has checks what there is, in an NV and in one that is opened anew.
func has(t *testing.T, n *NV, engine string, progress uint32, ppi string) {
	t.Helper()
	for _, n := range []*NV{n, mustOpen(t, n.backing.(*memory))} {
		got, err := n.Load()
		if err != nil || string(got) != engine || (got == nil) != (engine == "") || n.Progress() != progress || string(n.PPI()) != ppi {
			t.Fatalf("%q, %v, progress %d, request %q; want %q, %d, %q", got, err, n.Progress(), n.PPI(), engine, progress, ppi)
		}
	}
}

// TestManufacture goes through the life of a TPM.
func TestManufacture(t *testing.T) {
	m := &memory{}
	n := mustOpen(t, m)
	has(t, n, "", 0, "")
	if err := n.Advance(1); !errors.Is(err, ErrMalformed) {
		t.Errorf("a TPM out of nothing: %v", err)
	}
	for _, draft := range []string{"seeds", "certificates"} {
		if err := n.Commit([]byte(draft)); err != nil {
			t.Fatal(err)
		}
		// A worker that starts again goes on, a VM that does starts from nothing.
		if got, err := n.Load(); err != nil || string(got) != draft || m.commits != 0 {
			t.Fatalf("%q, %v, %d commits", got, err, m.commits)
		}
		has(t, mustOpen(t, m), "", 0, "")
	}
	if err := n.SetPPI([]byte("early")); err != nil || m.commits != 0 {
		t.Fatalf("%v, %d commits", err, m.commits)
	}
	if err := n.Advance(2); err != nil || m.commits != 1 {
		t.Fatalf("%v, %d commits", err, m.commits)
	}
	has(t, n, "certificates", 2, "early")
	for _, back := range []uint32{0, 1} {
		if err := n.Advance(back); !errors.Is(err, ErrBackwards) {
			t.Errorf("back to %d: %v", back, err)
		}
	}
	if err := n.Commit([]byte("used")); err != nil {
		t.Fatal(err)
	}
	has(t, n, "used", 2, "early")
	if err := n.SetPPI(nil); err != nil {
		t.Fatal(err)
	}
	has(t, n, "used", 2, "")
	if err := n.SetPPI([]byte("clear")); err != nil {
		t.Fatal(err)
	}
	has(t, n, "used", 2, "clear")
	// A later Keel knows a further step.
	n = mustOpen(t, m)
	if err := n.Commit([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if err := n.Advance(3); err != nil {
		t.Fatal(err)
	}
	has(t, n, "more", 3, "clear")
	before := m.commits
	if err := errors.Join(n.Advance(3), n.SetPPI([]byte("clear"))); err != nil || m.commits != before {
		t.Errorf("what changes nothing was written: %v", err)
	}
}

// TestFailures checks that a store that fails never looks like a new TPM.
func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	m := &memory{}
	n := mustOpen(t, m)
	if err := n.Commit([]byte("engine")); err != nil {
		t.Fatal(err)
	}
	m.err = broken
	if err := n.Advance(1); !errors.Is(err, broken) || n.Progress() != 0 {
		t.Fatalf("%v, progress %d", err, n.Progress())
	}
	m.err = nil
	if err := n.Advance(1); err != nil {
		t.Fatal(err)
	}
	m.err = broken
	if b, err := n.Load(); !errors.Is(err, broken) || b != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := n.Commit([]byte("x")); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := n.SetPPI([]byte("x")); !errors.Is(err, broken) || n.PPI() != nil {
		t.Error(err)
	}
	if _, err := Open(m); !errors.Is(err, broken) {
		t.Error(err)
	}
	m.err = nil
	kept := m.content
	m.content = nil // the store forgot
	if b, err := n.Load(); !errors.Is(err, ErrMalformed) || b != nil {
		t.Errorf("%q, %v", b, err)
	}
	m.content = kept
	for _, size := range []int{0, MaxEngine + 1} {
		if err := n.Commit(make([]byte, size)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := n.SetPPI(make([]byte, MaxPPI+1)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	has(t, n, "engine", 1, "")
	if err := mustOpen(t, &memory{}).Commit(nil); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func sample() *State { return &State{Engine: []byte("engine"), Progress: 7, PPI: []byte{1, 2}} }

func encode(tb testing.TB, s *State) []byte {
	tb.Helper()
	b, err := s.AppendTo(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	put := func(at int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	tests := map[string]struct {
		edit func([]byte) []byte
		want error
	}{
		"nothing":          {func([]byte) []byte { return nil }, ErrMalformed},
		"header cut":       {func(b []byte) []byte { return b[:headerBytes-1] }, ErrMalformed},
		"cut":              {func(b []byte) []byte { return b[:len(b)-1] }, ErrMalformed},
		"longer":           {func(b []byte) []byte { return append(b, 0) }, ErrMalformed},
		"magic":            {put(0, 0), ErrMalformed},
		"newer":            {put(offVersion, Version+1), ErrNewer},
		"version 0":        {put(offVersion, 0), ErrMalformed},
		"no progress":      {put(offProgress, 0), ErrMalformed},
		"no engine":        {func(b []byte) []byte { b[offEngine], b[offPPI] = 0, 8; return b }, ErrMalformed},
		"lengths too much": {func(b []byte) []byte { b[offEngine+3], b[offPPI+3] = 0xff, 0xff; return b }, ErrMalformed},
		"long request": {func(b []byte) []byte {
			b[offPPI], b[offPPI+1] = byte((MaxPPI+1)&0xff), byte((MaxPPI+1)>>8)
			return append(b[:headerBytes+6], make([]byte, MaxPPI+1)...)
		}, ErrMalformed},
	}
	for name, tt := range tests {
		if _, err := Decode(tt.edit(encode(t, sample()))); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		_, err := Open(&memory{content: append([]byte{}, tt.edit(encode(t, sample()))...)})
		if name == "nothing" {
			continue // a store that has nothing says nil
		}
		f, ok := errors.AsType[*handoff.Failure](err)
		if !ok || f.Outcome != handoff.OutcomeBadState || !strings.Contains(f.Remedy, "--tpm-state-reset") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadsVersion1 reads what version 1 wrote.
func TestReadsVersion1(t *testing.T) {
	path := filepath.Join("testdata", "v1")
	if *update {
		if err := os.WriteFile(path, encode(t, sample()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode(b)
	if err != nil || string(s.Engine) != "engine" || s.Progress != 7 || !bytes.Equal(s.PPI, []byte{1, 2}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// FuzzDecode asserts that what is accepted is exactly what is written, within its limits.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add(encode(f, &State{Engine: make([]byte, 100), Progress: 1}))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		again, err := s.AppendTo(nil)
		if err != nil || !bytes.Equal(again, b) || len(s.Engine) > MaxEngine || len(s.PPI) > MaxPPI || s.Progress == 0 {
			t.Fatalf("%x accepted, written as %x: %v", b, again, err)
		}
	})
}
