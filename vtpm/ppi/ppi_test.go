package ppi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// tpm answers each command with the next of its codes, success where none is left.
type tpm struct {
	codes []uint32
	err   error
	short bool
	sent  [][]byte
}

func (f *tpm) Send(command []byte) ([]byte, error) {
	f.sent = append(f.sent, append([]byte(nil), command...))
	if f.err != nil {
		return nil, f.err
	}
	if f.short {
		return []byte{0x80, 1, 0, 0, 0, 6}, nil
	}
	var code uint32
	if len(f.codes) > 0 {
		code, f.codes = f.codes[0], f.codes[1:]
	}
	return binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, code), nil
}

// read32 and write32 access the memory as the methods of the ACPI device do: by bytes.
func read32(m *Memory, at uint64) uint32 {
	var v uint32
	for i := range uint64(4) {
		v |= uint32(m.ReadMMIO(at+i, 1)) << (8 * i)
	}
	return v
}

func write32(m *Memory, at uint64, v uint32) {
	for i := range uint64(4) {
		m.WriteMMIO(at+i, 1, uint64(v>>(8*i)))
	}
}

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Operations and results of PPI 1.30 tables 2 and 4, with offsets from QEMU's
// docs/specs/tpm.rst.
func TestProcess(t *testing.T) {
	clearing := [][]byte{
		// TPM2_ClearControl and TPM2_Clear of the platform, Library part 3 §24.7, §24.6.
		decode(t, "8002 0000001c 00000127 4000000c 00000009 40000009 0000 00 0000 00"),
		decode(t, "8002 0000001b 00000126 4000000c 00000009 40000009 0000 00 0000"),
	}
	for _, c := range []struct {
		name    string
		op      uint32
		codes   []uint32
		sent    [][]byte
		cleared bool
		result  uint32
		stats   Stats
	}{
		{"enable", 1, nil, nil, false, 0, Stats{Done: 1}},
		{"clear", 5, nil, clearing, true, 0, Stats{Done: 1}},
		{"clear and enable", 14, nil, clearing, true, 0, Stats{Done: 1}},
		{"enable and clear", 21, nil, clearing, true, 0, Stats{Done: 1}},
		{"enable, clear, enable", 22, nil, clearing, true, 0, Stats{Done: 1}},
		{"clear is refused", 5, []uint32{0, 0x120}, clearing, false, 0x120, Stats{Failed: 1}},
		{"control is refused", 5, []uint32{0x98e}, clearing[:1], false, 0x98e, Stats{Failed: 1}},
		{"disable", 2, nil, nil, false, 0xfffffff1, Stats{Unknown: 1}},
		{"PCR banks", 23, nil, nil, false, 0xfffffff1, Stats{Unknown: 1}},
		{"endorsement seed", 24, nil, nil, false, 0xfffffff1, Stats{Unknown: 1}},
		{"vendor", 128, nil, nil, false, 0xfffffff1, Stats{Unknown: 1}},
		{"no operation", 1<<32 - 1, nil, nil, false, 0xfffffff1, Stats{Unknown: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New()
			write32(m, 0x109, c.op)
			write32(m, 0x10d, 77)
			f := &tpm{codes: c.codes}
			cleared, err := m.Process(f)
			if err != nil || cleared != c.cleared {
				t.Errorf("cleared %v, %v", cleared, err)
			}
			if len(f.sent) != len(c.sent) {
				t.Fatalf("sent %x", f.sent)
			}
			for i, want := range c.sent {
				if !bytes.Equal(f.sent[i], want) {
					t.Errorf("sent %x\nwant %x", f.sent[i], want)
				}
			}
			if r, p := read32(m, 0x109), read32(m, 0x10d); r != 0 || p != 0 {
				t.Errorf("still pending: %d, %d", r, p)
			}
			if last, result := read32(m, 0x111), read32(m, 0x105); last != c.op || result != c.result {
				t.Errorf("last %d, result %#x, want %#x", last, result, c.result)
			}
			if s := m.Stats(); s != c.stats {
				t.Errorf("%+v", s)
			}
			// It is carried out once, and its result stays.
			if cleared, err := m.Process(f); cleared || err != nil || len(f.sent) != len(c.sent) || read32(m, 0x111) != c.op {
				t.Error("the second boot does it again")
			}
		})
	}
}

// A TPM that cannot be reached is the boot's trouble; the request stays.
func TestProcessError(t *testing.T) {
	gone := errors.New("gone")
	for _, f := range []*tpm{{err: gone}, {short: true}} {
		m := New()
		write32(m, 0x109, 5)
		cleared, err := m.Process(f)
		if cleared || !errors.Is(err, ErrProcess) || f.err != nil && !errors.Is(err, gone) {
			t.Errorf("cleared %v, %v", cleared, err)
		}
		if read32(m, 0x109) != 5 || read32(m, 0x111) != 0 {
			t.Error("the request is gone")
		}
	}
}

