package gueststate

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"keel/boot/handoff"
)

var update = flag.Bool("update", false, "write testdata/v1.slots anew: only together with a new format")

// golden are two slots as version 1 wrote them, of goldenBytes each: "old" in B, "new" in
// A. What wrote them is gone; every later version reads them.
const goldenBytes = 512

func golden(tb testing.TB) (a, b []byte) {
	tb.Helper()
	path := filepath.Join("testdata", "v1.slots")
	if *update {
		d := newDisk(goldenBytes)
		mustCommit(tb, mustOpen(tb, d, options()), "old", "new")
		if err := os.WriteFile(path, append(d.Bytes()[:goldenBytes], d.Bytes()[SlotBytes:SlotBytes+goldenBytes]...), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	both, err := os.ReadFile(path)
	if err != nil || len(both) != 2*goldenBytes {
		tb.Fatalf("%d bytes, %v", len(both), err)
	}
	return both[:goldenBytes], both[goldenBytes:]
}

// diskOf makes a disk whose slots begin with these bytes.
func diskOf(a, b []byte) *crashDisk {
	d := newCrashDisk(512)
	for slot, data := range [][]byte{a, b} {
		for at := 0; at < min(len(data), SlotBytes); at += 512 {
			block := make([]byte, 512)
			copy(block, data[at:])
			d.medium[uint64(slot*SlotBytes+at)/512] = block
		}
	}
	return d
}

// TestReadsVersion1 opens what version 1 wrote.
func TestReadsVersion1(t *testing.T) {
	a, b := golden(t)
	s := mustOpen(t, diskOf(a, b), options())
	if r := s.Report(); r.Recovered || r.Spliced || r.Sequence != 3 {
		t.Errorf("%s", r)
	}
	holds(t, s, "new")
}

// FuzzOpen lets the host write both slots. What opens is what was sealed with the key,
// and what does not open is left alone.
func FuzzOpen(f *testing.F) {
	a, b := golden(f)
	f.Add(a, b, false)
	f.Add(b, a, false)
	f.Add(a, []byte{}, true)
	f.Add([]byte{}, []byte{}, false)
	f.Add(a[:headerBytes], bytes.Repeat(b, 3), true)
	f.Fuzz(func(t *testing.T, a, b []byte, fix bool) {
		if len(a) > 1<<16 || len(b) > 1<<16 {
			return
		}
		a, b = bytes.Clone(a), bytes.Clone(b)
		for _, slot := range [][]byte{a, b} {
			if fix && len(slot) >= headerBytes {
				binary.LittleEndian.PutUint32(slot[offSum:], sum(slot))
			}
		}
		d := diskOf(a, b)
		summary, err := Inspect(d, nil)
		if err != nil && !isOutcome(err, handoff.OutcomeBadState) || summary == nil {
			t.Fatalf("%v", err)
		}
		for _, slot := range summary.Slots {
			if slot.VM != "" && !printable(slot.VM, MaxVM) || slot.Provider != "" && !printable(slot.Provider, MaxName) || slot.Bytes > MaxContent {
				t.Fatalf("%+v", slot)
			}
		}
		s, err := Open(d, options())
		if err != nil {
			if !isOutcome(err, handoff.OutcomeBadState) || d.written != 0 {
				t.Fatalf("%v, %d blocks written", err, d.written)
			}
			return
		}
		got, err := s.Load()
		if err != nil || got != nil && string(got) != "old" && string(got) != "new" {
			t.Fatalf("%q, %v", got, err)
		}
		if s.Report().New != (zero(a) && zero(b)) || got == nil && !s.Report().New {
			t.Fatalf("%+v", s.Report())
		}
	})
}

// FuzzHeader asserts that what is accepted is exactly what is written.
func FuzzHeader(f *testing.F) {
	a, b := golden(f)
	f.Add(a, uint32(0))
	f.Add(b, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, slot uint32) {
		if len(b) < headerBytes {
			return
		}
		b = bytes.Clone(b[:headerBytes])
		binary.LittleEndian.PutUint32(b[offSum:], sum(b))
		var h header
		if h.parse(b, slot) != nil {
			return
		}
		var again [headerBytes]byte
		h.put(again[:])
		if !bytes.Equal(again[:], b) {
			t.Fatalf("%x accepted, written as %x", b, again)
		}
	})
}
