package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

var two = []Algorithm{SHA256, SHA384}

func event(pcr uint32, kind EventType, data string) Event {
	return Event{PCR: pcr, Type: kind, Digests: Sum(two, []byte(data)), Data: []byte(data)}
}

func newLog(t *testing.T, size int, events ...Event) *Log {
	t.Helper()
	l, err := New(size, two)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestBytes compares a log with the layout of PFP §10.2 and §10.4.5.1, field by field.
func TestBytes(t *testing.T) {
	one := sha256.Sum256([]byte("x"))
	l, err := New(AreaSize, []Algorithm{SHA256})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(Event{PCR: 9, Type: EVIPL, Digests: []Digest{{SHA256, one[:]}}, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"00000000", "03000000", strings.Repeat("00", 20), "21000000", // PCR 0, EV_NO_ACTION, SHA-1, size 33
		"53706563204944204576656e74303300", // "Spec ID Event03"
		"00000000", "00", "02", "6a", "02", // client, 2.0 errata 106, UINT64
		"01000000", "0b00", "2000", "00", // one bank, SHA-256 of 32 bytes, no vendor information
		"09000000", "0d000000", "01000000", "0b00", hex.EncodeToString(one[:]), "01000000", "78",
	}, "")
	if got := hex.EncodeToString(l.Bytes()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	events := []Event{event(0, EVSCRTMVersion, "v"), event(7, EVSeparator, "\x00\x00\x00\x00"), event(23, EVEventTag, "")}
	area := make([]byte, AreaSize)
	copy(area, newLog(t, AreaSize, events...).Bytes())
	p, err := Parse(area)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Banks) != 2 || p.Banks[0] != SHA256 || p.Banks[1] != SHA384 {
		t.Errorf("banks %v", p.Banks)
	}
	again := newLog(t, AreaSize, p.Events...)
	if !bytes.Equal(again.Bytes(), area[:len(again.Bytes())]) || len(p.Events) != len(events) {
		t.Errorf("%d events, or other bytes", len(p.Events))
	}
}

func TestFull(t *testing.T) {
	big, small := event(4, EVIPL, strings.Repeat("k", 100)), event(4, EVIPL, "s")
	room := len(newLog(t, AreaSize, small, big).Bytes())
	for _, size := range []int{room, room + 1} {
		newLog(t, size, small, big) // all fits
	}
	l := newLog(t, room-1, small)
	before := bytes.Clone(l.Bytes())
	if err := l.Append(big); !errors.Is(err, ErrFull) {
		t.Fatalf("an event too large: %v", err)
	}
	// What comes later must not look as if it had followed directly.
	if err := l.Append(small); !errors.Is(err, ErrFull) {
		t.Errorf("an event after one that was dropped: %v", err)
	}
	if !bytes.Equal(l.Bytes(), before) || l.Dropped() != 2 || cap(l.Bytes()) != room-1 {
		t.Errorf("%d dropped, or the log has changed", l.Dropped())
	}
	if _, err := New(hdrSize, two); !errors.Is(err, ErrFull) {
		t.Errorf("an area smaller than the header: %v", err)
	}
}

func TestBadEvents(t *testing.T) {
	good := event(1, EVIPL, "d")
	for name, change := range map[string]func(*Event){
		"PCR 24":              func(e *Event) { e.PCR = 24 },
		"one digest":          func(e *Event) { e.Digests = e.Digests[:1] },
		"other order":         func(e *Event) { e.Digests = []Digest{e.Digests[1], e.Digests[0]} },
		"digest twice":        func(e *Event) { e.Digests = []Digest{e.Digests[0], e.Digests[0]} },
		"digest of half size": func(e *Event) { e.Digests = []Digest{{SHA256, make([]byte, 16)}, e.Digests[1]} },
	} {
		e := good
		change(&e)
		if err := newLog(t, AreaSize).Append(e); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, banks := range [][]Algorithm{nil, {SHA256, SHA256}, {0x12}} {
		if _, err := New(AreaSize, banks); !errors.Is(err, ErrEvent) {
			t.Errorf("banks %v: %v", banks, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	log := newLog(t, AreaSize, event(4, EVIPL, "kernel")).Bytes()
	head := len(newLog(t, AreaSize).Bytes())
	put := func(at int, b ...byte) func([]byte) []byte {
		return func(l []byte) []byte { copy(l[at:], b); return l }
	}
	for name, change := range map[string]func([]byte) []byte{
		"nothing":              func([]byte) []byte { return nil },
		"too long":             func([]byte) []byte { return make([]byte, maxLog+1) },
		"cut in the header":    func(l []byte) []byte { return l[:head-1] },
		"cut in the event":     func(l []byte) []byte { return l[:len(l)-1] },
		"header's PCR":         put(hdrPCR, 1),
		"header's type":        put(hdrType, 4),
		"header's digest":      put(hdrDigest, 1),
		"header's size":        put(hdrEventSize, 0xff, 0xff, 0xff, 0xff),
		"signature":            put(hdrSize, 'X'),
		"version":              put(hdrSize+specVersionMajor, 3),
		"many banks":           put(hdrSize+specAlgorithms, 5),
		"no bank":              put(hdrSize+specAlgorithms, 0),
		"digest size":          put(hdrSize+specFixed+2, 33),
		"bank twice":           put(hdrSize+specFixed+4, 0x0b, 0, 0x20),
		"vendor information":   put(head-1, 1),
		"PCR 24":               put(head, 24),
		"one digest":           put(head+8, 1),
		"2^32-1 digests":       put(head+8, 0xff, 0xff, 0xff, 0xff),
		"digest twice":         put(head+12+2+32, 0x0b),
		"unknown digest":       put(head+12, 0x04),
		"data of 2^32-1 bytes": put(len(log)-len("kernel")-4, 0xff, 0xff, 0xff, 0xff),
		"rest":                 func(l []byte) []byte { return append(l, 0, 0, 1) },
	} {
		if _, err := Parse(change(bytes.Clone(log))); !errors.Is(err, ErrParse) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplay(t *testing.T) {
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	first := sha256.Sum256(append(make([]byte, 32), a[:]...))
	second := sha256.Sum256(append(first[:], b[:]...))
	dynamic := sha256.Sum256(append(bytes.Repeat([]byte{0xff}, 32), a[:]...))
	noAction := event(4, EVNoAction, "never extended")
	pcrs, err := Replay([]Event{event(4, EVIPL, "a"), noAction, event(17, EVIPL, "a"), event(4, EVIPL, "b")}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for pcr, want := range map[int][]byte{
		0: make([]byte, 32), 4: second[:], 16: make([]byte, 32), 17: dynamic[:],
		22: bytes.Repeat([]byte{0xff}, 32), 23: make([]byte, 32),
	} {
		if !bytes.Equal(pcrs[pcr], want) {
			t.Errorf("PCR %d is %x, want %x", pcr, pcrs[pcr], want)
		}
	}
	for name, events := range map[string][]Event{
		"started at locality 3": {event(0, EVNoAction, "StartupLocality\x00\x03")},
		"no digest of the bank": {{PCR: 1, Type: EVIPL, Digests: Sum([]Algorithm{SHA384}, nil)}},
	} {
		if _, err := Replay(events, SHA256); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Replay(nil, 0x12); !errors.Is(err, ErrReplay) {
		t.Errorf("a bank that is not known: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	l, err := New(AreaSize, two)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Bytes())
	if err := l.Append(event(9, EVEventTag, "initrd")); err != nil {
		f.Fatal(err)
	}
	f.Add(l.Bytes())
	f.Add(append(bytes.Clone(l.Bytes()), make([]byte, 64)...))
	f.Add([]byte("Spec ID Event03\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrParse) {
				t.Fatalf("error %v", err)
			}
			return
		}
		// Every event that is accepted has all digests, can be replayed, and costs bytes.
		if len(p.Events)*(eventFixed+sizeField) > len(b) {
			t.Fatalf("%d events in %d bytes", len(p.Events), len(b))
		}
		for _, e := range p.Events {
			for _, a := range p.Banks {
				if len(e.digest(a)) != a.Size() {
					t.Fatalf("a digest of %d bytes for %v", len(e.digest(a)), a)
				}
			}
		}
		for _, a := range p.Banks {
			if _, err := Replay(p.Events, a); err != nil && !errors.Is(err, ErrReplay) {
				t.Fatal(err)
			}
		}
	})
}