// What may be asked for is the firmware's word at each boot, whatever the guest wrote.
func TestOffer(t *testing.T) {
	m := New()
	for i := range uint64(0x101) {
		m.WriteMMIO(i, 1, 4)
	}
	if _, err := m.Process(&tpm{}); err != nil {
		t.Fatal(err)
	}
	for op := range uint64(0x100) {
		want := uint64(0)
		switch op {
		case 0, 1, 5, 14, 21, 22:
			want = 4
		}
		if got := m.ReadMMIO(op, 1); got != want {
			t.Errorf("operation %d: %d, want %d", op, got, want)
		}
	}
	if m.ReadMMIO(0x100, 1) != 1 {
		t.Error("firmware was not here")
	}
}

func TestMemoryWidths(t *testing.T) {
	m := New()
	for _, size := range []int{1, 2, 4, 8} {
		for at := 0; at <= Size-size; at += 61 {
			m.WriteMMIO(uint64(at), size, 0x8877665544332211)
			want := uint64(0x8877665544332211) & (1<<(8*size) - 1)
			if got := m.ReadMMIO(uint64(at), size); got != want {
				t.Errorf("%d bytes at %#x: %#x", size, at, got)
			}
		}
	}
	m.WriteMMIO(Size-8, 8, 5)
	if m.ReadMMIO(Size-8, 8) != 5 || m.ReadMMIO(Size-1, 1) != 0 {
		t.Error("the end of the memory")
	}
	if n := testing.AllocsPerRun(10, func() { m.WriteMMIO(0x109, 4, m.ReadMMIO(0x110, 8)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOverwriteRequest(t *testing.T) {
	m := New()
	if m.TakeOverwriteRequest() {
		t.Error("nobody asked")
	}
	m.WriteMMIO(0x15a, 1, 0x11)
	if !m.TakeOverwriteRequest() || m.TakeOverwriteRequest() || m.ReadMMIO(0x15a, 1) != 0x10 {
		t.Error("a request is taken once")
	}
}

func TestSaved(t *testing.T) {
	m := New()
	write32(m, 0x109, 5)
	write32(m, 0x10d, 0x01020304)
	write32(m, 0x111, 14)
	write32(m, 0x105, 0xfffffff0)
	m.WriteMMIO(0x15a, 1, 1)
	saved := m.Marshal()
	want := decode(t, "01 05000000 04030201 0e000000 f0ffffff 01")
	if !bytes.Equal(saved, want) {
		t.Errorf("saved %x, want %x", saved, want)
	}
	again := New()
	if err := again.Restore(saved); err != nil {
		t.Fatal(err)
	}
	if again.b != m.b {
		t.Error("restored something else")
	}
	if err := New().Restore(nil); err != nil {
		t.Errorf("the first boot: %v", err)
	}
	for _, bad := range [][]byte{{0}, {2}, saved[:17], append(append([]byte(nil), saved...), 0)} {
		m := New()
		before := m.b
		if err := m.Restore(bad); !errors.Is(err, ErrSaved) || m.b != before {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// FuzzProcess boots with memory as a guest or a state file left it.
func FuzzProcess(f *testing.F) {
	f.Add([]byte{1, 5, 0, 0, 0, 4, 3, 2, 1, 14, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 1}, uint32(0), uint16(0x109), uint64(5))
	f.Add([]byte{}, uint32(0x120), uint16(0x3f8), uint64(1)<<63)
	f.Add([]byte{2}, uint32(0), uint16(0), uint64(0x0404040404040404))
	f.Fuzz(func(t *testing.T, saved []byte, code uint32, at uint16, value uint64) {
		m := New()
		before := m.b
		if err := m.Restore(saved); err != nil && m.b != before {
			t.Error("a refused state changed the memory")
		}
		m.WriteMMIO(uint64(at)%(Size-7), 8, value)
		op := read32(m, 0x109)
		f := &tpm{codes: []uint32{0, code}}
		cleared, err := m.Process(f)
		if err != nil || len(f.sent) > 2 {
			t.Fatalf("%d commands, %v", len(f.sent), err)
		}
		for _, c := range f.sent {
			if cc := binary.BigEndian.Uint32(c[6:]); cc != 0x126 && cc != 0x127 || op != 5 && op != 14 && op != 21 && op != 22 {
				t.Errorf("operation %d sends %x", op, c)
			}
		}
		if cleared != (len(f.sent) == 2 && code == 0) || read32(m, 0x109) != 0 {
			t.Errorf("operation %d: cleared %v, pending %d", op, cleared, read32(m, 0x109))
		}
		saved = m.Marshal()
		if err := New().Restore(saved); err != nil {
			t.Error(err)
		}
	})
}
