package layout

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"keel/boot/igvm"
	"keel/boot/shim"
	"keel/hcl/abi/x86"
)

// field is a change to a bzImage: v in n bytes at off.
type field struct {
	off, n int
	v      uint64
}

// bzImage returns a kernel of payload bytes, all 0x5a, with the given fields.
func bzImage(payload int, fields ...field) []byte {
	b := make([]byte, 1024, 1024+payload)
	all := append([]field{
		{0x1f1, 1, 1},
		{0x1f4, 4, uint64(payload / 16)},
		{0x201, 1, 0x66},
		{0x202, 4, hdrS},
		{0x206, 2, 0x20f},
		{0x211, 1, 1},
		{0x230, 4, 0x200000},
		{0x234, 1, 1},
		{0x236, 2, 1},
		{0x238, 4, 2047},
		{0x258, 8, 0x1000000},
		{0x260, 4, 0x800000},
	}, fields...)
	for _, f := range all {
		v := binary.LittleEndian.AppendUint64(nil, f.v)
		copy(b[f.off:], v[:f.n])
	}
	return append(b, bytes.Repeat([]byte{0x5a}, payload)...)
}

func TestParseKernel(t *testing.T) {
	elfARM := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 64)...)
	elfARM[18] = 183
	elfX86 := bytes.Clone(elfARM)
	elfX86[18] = 62
	tests := []struct {
		name  string
		image []byte
		want  error
	}{
		{"good", bzImage(0x10000), nil},
		{"four sectors", append(bzImage(0x10000, field{0x1f1, 1, 0}), make([]byte, 3*512)...), nil},
		{"appended data", append(bzImage(0x10000), 1, 2, 3), nil},
		{"empty", nil, ErrKernel},
		{"cut", bzImage(0x10000)[:0x10000], ErrKernel},
		{"old protocol", bzImage(0x10000, field{0x206, 2, 0x20b}), ErrKernel},
		{"zImage", bzImage(0x10000, field{0x211, 1, 0}), ErrKernel},
		{"32 bit", bzImage(0x10000, field{0x236, 2, 0}), ErrArchitecture},
		{"arm64", append(make([]byte, 0x38), "ARM\x64\x00\x00"...), ErrArchitecture},
		{"ELF arm64", elfARM, ErrArchitecture},
		{"ELF", elfX86, ErrKernel},
		{"no payload", bzImage(0x200), ErrKernel},
		{"header too short", bzImage(0x10000, field{0x201, 1, 0x10}), ErrKernel},
		{"header too long", bzImage(0x10000, field{0x201, 1, 0xff}), ErrKernel},
		{"alignment", bzImage(0x10000, field{0x230, 4, 0x300000}), ErrKernel},
		{"alignment small", bzImage(0x10000, field{0x230, 4, 0x1000}), ErrKernel},
		{"alignment huge", bzImage(0x10000, field{0x230, 4, 0x80000000}), ErrKernel},
		{"preferred odd", bzImage(0x10000, field{0x258, 8, 0x1001000}), ErrKernel},
		{"preferred high", bzImage(0x10000, field{0x258, 8, 1 << 32}), ErrKernel},
		{"init size", bzImage(0x10000, field{0x260, 4, 0xffff}), ErrKernel},
		{"payload size wraps", bzImage(0x10000, field{0x1f4, 4, 0xffffffff}), ErrKernel},
	}
	for _, tt := range tests {
		k, err := ParseKernel(tt.image)
		if !errors.Is(err, tt.want) || (err == nil) != (k != nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add(bzImage(0x400))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKernel(b)
		if err == nil && (uint64(len(k.Payload)) > k.InitSize || len(k.SetupHeader) > setupMax) {
			t.Fatalf("%+v", k)
		}
	})
}

// fakeShim stands for a built shim: none of these tests runs it.
var fakeShim = &shim.Binary{Code: bytes.Repeat([]byte{0x90}, 5000), IGVMEntry: shim.Base, PVHEntry: shim.Base + 10}

