package igvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
)

func filled(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }

// sample returns a file with every header of the format.
func sample() *File {
	const native, vsm, snp, sev = 1, 2, 4, 8
	vsmRegs := append([]byte{2, 0, 0, 0}, filled(2*vsmRegisterBytes, 7)...)
	ctx := &NativeContext{RIP: 0x100000, CR0: 0x80000031, CR3: 0x2000, GDTRLimit: 31}
	f := &File{Version: 2, Arch: ArchX64, PageSize: PageSize, Headers: []Header{
		&SupportedPlatform{Mask: native, Platform: PlatformNative, Version: 1},
		&SupportedPlatform{Mask: vsm, Platform: PlatformVSM, Version: 1, HighestVTL: 2},
		&SupportedPlatform{Mask: snp, Platform: PlatformSNP, Version: 1, HighestVTL: 2, SharedGPABoundary: 1 << 46},
		&SupportedPlatform{Mask: sev, Platform: PlatformSEV, Version: 1},
		&Raw{ID: 0x80000055, Data: []byte("abc")},
		&GuestPolicy{Policy: 0x30000, Mask: snp},
		&RelocatableRegion{Mask: vsm, Flags: 1, Alignment: 0x200000, Base: 0x400000, Size: 0x1000, Min: 0, Max: 0x40000000},
		&PageTableRelocation{Mask: vsm, GPA: 0x5000, Size: 0x4000, Used: 0x1000},
		&CCAPolicy{Mask: native, RequiredZeros: 1, HashAlgorithm: 1},
		&Corim{Kind: TypeCorimDocument, Mask: snp, Data: []byte("document")},
		&Corim{Kind: TypeCorimSignature, Mask: snp, Data: []byte("signature")},
		&ParameterArea{Size: 2 * PageSize, Index: 3, Data: filled(2*PageSize, 9)},
		&ParameterArea{Size: PageSize, Index: 7},
		&PageData{GPA: 0x1000, Mask: native | vsm, Data: filled(PageSize, 1)},
		&PageData{GPA: 0x2000, Mask: native, Data: filled(PageSize, 1)},
		&PageData{GPA: 0x3000, Mask: native | snp, Flags: PageUnmeasured},
		&PageData{GPA: 0x4000, Mask: snp, Kind: PageCPUID, Data: filled(PageSize, 2)},
		&PageData{GPA: 0x200000, Mask: native, Flags: PageLarge, Data: filled(LargePageSize, 3)},
		&RequiredMemory{GPA: 0x100000, Mask: native, Bytes: 0x10000, Flags: 1},
		&SNPIDBlock{Mask: snp, AuthorKeyEnabled: 1, Version: 1, LaunchDigest: [48]byte{1, 2}, AuthorPublicKey: SNPPublicKey{Curve: 2, QY: [72]byte{71: 9}}},
		&ErrorRange{GPA: 0x8000, Mask: snp, Bytes: PageSize},
		&VBSMeasurement{Mask: vsm, Version: 1, PublicKey: [512]byte{511: 3}},
		&VPContext{Mask: native, Data: ctx.Bytes()},
		&VPContext{Mask: sev, VPIndex: 1, Data: ctx.Bytes()},
		&VPContext{Mask: vsm, Data: vsmRegs},
		&VPContext{Mask: snp, GPA: 0xfffffffff000, Data: filled(PageSize, 4)},
		&Raw{ID: 0x800003ff},
	}}
	for i, k := range []Type{
		TypeVPCount, TypeSRAT, TypeMADT, TypeMMIORanges, TypeMemoryMap, TypeCommandLine,
		TypeSLIT, TypePPTT, TypeDeviceTree, TypeEnvironmentInfo,
	} {
		f.Headers = append(f.Headers, &Parameter{Kind: k, Index: 3, Offset: uint32(64 * i)})
	}
	f.Headers = append(f.Headers, &ParameterInsert{GPA: 0x9000, Mask: native, Index: 3}, &ParameterInsert{GPA: 0xb000, Mask: snp, Index: 7})
	return f
}

