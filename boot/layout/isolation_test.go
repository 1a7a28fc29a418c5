package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// Policies of the test images.
const (
	testSNP = 0x30133
	testTDX = 2
)

func composeIsolated(tb testing.TB, snp, tdx *uint64) *Image {
	tb.Helper()
	k, err := ParseKernel(bzImage(1 << 20))
	if err != nil {
		tb.Fatal(err)
	}
	initramfs := bytes.Repeat([]byte{7}, 100000)
	clear(initramfs[8192:20000])
	img, err := Compose(Input{Shim: fakeShim, Kernel: k, Initramfs: initramfs, Cmdline: "console=ttyS0", SNP: snp, TDX: tdx})
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

func bothPlatforms(tb testing.TB) *Image {
	tb.Helper()
	return composeIsolated(tb, new(uint64(testSNP)), new(uint64(testTDX)))
}

// reread writes a file and reads it again.
func reread(tb testing.TB, f *igvm.File) *igvm.File {
	tb.Helper()
	b, err := igvm.Write(f)
	if err != nil {
		tb.Fatal(err)
	}
	f, err = igvm.Read(b)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestIsolatedRoundTrip(t *testing.T) {
	snp, tdx := new(uint64(testSNP)), new(uint64(testTDX))
	for name, img := range map[string]*Image{
		"both": composeIsolated(t, snp, tdx), "SNP": composeIsolated(t, snp, nil), "TDX": composeIsolated(t, nil, tdx), "neither": composeIsolated(t, nil, nil),
	} {
		got, err := FromIGVM(reread(t, emit(t, img)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, img) {
			t.Errorf("%s: image differs after a round trip", name)
		}
	}
}

// loaded returns the pages that a platform loads, and the order of directives.
func loaded(f *igvm.File, mask uint32) (pages map[x86.GPA]*igvm.PageData, order []igvm.Type) {
	pages = map[x86.GPA]*igvm.PageData{}
	for _, h := range f.Headers {
		if maskOf(h)&mask == 0 {
			continue
		}
		if p, ok := h.(*igvm.PageData); ok {
			pages[p.GPA] = p
		}
		if n := len(order); n == 0 || order[n-1] != h.Type() {
			order = append(order, h.Type())
		}
	}
	return pages, order
}

// TestPlatformsShareThePages goes through what each platform loads: the native
// pages, of which the first names the platform, and what is its own.
func TestPlatformsShareThePages(t *testing.T) {
	img := bothPlatforms(t)
	f := reread(t, emit(t, img))
	native, _ := loaded(f, nativeMask)
	iso := &img.Isolation
	for _, tt := range []struct {
		mask     uint32
		platform handoff.Platform
		own      map[x86.GPA]igvm.PageDataType
		order    string
	}{
		{
			snpMask, handoff.PlatformSNP,
			map[x86.GPA]igvm.PageDataType{iso.SNPEntry: igvm.PageNormal, iso.CPUID: igvm.PageCPUID, iso.Secrets: igvm.PageSecrets},
			"[SUPPORTED_PLATFORM GUEST_POLICY REQUIRED_MEMORY PARAMETER_AREA MEMORY_MAP VP_COUNT PARAMETER_INSERT PAGE_DATA VP_CONTEXT]",
		},
		{
			tdxMask, handoff.PlatformTDX,
			map[x86.GPA]igvm.PageDataType{tdxReset: igvm.PageNormal},
			"[SUPPORTED_PLATFORM GUEST_POLICY REQUIRED_MEMORY PARAMETER_AREA MEMORY_MAP VP_COUNT PARAMETER_INSERT PAGE_DATA]",
		},
	} {
		pages, order := loaded(f, tt.mask)
		if fmt.Sprint(order) != tt.order {
			t.Errorf("%#x: order %v", tt.mask, order)
		}
		for g, p := range pages {
			if p.Flags != 0 || p.Data == nil && p.Kind == igvm.PageNormal {
				t.Errorf("%#x: page at %#x: flags %#x, %d bytes", tt.mask, g, p.Flags, len(p.Data))
			}
			if kind, ok := tt.own[g]; ok {
				if p.Kind != kind || native[g] != nil || p.Mask != tt.mask {
					t.Errorf("%#x: page at %#x of type %d", tt.mask, g, p.Kind)
				}
				continue
			}
			want := native[g].Data
			if g == InfoGPA {
				want = bytes.Clone(want)
				binary.LittleEndian.PutUint32(want[platformOffset:], uint32(tt.platform))
			}
			if p.Kind != igvm.PageNormal || !bytes.Equal(p.Data, want) {
				t.Errorf("%#x: page at %#x differs from the native one", tt.mask, g)
			}
		}
		if len(pages) != len(native)+len(tt.own) {
			t.Errorf("%#x: %d pages, natively %d", tt.mask, len(pages), len(native))
		}
	}
	// Natively, other platforms cost three pages and the table in the first.
	alone := composeIsolated(t, nil, nil)
	if img.Info.Control.Size != alone.Info.Control.Size+3*x86.PageSize || len(img.Pages) != len(alone.Pages) {
		t.Errorf("control %#x, alone %#x; %d pages, alone %d", img.Info.Control, alone.Info.Control, len(img.Pages), len(alone.Pages))
	}
	for i, p := range img.Pages[1:] {
		if !bytes.Equal(p.Data, alone.Pages[i+1].Data) {
			t.Errorf("native page at %#x differs", p.GPA)
		}
	}
}

func TestFromIGVMRefusesIsolated(t *testing.T) {
	ofMask := func(f *igvm.File, mask uint32, kind igvm.PageDataType) *igvm.PageData {
		for _, h := range f.Headers {
			if p, ok := h.(*igvm.PageData); ok && p.Mask == mask && p.Kind == kind && p.GPA != InfoGPA {
				return p
			}
		}
		return nil
	}
	dropAt := func(f *igvm.File, match func(igvm.Header) bool) { f.Headers = slices.DeleteFunc(f.Headers, match) }
	for name, tt := range map[string]struct {
		edit func(f *igvm.File)
		want error
	}{
		"policy of SNP": {func(f *igvm.File) { f.Headers[3].(*igvm.GuestPolicy).Policy |= 1 << 19 }, ErrForeign},
		"policy of TDX": {func(f *igvm.File) { f.Headers[4].(*igvm.GuestPolicy).Policy |= 1 }, ErrForeign},
		"no policy":     {func(f *igvm.File) { dropAt(f, func(h igvm.Header) bool { return h.Type() == igvm.TypeGuestPolicy }) }, ErrForeign},
		"entry of SNP": {func(f *igvm.File) {
			p := ofMask(f, snpMask, igvm.PageNormal)
			p.Data = bytes.Clone(p.Data)
			p.Data[5] ^= 1
		}, ErrForeign},
		"entry of TDX": {func(f *igvm.File) {
			p := ofMask(f, tdxMask, igvm.PageNormal)
			p.Data = bytes.Clone(p.Data)
			p.Data[tdxVector] ^= 1
		}, ErrForeign},
		"no CPUID page": {func(f *igvm.File) {
			dropAt(f, func(h igvm.Header) bool { p, ok := h.(*igvm.PageData); return ok && p.Kind == igvm.PageCPUID })
		}, ErrForeign},
		"page for SNP alone": {func(f *igvm.File) {
			f.Headers = slices.Insert(f.Headers, len(f.Headers)-2, igvm.Header(&igvm.PageData{GPA: 0x8000000, Mask: snpMask}))
		}, ErrForeign},
		"VMSA":    {func(f *igvm.File) { f.Headers[len(f.Headers)-2].(*igvm.VPContext).Data[0x178] ^= 1 }, ErrForeign},
		"no VMSA": {func(f *igvm.File) { f.Headers = slices.Delete(f.Headers, len(f.Headers)-2, len(f.Headers)-1) }, ErrForeign},
		"platform missing": {func(f *igvm.File) {
			dropAt(f, func(h igvm.Header) bool { return maskOf(h) == tdxMask })
		}, ErrForeign},
		"table":                    {func(f *igvm.File) { edit(f, isolationOffset+24, 0x34) }, ErrDigest},
		"table of another version": {func(f *igvm.File) { edit(f, isolationOffset+8, 2) }, ErrForeign},
		"table erased":             {func(f *igvm.File) { clear(pageAt(f, InfoGPA).Data[isolationOffset:]) }, ErrDigest},
		"pages of SNP outside":     {func(f *igvm.File) { edit(f, isolationOffset+42, 0x80) }, ErrForeign},
		"reset vector elsewhere":   {func(f *igvm.File) { edit(f, isolationOffset+66, 0) }, ErrForeign},
	} {
		f := emit(t, bothPlatforms(t))
		tt.edit(f)
		if _, err := FromIGVM(f); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// listing disassembles n instructions from off on, in 32-bit mode up to a far jump.
func listing(t *testing.T, page []byte, base x86.GPA, off, n int) string {
	t.Helper()
	var out []string
	mode := 32
	for range n {
		// The disassembler does not know it (APM vol. 3, VMGEXIT).
		if bytes.HasPrefix(page[off:], []byte{0xf3, 0x0f, 0x01, 0xd9}) {
			out = append(out, fmt.Sprintf("%03x vmgexit", off))
			off += 4
			continue
		}
		inst, err := x86asm.Decode(page[off:], mode)
		if err != nil {
			t.Fatalf("at %#x: %v", off, err)
		}
		out = append(out, fmt.Sprintf("%03x %s", off, x86asm.GNUSyntax(inst, uint64(base)+uint64(off), nil)))
		if inst.Op == x86asm.LJMP {
			mode = 64
		}
		off += inst.Len
	}
	return strings.Join(out, "\n") + "\n"
}

// TestEntryCode reads the machine code back with a disassembler: testdata/entry.txt is
// what was meant.
func TestEntryCode(t *testing.T) {
	img := bothPlatforms(t)
	snp, err := img.snpEntry()
	if err != nil {
		t.Fatal(err)
	}
	tdx, err := img.tdxEntry()
	if err != nil {
		t.Fatal(err)
	}
	got := "SNP\n" + listing(t, snp, img.Isolation.SNPEntry, 0, 64) +
		"TDX\n" + listing(t, tdx, tdxReset, 0, 36) + listing(t, tdx, tdxReset, tdxVector, 1)
	want, err := os.ReadFile("testdata/entry.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("entry code:\n%s", got)
	}
	for _, page := range [][]byte{snp, tdx} {
		if le := binary.LittleEndian; le.Uint16(page[codeGDTR:]) != 31 || le.Uint32(page[codeGDTR+2:]) != uint32(InfoGPA)+0xa0 ||
			le.Uint64(page[codeTarget:]) != uint64(fakeShim.IGVMEntry) {
			t.Errorf("data %x", page[codeGDTR:codeTarget+8])
		}
	}
}