func compose(tb testing.TB, kernel []byte, initramfs []byte) *Image {
	tb.Helper()
	k, err := ParseKernel(kernel)
	if err != nil {
		tb.Fatal(err)
	}
	img, err := Compose(Input{Shim: fakeShim, Kernel: k, Initramfs: initramfs, Cmdline: "console=ttyS0"})
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

func TestPlacement(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name           string
		kernel         []byte
		initramfs      int
		kernelAt       uint64
		initrdAt       func(img *Image) uint64
		lastByteAtMost uint64
	}{
		{
			"initramfs below the kernel", bzImage(mib), 3 * mib, 16 * mib,
			func(img *Image) uint64 { return img.Info.Control.End() }, 24 * mib,
		},
		{"initramfs too large for the gap", bzImage(mib), 15 * mib, 16 * mib, func(*Image) uint64 { return 24 * mib }, 40 * mib},
		{
			"kernel that prefers a low address", bzImage(mib, field{0x258, 8, 2 * mib}), 3 * mib, 2 * mib,
			func(*Image) uint64 { return 10 * mib }, 14 * mib,
		},
		{
			"kernel that prefers our place", bzImage(mib, field{0x258, 8, 0}), 3 * mib, 2 * mib,
			func(*Image) uint64 { return 10 * mib }, 14 * mib,
		},
		{"no initramfs", bzImage(mib), 0, 16 * mib, func(img *Image) uint64 { return img.Info.Control.End() }, 24 * mib},
	}
	for _, tt := range tests {
		img := compose(t, tt.kernel, bytes.Repeat([]byte{7}, tt.initramfs))
		i := img.Info
		if i.Kernel.Start != tt.kernelAt || i.Kernel.Size != 8*mib || i.Initrd.Start != tt.initrdAt(img) || i.Initrd.Size != uint64(tt.initramfs) {
			t.Errorf("%s: kernel %#x, initrd %#x", tt.name, i.Kernel, i.Initrd)
		}
		if i.Kernel.End() > tt.lastByteAtMost || i.Initrd.End() > tt.lastByteAtMost {
			t.Errorf("%s: not compact", tt.name)
		}
		last := x86.GPA(0)
		for _, p := range img.Pages {
			if p.GPA <= last || p.GPA%x86.PageSize != 0 || p.Data != nil && (len(p.Data) != x86.PageSize || isZero(p.Data)) {
				t.Fatalf("%s: page at %#x", tt.name, p.GPA)
			}
			last = p.GPA
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	good := bzImage(1 << 20)
	tests := []struct {
		name    string
		kernel  []byte
		cmdline string
	}{
		{"long command line", good, strings.Repeat("a", 2048)},
		{"kernel's limit", bzImage(1<<20, field{0x238, 4, 255}), strings.Repeat("a", 256)},
		{"line break", good, "a\nb"},
		{"NUL", good, "a\x00b"},
		{"kernel that cannot move", bzImage(1<<20, field{0x258, 8, 0}, field{0x234, 1, 0}), ""},
		{"no room below 4 GiB", bzImage(1<<20, field{0x258, 8, 0xffe00000}), ""},
	}
	for _, tt := range tests {
		k, err := ParseKernel(tt.kernel)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compose(Input{Shim: fakeShim, Kernel: k, Cmdline: tt.cmdline}); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// translate walks the page tables as the processor would.
func translate(img *Image, va uint64) (uint64, bool) {
	page := map[x86.GPA][]byte{}
	for _, p := range img.Pages {
		page[p.GPA] = p.Data
	}
	table := uint64(img.Info.PageTables)
	for shift := 39; shift >= 21; shift -= 9 {
		e := binary.LittleEndian.Uint64(page[x86.GPA(table)][va>>shift&511*8:])
		if e&3 != 3 {
			return 0, false
		}
		if shift == 21 {
			return e&0xfffffffe00000 | va&0x1fffff, e&0x80 != 0
		}
		table = e & 0xffffffffff000
	}
	return 0, false
}

func TestIdentityMap(t *testing.T) {
	img := compose(t, bzImage(1<<20), nil)
	for _, va := range []uint64{0, 0x100123, 0x3fffffff, 0x40000000, 0x80200000, 0xfee00000, 0xffffffff} {
		if pa, ok := translate(img, va); !ok || pa != va {
			t.Errorf("%#x maps to %#x, %v", va, pa, ok)
		}
	}
}

func TestIGVMRoundTrip(t *testing.T) {
	img := compose(t, bzImage(1<<20), bytes.Repeat([]byte{7}, 100000))
	b, err := igvm.Write(emit(t, img))
	if err != nil {
		t.Fatal(err)
	}
	f, err := igvm.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromIGVM(f)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, img) {
		t.Error("image differs after a round trip")
	}
	if got.Cmdline() != "console=ttyS0" {
		t.Errorf("command line %q", got.Cmdline())
	}
}

func TestFromIGVMRefuses(t *testing.T) {
	tests := []struct {
		name string
		edit func(f *igvm.File)
		want error
	}{
		{"platform", func(f *igvm.File) { f.Headers[0].(*igvm.SupportedPlatform).Platform = igvm.PlatformSEV }, ErrForeign},
		{"page missing", func(f *igvm.File) { drop(f, func(p *igvm.PageData) bool { return p.GPA == shim.Base }) }, ErrDigest},
		{"page added", func(f *igvm.File) {
			f.Headers = append(f.Headers, &igvm.PageData{GPA: 0x1700000, Mask: nativeMask})
		}, ErrDigest},
		{"page outside", func(f *igvm.File) {
			f.Headers = append(f.Headers, &igvm.PageData{GPA: 0x8000000, Mask: nativeMask})
		}, ErrForeign},
		{"parameter area outside", func(f *igvm.File) { edit(f, 120+3, 0) }, ErrForeign},
		{"parameter areas out of order", func(f *igvm.File) { edit(f, 128+1, 0) }, ErrForeign},
		{"page changed", func(f *igvm.File) { pageAt(f, shim.Base).Data = bytes.Repeat([]byte{1}, igvm.PageSize) }, ErrDigest},
		{"page moved", func(f *igvm.File) { pageAt(f, shim.Base).GPA = 0x100800 }, ErrDigest},
		{"page twice", func(f *igvm.File) { pageAt(f, shim.Base).GPA = InfoGPA }, ErrForeign},
		{"page unmeasured", func(f *igvm.File) { pageAt(f, shim.Base).Flags = igvm.PageUnmeasured }, ErrForeign},
		{"info missing", func(f *igvm.File) { drop(f, func(p *igvm.PageData) bool { return p.GPA == InfoGPA }) }, ErrForeign},
		{"info zero", func(f *igvm.File) { pageAt(f, InfoGPA).Data = nil }, ErrForeign},
		{"info of another version", func(f *igvm.File) { edit(f, 8, 2) }, ErrForeign},
		{"info's digest", func(f *igvm.File) { edit(f, digestOffset, 0) }, ErrDigest},
		{"entry changed", func(f *igvm.File) { edit(f, 144, 0) }, ErrDigest},
		{"context changed", func(f *igvm.File) { last[*igvm.VPContext](f).Data[0] ^= 1 }, ErrForeign},
		{"context missing", func(f *igvm.File) { f.Headers = f.Headers[:len(f.Headers)-1] }, ErrForeign},
		{"context of an AP", func(f *igvm.File) { last[*igvm.VPContext](f).VPIndex = 1 }, ErrForeign},
		{"insert moved", func(f *igvm.File) { last[*igvm.ParameterInsert](f).GPA = InfoGPA }, ErrForeign},
	}
	for _, tt := range tests {
		f := emit(t, compose(t, bzImage(1<<20), nil))
		tt.edit(f)
		if _, err := FromIGVM(f); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func emit(tb testing.TB, img *Image) *igvm.File {
	tb.Helper()
	f, err := img.IGVM()
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func last[T igvm.Header](f *igvm.File) T {
	var out T
	for _, h := range f.Headers {
		if v, ok := h.(T); ok {
			out = v
		}
	}
	return out
}

func pageAt(f *igvm.File, g x86.GPA) *igvm.PageData {
	for _, h := range f.Headers {
		if p, ok := h.(*igvm.PageData); ok && p.GPA == g {
			return p
		}
	}
	return nil
}

// edit changes a byte of the info page.
func edit(f *igvm.File, off int, v byte) {
	p := pageAt(f, InfoGPA)
	p.Data = bytes.Clone(p.Data)
	if p.Data[off] == v {
		v++
	}
	p.Data[off] = v
}

func drop(f *igvm.File, match func(*igvm.PageData) bool) {
	var kept []igvm.Header
	for _, h := range f.Headers {
		if p, ok := h.(*igvm.PageData); !ok || !match(p) {
			kept = append(kept, h)
		}
	}
	f.Headers = kept
}

// The ELF must load what the IGVM file loads, and zeros for the host's pages.
func TestPVH(t *testing.T) {
	initramfs := bytes.Repeat([]byte{7}, 400000)
	clear(initramfs[4096*20 : 4096*60]) // a run of zeros worth a segment
	img := compose(t, bzImage(1<<20), initramfs)
	b, err := img.PVH()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	memory := map[x86.GPA][]byte{}
	for _, p := range f.Progs {
		data, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		if p.Type == elf.PT_NOTE {
			want := "\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00\x0a\x10\x10\x00\x00\x00\x00\x00"
			if string(data) != want {
				t.Errorf("note %x", data)
			}
			continue
		}
		data = append(data, make([]byte, p.Memsz-p.Filesz)...)
		for off := 0; off < len(data); off += x86.PageSize {
			memory[x86.GPA(p.Paddr)+x86.GPA(off)] = data[off : off+x86.PageSize]
		}
	}
	for _, p := range img.Pages {
		got := memory[p.GPA]
		if got == nil || p.Data == nil && !isZero(got) || p.Data != nil && !bytes.Equal(got, p.Data) {
			t.Fatalf("page at %#x differs", p.GPA)
		}
		delete(memory, p.GPA)
	}
	for _, g := range img.Info.params() {
		if memory[g] == nil || !isZero(memory[g]) {
			t.Errorf("parameter area at %#x", g)
		}
		delete(memory, g)
	}
	if len(memory) != 0 {
		t.Errorf("%d pages too many", len(memory))
	}
	if f.Entry != uint64(fakeShim.PVHEntry) || len(b) > len(initramfs)+1<<20+64<<10-30*4096 {
		t.Errorf("entry %#x, %d bytes", f.Entry, len(b))
	}
}