func mustWrite(tb testing.TB, f *File) []byte {
	tb.Helper()
	b, err := Write(f)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	f := sample()
	b := mustWrite(t, f)
	got, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range f.Headers {
		if !reflect.DeepEqual(got.Headers[i], h) {
			t.Errorf("header %d: %+v, want %+v", i, got.Headers[i], h)
		}
	}
	if !reflect.DeepEqual(got, f) {
		t.Error("files differ")
	}
	if !bytes.Equal(mustWrite(t, got), b) {
		t.Error("written again, the bytes differ")
	}
}

// The sizes are those of IGVM's structs; a field too many would show here.
func TestWireSizes(t *testing.T) {
	want := map[Type]int{
		TypeSupportedPlatform: 16, TypeGuestPolicy: 16, TypeRelocatableRegion: 48, TypePageTableRelocation: 32,
		TypeCorimDocument: 16, TypeCorimSignature: 16, TypeCCAPolicy: 32, TypeParameterArea: 16, TypePageData: 24,
		TypeParameterInsert: 16, TypeVPContext: 20, TypeRequiredMemory: 24, TypeSNPIDBlock: 696, TypeErrorRange: 16,
		TypeVBSMeasurement: 864,
	}
	for k := range parameterSize {
		want[k] = 8
	}
	for _, h := range sample().Headers {
		if n, ok := want[h.Type()]; ok && wireSize(h) != n {
			t.Errorf("%v: %d bytes, want %d", h.Type(), wireSize(h), n)
		}
		delete(want, h.Type())
	}
	if len(want) != 0 {
		t.Errorf("not in the sample: %v", want)
	}
	if n := binary.Size(NativeContext{}); n != NativeContextBytes {
		t.Errorf("native context has %d bytes", n)
	}
}

func TestDataSharing(t *testing.T) {
	f := &File{Version: 1, PageSize: PageSize, Headers: []Header{&SupportedPlatform{Mask: 1, Version: 1}}}
	for i := range 8 {
		p := &PageData{GPA: 0x1000, Mask: 1}
		if i%2 == 0 {
			p.Data = filled(PageSize, 5)
		}
		f.Headers = append(f.Headers, p)
	}
	b := mustWrite(t, f)
	headers := fixedHeaderV1 + 24 + 8*32
	if len(b) != headers+PageSize {
		t.Fatalf("%d bytes: equal pages not shared", len(b))
	}
	for i := range 8 {
		off := binary.LittleEndian.Uint32(b[fixedHeaderV1+24+i*32+8+12:])
		if want := uint32(headers * (1 - i%2)); off != want {
			t.Errorf("page %d at offset %#x, want %#x", i, off, want)
		}
	}
	got, err := Read(b)
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("version 1 round trip: %v", err)
	}
}

func TestNativeContext(t *testing.T) {
	c := &NativeContext{RSI: 7, RIP: 8, CS: Segment{Selector: 0x10, Attributes: 0xa09b, Limit: 0xffffffff}, GSBase: 1, EFER: 0x500}
	got, err := ParseNativeContext(c.Bytes())
	if err != nil || *got != *c {
		t.Errorf("%+v, %v", got, err)
	}
	// Offsets of igvm_defs' struct.
	b := c.Bytes()
	for off, want := range map[int]uint64{48: 7, 128: 8, 192: 1, 224: 0x500} {
		if v := binary.LittleEndian.Uint64(b[off:]); v != want {
			t.Errorf("offset %d: %#x, want %#x", off, v, want)
		}
	}
	if _, err := ParseNativeContext(b[1:]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short context: %v", err)
	}
}

// reseal makes the checksum right again after a change to the headers.
func reseal(b []byte) []byte {
	end := binary.LittleEndian.Uint32(b[8:]) + binary.LittleEndian.Uint32(b[12:])
	clear(b[checksumOffset : checksumOffset+4])
	binary.LittleEndian.PutUint32(b[checksumOffset:], crc32.ChecksumIEEE(b[:end]))
	return b
}

