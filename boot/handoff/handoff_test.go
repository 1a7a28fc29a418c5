package handoff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// sample is what the shim hands over in a VM of 64 MiB.
func sample() *Handoff {
	return &Handoff{
		Platform: PlatformNative, Flags: FlagDebug, VPs: 4, RAMBytes: 0xa0000 + 0x3f00000,
		Control: Span{0x100000, 0x13000}, Kernel: Span{0x1000000, 0xc00000}, Initrd: Span{0x113000, 0x12345},
		Digest: [32]byte{1, 31: 2},
		Memory: []Range{
			{Span{0, 0xa0000}, MemoryRAM}, {Span{0xf0000, 0x10000}, MemoryReserved}, {Span{0x100000, 0x3f00000}, MemoryRAM},
		},
	}
}

// encode writes the node's data as the shim does.
func encode(tb testing.TB, h *Handoff) []byte {
	tb.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, &header{
		Magic: Magic, Version: Version, Bytes: uint32(HeaderBytes + RangeBytes*len(h.Memory)), Platform: uint32(h.Platform),
		Flags: uint32(h.Flags), VPs: h.VPs, Ranges: uint32(len(h.Memory)), RAMBytes: h.RAMBytes,
		Control: h.Control, Kernel: h.Kernel, Initrd: h.Initrd, Digest: h.Digest,
	})
	for _, r := range h.Memory {
		if err == nil {
			b, err = binary.Append(b, binary.LittleEndian, rawRange{Span: r.Span, Type: uint32(r.Type)})
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	b := encode(t, sample())
	h, err := Parse(b)
	if err != nil || !reflect.DeepEqual(h, sample()) || !h.Debug() {
		t.Fatalf("%+v, %v", h, err)
	}
	put := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
	}
	const first = HeaderBytes
	tests := []struct {
		name string
		edit func([]byte) []byte
		want error
	}{
		{"empty", func([]byte) []byte { return nil }, ErrTruncated},
		{"header cut", func(b []byte) []byte { return b[:HeaderBytes-1] }, ErrTruncated},
		{"range cut", func(b []byte) []byte { return b[:len(b)-1] }, ErrTruncated},
		{"longer", func(b []byte) []byte { return append(b, 0) }, ErrInvalid},
		{"magic", put(0, 0), ErrMagic},
		{"version", put(8, 2), ErrVersion},
		{"size", put(12, HeaderBytes), ErrInvalid},
		{"unknown flag", put(20, 2), ErrInvalid},
		{"no VPs", put(24, 0), ErrInvalid},
		{"many VPs", put(24, MaxVPs+1), ErrInvalid},
		{"no ranges", put(28, 0), ErrInvalid},
		{"many ranges", put(28, MaxRanges+1), ErrInvalid},
		{"RAM sum", put(32, 1), ErrInvalid},
		{"span wraps", func(b []byte) []byte { copy(b[48:], "\xff\xff\xff\xff\xff\xff\xff\xff"); return b }, ErrInvalid},
		{"empty range", put(first+8, 0), ErrInvalid},
		{"range wraps", put(first+12, 0xffffffff), ErrInvalid},
		{"overlap", put(first+RangeBytes, 0x9f000), ErrInvalid},
		{"type", put(first+16, 3), ErrInvalid},
		{"padding", put(first+20, 1), ErrInvalid},
	}
	for _, tt := range tests {
		if _, err := Parse(tt.edit(encode(t, sample()))); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	full := sample()
	full.Memory, full.RAMBytes = nil, 0
	for i := range uint64(MaxRanges) {
		full.Memory = append(full.Memory, Range{Span{i << 13, 4096}, MemoryRAM})
		full.RAMBytes += 4096
	}
	if b := encode(t, full); len(b) != MaxBytes {
		t.Errorf("%d bytes", len(b))
	} else if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("full map: %v", err)
	}
}

// sysfs makes a directory like SysDir. Linux shows a type that it does not know
// as any other, "0x%x\n", and the data without the node's head.
func sysfs(t *testing.T, nodes map[int][]byte, types map[int]uint32) string {
	t.Helper()
	dir := t.TempDir()
	for i, data := range nodes {
		node := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(node, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"type": fmt.Appendf(nil, "0x%x\n", types[i]), "data": data} {
			if err := os.WriteFile(filepath.Join(node, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	node := encode(t, sample())
	seed := []byte("seed")
	const rngSeed, indirect = 9, 1 << 31
	tests := []struct {
		name  string
		nodes map[int][]byte
		types map[int]uint32
		want  error
	}{
		{"alone", map[int][]byte{0: node}, map[int]uint32{0: SetupDataType}, nil},
		{"behind others", map[int][]byte{0: seed, 1: seed, 2: node}, map[int]uint32{0: rngSeed, 1: indirect, 2: SetupDataType}, nil},
		{"none", nil, nil, ErrNotFound},
		{"only others", map[int][]byte{0: seed}, map[int]uint32{0: rngSeed}, ErrNotFound},
		{"broken", map[int][]byte{0: seed}, map[int]uint32{0: SetupDataType}, ErrTruncated},
		{"huge", map[int][]byte{0: make([]byte, MaxBytes+1)}, map[int]uint32{0: SetupDataType}, ErrInvalid},
	}
	for _, tt := range tests {
		h, err := Read(sysfs(t, tt.nodes, tt.types))
		if !errors.Is(err, tt.want) || err == nil && !reflect.DeepEqual(h, sample()) {
			t.Errorf("%s: %+v, %v", tt.name, h, err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, ErrNotFound) {
		t.Errorf("no directory: %v", err)
	}
}

// Linux acts on the types up to SETUP_ENUM_MAX (asm/setup_data.h, 10 in 7.x) and
// on SETUP_INDIRECT, bit 31; ours must stay clear of both.
func TestSetupDataType(t *testing.T) {
	const enumRoom, indirect = 1 << 16, uint32(1 << 31)
	if SetupDataType < enumRoom || uint32(SetupDataType)&indirect != 0 {
		t.Errorf("type %#x", SetupDataType)
	}
	if n := binary.Size(header{}); n != HeaderBytes {
		t.Errorf("header of %d bytes", n)
	}
	if n := binary.Size(rawRange{}); n != RangeBytes {
		t.Errorf("range of %d bytes", n)
	}
}

// FuzzParse asserts that what is accepted is exactly what encode writes.
func FuzzParse(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add([]byte("KEELHAND"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		if got := encode(t, h); string(got) != string(b) {
			t.Fatalf("%x accepted, written as %x", b, got)
		}
	})
}