func TestReadRefuses(t *testing.T) {
	put := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return reseal(b) }
	}
	tests := []struct {
		name string
		edit func([]byte) []byte
		want error
		text string
	}{
		{"empty", func([]byte) []byte { return nil }, ErrNotIGVM, ""},
		{"magic", put(0, 0x464c457f), ErrNotIGVM, ""},
		{"only magic", func(b []byte) []byte { return b[:4] }, ErrTruncated, ""},
		{"v1 header only", func(b []byte) []byte { return b[:fixedHeaderV1] }, ErrTruncated, ""},
		{"data cut", func(b []byte) []byte { return b[:len(b)-1] }, ErrTruncated, ""},
		{"trailing byte", func(b []byte) []byte { return append(b, 0) }, ErrCorrupt, "behind the end"},
		{"version", put(4, 3), ErrVersion, "3"},
		{"aarch64", put(24, 1), ErrArchitecture, "aarch64"},
		{"page size", put(28, 16384), ErrArchitecture, "16384"},
		{"headers offset", put(8, 28), ErrCorrupt, "variable headers"},
		{"headers size", put(12, 0xfffffff8), ErrCorrupt, ""},
		{"checksum", func(b []byte) []byte { b[40]++; return b }, ErrChecksum, ""},
		{"unknown", put(32, 0x77), ErrUnknownHeader, "0x77"},
		{"no section", put(32, 0x250), ErrCorrupt, "ranges"},
		{"known but ignorable", put(32, 0x80000001), ErrCorrupt, "SUPPORTED_PLATFORM marked"},
		{"length", put(36, 8), ErrCorrupt, "8 bytes instead of 16"},
		{"length wraps", put(36, 0xffffffff), ErrCorrupt, "longer"},
		{"two mask bits", put(40, 3), ErrCorrupt, "mask"},
	}
	for _, tt := range tests {
		b := tt.edit(mustWrite(t, sample()))
		if _, err := Read(b); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, tt.want, tt.text)
		}
	}
}

// Each case is refused by Write and, were it in a file, by Read.
func TestHeadersRefused(t *testing.T) {
	area := &ParameterArea{Size: PageSize, Index: 1}
	insert := &ParameterInsert{GPA: 0x1000, Mask: 1, Index: 1}
	tests := map[string][]Header{
		"section order":     {&GuestPolicy{Mask: 1}, &SupportedPlatform{Mask: 2, Version: 1}},
		"init behind data":  {area, &GuestPolicy{Mask: 1}},
		"mask twice":        {&SupportedPlatform{Mask: 1, Version: 1}},
		"platform version":  {&SupportedPlatform{Mask: 2, Version: 2}},
		"platform unknown":  {&SupportedPlatform{Mask: 2, Version: 1, Platform: 7}},
		"vtl":               {&SupportedPlatform{Mask: 2, Version: 1, HighestVTL: 1}},
		"boundary":          {&SupportedPlatform{Mask: 2, Version: 1, SharedGPABoundary: 1}},
		"undeclared mask":   {&PageData{Mask: 2}},
		"no mask":           {&PageData{}},
		"policy reserved":   {&GuestPolicy{Mask: 1, Reserved: 1}},
		"relocation":        {&RelocatableRegion{Mask: 1}},
		"table relocation":  {&PageTableRelocation{Mask: 1, Size: 0x1000, Used: 0x2000}},
		"cca reserved":      {&CCAPolicy{Mask: 1, Reserved2: [6]byte{1}}},
		"page align":        {&PageData{GPA: 0x800, Mask: 1}},
		"page size":         {&PageData{Mask: 1, Data: make([]byte, 5)}},
		"large page align":  {&PageData{GPA: 0x1000, Mask: 1, Flags: PageLarge}},
		"page flags":        {&PageData{Mask: 1, Flags: 8}},
		"page type":         {&PageData{Mask: 1, Kind: 4}},
		"area twice":        {area, area},
		"area empty":        {&ParameterArea{Index: 1}},
		"area data":         {&ParameterArea{Size: PageSize, Data: []byte{1}}},
		"insert undeclared": {insert},
		"insert twice":      {area, insert, insert},
		"insert align":      {area, &ParameterInsert{GPA: 1, Mask: 1, Index: 1}},
		"parameter late":    {area, insert, &Parameter{Kind: TypeVPCount, Index: 1}},
		"parameter bounds":  {area, &Parameter{Kind: TypeVPCount, Index: 1, Offset: PageSize - 3}},
		"parameter wraps":   {area, &Parameter{Kind: TypeMMIORanges, Index: 1, Offset: 0xfffffff0}},
		"context size":      {&VPContext{Mask: 1, Data: make([]byte, 8)}},
		"context mask":      {&SupportedPlatform{Mask: 2, Version: 1}, &VPContext{Mask: 3, Data: make([]byte, NativeContextBytes)}},
		"context gpa":       {&VPContext{Mask: 1, GPA: 0x1000, Data: make([]byte, NativeContextBytes)}},
		"required memory":   {&RequiredMemory{Mask: 1, Bytes: 1}},
		"error range":       {&ErrorRange{Mask: 1, GPA: 1}},
		"id block":          {&SNPIDBlock{Mask: 1, AuthorKeyEnabled: 2}},
	}
	for name, headers := range tests {
		all := append([]Header{&SupportedPlatform{Mask: 1, Version: 1}}, headers...)
		if _, err := Write(&File{Version: 2, PageSize: PageSize, Headers: all}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v1 := &File{Version: 1, PageSize: PageSize, Headers: []Header{
		&SupportedPlatform{Mask: 1, Version: 1}, &VPContext{Mask: 1, Data: make([]byte, NativeContextBytes)},
	}}
	if _, err := Write(v1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("native context in version 1: %v", err)
	}
	if _, err := Write(&File{Version: 2, PageSize: PageSize, Arch: ArchAArch64}); !errors.Is(err, ErrArchitecture) {
		t.Errorf("aarch64: %v", err)
	}
}

// A page whose data lies in the headers, or behind the file, must not load.
func TestDataOutsideFile(t *testing.T) {
	f := &File{Version: 2, PageSize: PageSize, Headers: []Header{
		&SupportedPlatform{Mask: 1, Version: 1}, &PageData{Mask: 1, Data: filled(PageSize, 6)},
	}}
	const offsetField = fixedHeaderV2 + 24 + 8 + 12
	b := mustWrite(t, f)
	for _, off := range []uint32{8, uint32(len(b)), uint32(len(b)) - PageSize + 1, 0xffffffff} {
		binary.LittleEndian.PutUint32(b[offsetField:], off)
		if _, err := Read(reseal(b)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("offset %#x: %v", off, err)
		}
	}
}

// FuzzRead asserts that what Read accepts survives a round trip, and that
// nothing panics. The checksum is repaired, or no mutation would get far.
func FuzzRead(f *testing.F) {
	s := sample()
	f.Add(mustWrite(f, &File{Version: 1, PageSize: PageSize, Headers: s.Headers[:5]}))
	small := s.Headers[:0:0]
	for _, h := range s.Headers {
		if p, ok := h.(*PageData); !ok || p.Flags&PageLarge == 0 {
			small = append(small, h)
		}
	}
	f.Add(mustWrite(f, &File{Version: 2, PageSize: PageSize, Headers: small}))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := bytes.Clone(in) // the fuzzer's bytes are not ours to change
		if len(b) >= fixedHeaderV2 {
			end := uint64(binary.LittleEndian.Uint32(b[8:])) + uint64(binary.LittleEndian.Uint32(b[12:]))
			if end <= uint64(len(b)) && end >= fixedHeaderV2 {
				reseal(b)
			}
		}
		x, err := Read(b)
		if err != nil {
			return
		}
		out, err := Write(x)
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		y, err := Read(out)
		if err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("round trip: %v", err)
		}
	})
}
