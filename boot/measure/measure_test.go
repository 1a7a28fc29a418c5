package measure

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/hcl/abi/x86"

	"keel/hcl/abi/snp"
)

func page(gpa x86.GPA, fill int) *igvm.PageData {
	return &igvm.PageData{GPA: gpa, Mask: ours, Data: pattern(fill, igvm.PageSize)}
}

// vmsa returns a VP context that KVM takes.
func vmsa(gpa x86.GPA) *igvm.VPContext {
	data := make([]byte, igvm.PageSize)
	binary.LittleEndian.PutUint64(data[snp.VMSA_CR0:], cr0Protected)
	return &igvm.VPContext{GPA: gpa, Mask: ours, Data: data}
}

func area(index uint32, size uint64) *igvm.ParameterArea {
	return &igvm.ParameterArea{Size: size, Index: index}
}

func insert(index uint32, gpa x86.GPA) *igvm.ParameterInsert {
	return &igvm.ParameterInsert{GPA: gpa, Mask: ours, Index: index}
}

func mustMeasure(t *testing.T, f *igvm.File, p igvm.PlatformType, o Options) *Result {
	t.Helper()
	r, err := Measure(f, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What loaders would treat differently, or not load at all, is refused, each
// with what is wrong.
func TestRefusals(t *testing.T) {
	qemu := Options{QEMU: true}
	flagged := func(gpa x86.GPA, f igvm.PageFlags) *igvm.PageData {
		return &igvm.PageData{GPA: gpa, Mask: ours, Flags: f}
	}
	realMode := vmsa(kvmVMSA)
	realMode.Data[snp.VMSA_CR0] = 0x10
	for _, tt := range []struct {
		name     string
		file     *igvm.File
		platform igvm.PlatformType
		options  Options
		want     error
		text     string
	}{
		{"no SNP", fileOf(igvm.PlatformTDX, page(0, 1)), igvm.PlatformSNP, Options{}, ErrPlatform, "snp"},
		{"no TDX", fileOf(igvm.PlatformSNP, page(0, 1)), igvm.PlatformTDX, Options{}, ErrPlatform, "tdx"},
		{"native", fileOf(igvm.PlatformSNP), igvm.PlatformNative, Options{}, ErrPlatform, "native"},
		{"two SNP", fileOf(igvm.PlatformSNP, &igvm.SupportedPlatform{Mask: 4, Platform: igvm.PlatformSNP}), igvm.PlatformSNP, Options{}, ErrAmbiguous, "two"},
		{"two policies", fileOf(igvm.PlatformSNP, &igvm.GuestPolicy{Policy: 1, Mask: ours}, &igvm.GuestPolicy{Policy: 2, Mask: ours}), igvm.PlatformSNP, Options{}, ErrAmbiguous, "policies"},
		{"relocatable", fileOf(igvm.PlatformSNP, &igvm.RelocatableRegion{Mask: ours, Base: 0x5000}), igvm.PlatformSNP, Options{}, ErrAmbiguous, "0x5000"},
		{"area of two pages", fileOf(igvm.PlatformSNP, area(3, 0x2000), insert(3, 0x1000)), igvm.PlatformSNP, Options{}, ErrAmbiguous, "area 3 at 0x1000 has 8192 bytes"},
		{"area of two pages on TDX", fileOf(igvm.PlatformTDX, area(3, 0x2000), insert(3, 0x1000)), igvm.PlatformTDX, Options{}, ErrAmbiguous, "one page"},
		{"large page", fileOf(igvm.PlatformSNP, flagged(0x200000, igvm.PageLarge)), igvm.PlatformSNP, Options{}, ErrAmbiguous, "2 MiB at 0x200000"},
		{"page twice", fileOf(igvm.PlatformTDX, page(0x1000, 1), page(0x2000, 1), page(0x1000, 2)), igvm.PlatformTDX, Options{}, ErrUnloadable, "two pages at 0x1000"},
		{"area over a page", fileOf(igvm.PlatformSNP, area(0, 0x1000), page(0x1000, 1), insert(0, 0x1000)), igvm.PlatformSNP, Options{}, ErrUnloadable, "0x1000"},
		{"VMSA over a page", fileOf(igvm.PlatformSNP, page(0x1000, 1), vmsa(0x1000)), igvm.PlatformSNP, Options{}, ErrUnloadable, "0x1000"},
		{"page beyond all", fileOf(igvm.PlatformSNP, page(1<<52, 1)), igvm.PlatformSNP, Options{}, ErrUnloadable, "0x10000000000000"},
		{"secrets on TDX", fileOf(igvm.PlatformTDX, &igvm.PageData{Mask: ours, Kind: igvm.PageSecrets}), igvm.PlatformTDX, Options{}, ErrUnloadable, "secrets"},
		{"CPUID on TDX", fileOf(igvm.PlatformTDX, &igvm.PageData{Mask: ours, Kind: igvm.PageCPUID}), igvm.PlatformTDX, Options{}, ErrUnloadable, "cpuid"},
		{"VP context on TDX", fileOf(igvm.PlatformTDX, vmsa(0)), igvm.PlatformTDX, Options{}, ErrUnloadable, "VP_CONTEXT"},
		{"ID block on TDX", fileOf(igvm.PlatformTDX, &igvm.SNPIDBlock{Mask: ours}), igvm.PlatformTDX, Options{}, ErrUnloadable, "ID_BLOCK"},
		{"two ID blocks", fileOf(igvm.PlatformSNP, &igvm.SNPIDBlock{Mask: ours}, &igvm.SNPIDBlock{Mask: ours}), igvm.PlatformSNP, Options{}, ErrAmbiguous, "two SNP_ID_BLOCK"},
		{"QEMU: no VMSA", fileOf(igvm.PlatformSNP, page(0, 1)), igvm.PlatformSNP, qemu, ErrUnloadable, "VP_CONTEXT"},
		{"QEMU: two VMSAs", fileOf(igvm.PlatformSNP, vmsa(kvmVMSA), vmsa(kvmVMSA)), igvm.PlatformSNP, qemu, ErrUnloadable, "second"},
		{"QEMU: VMSA elsewhere", fileOf(igvm.PlatformSNP, vmsa(0x1000)), igvm.PlatformSNP, qemu, ErrUnloadable, "0xfffffffff000"},
		{"QEMU: other CR0", fileOf(igvm.PlatformSNP, realMode), igvm.PlatformSNP, qemu, ErrUnloadable, "CR0 0x10"},
		{"QEMU: page behind the VMSA", fileOf(igvm.PlatformSNP, vmsa(kvmVMSA), page(0, 1)), igvm.PlatformSNP, qemu, ErrUnloadable, "behind VP_CONTEXT"},
		{"QEMU: area behind pages", fileOf(igvm.PlatformSNP, area(0, 0x1000), page(0, 1), insert(0, 0x1000), vmsa(kvmVMSA)), igvm.PlatformSNP, qemu, ErrAmbiguous, "insert areas first"},
		{"QEMU: shared page", fileOf(igvm.PlatformSNP, flagged(0, igvm.PageShared), vmsa(kvmVMSA)), igvm.PlatformSNP, qemu, ErrAmbiguous, "shared page"},
	} {
		r, err := Measure(tt.file, tt.platform, tt.options)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, tt.want, tt.text)
		}
		if r != nil {
			t.Errorf("%s: a result all the same", tt.name)
		}
	}
}

// Only directives of the platform count, and of them only those that load
// private pages.
func TestWhatCounts(t *testing.T) {
	want := mustMeasure(t, fileOf(igvm.PlatformSNP, page(0x1000, 1)), igvm.PlatformSNP, Options{})
	f := fileOf(igvm.PlatformSNP,
		&igvm.GuestPolicy{Policy: 7, Mask: foreign}, &igvm.GuestPolicy{Policy: 0x30000, Mask: ours},
		&igvm.RequiredMemory{GPA: 0x1000, Mask: ours, Bytes: 0x4000},
		area(0, 0x4000), area(1, 0x1000), &igvm.Parameter{Kind: igvm.TypeVPCount, Index: 0},
		&igvm.ParameterInsert{GPA: 0x9000, Mask: foreign, Index: 0},
		&igvm.PageData{GPA: 0x1000, Mask: foreign, Data: pattern(9, igvm.PageSize)},
		&igvm.PageData{GPA: 0x1000, Mask: ours | foreign, Data: pattern(1, igvm.PageSize)},
		&igvm.PageData{GPA: 0x2000, Mask: ours, Flags: igvm.PageShared},
		&igvm.ErrorRange{GPA: 0x3000, Mask: ours, Bytes: 0x1000},
		&igvm.Raw{ID: 0x800003ff},
	)
	got := mustMeasure(t, f, igvm.PlatformSNP, Options{})
	if got.Digest != want.Digest {
		t.Errorf("digest %v, want %v", got.Digest, want.Digest)
	}
	if got.Policy != 0x30000 || !got.HasPolicy || got.SharedPages != 1 || got.DatalessPages != 0 || got.Mask != ours {
		t.Errorf("result %+v", got)
	}
	if want.HasPolicy {
		t.Error("a policy out of nothing")
	}
}

// Every byte of a measured page counts, its address, its kind and the order;
// none of a page whose contents do not.
func TestSensitivity(t *testing.T) {
	for _, platform := range []igvm.PlatformType{igvm.PlatformSNP, igvm.PlatformTDX} {
		sum := func(h ...igvm.Header) Digest {
			return mustMeasure(t, fileOf(platform, h...), platform, Options{}).Digest
		}
		base := sum(page(0x1000, 1), page(0x2000, 2))
		seen := map[Digest]int{base: -1}
		for _, at := range []int{0, 255, 256, 4095} {
			p := page(0x2000, 2)
			p.Data[at] ^= 1
			d := sum(page(0x1000, 1), p)
			if other, ok := seen[d]; ok {
				t.Errorf("%v: bytes %d and %d give one digest", platform, at, other)
			}
			seen[d] = at
		}
		unmeasured := func(fill int) Digest {
			p := page(0x2000, fill)
			p.Flags = igvm.PageUnmeasured
			return sum(page(0x1000, 1), p)
		}
		for name, d := range map[string]Digest{
			"another order": sum(page(0x2000, 2), page(0x1000, 1)), "another address": sum(page(0x1000, 1), page(0x3000, 2)),
			"another kind": unmeasured(2), "a page more": sum(page(0x1000, 1), page(0x2000, 2), page(0x3000, 3)),
		} {
			if _, ok := seen[d]; ok {
				t.Errorf("%v: %s does not count", platform, name)
			}
		}
		if unmeasured(2) != unmeasured(3) {
			t.Errorf("%v: contents of an unmeasured page count", platform)
		}
	}
}

func TestParts(t *testing.T) {
	region := func(name string, start, size uint64) layout.Region {
		return layout.Region{Name: name, Span: handoff.Span{Start: start, Size: size}}
	}
	// Not in ascending order, and a size that is no whole page.
	regions := []layout.Region{region("kernel", 0x3000, 0x2000), region("shim", 0x1000, 0x2000), region("initramfs", 0x5000, 0x1001)}
	build := func(change func(f *igvm.File)) *Result {
		f := fileOf(igvm.PlatformSNP, area(0, 0x1000),
			page(0x1000, 1), page(0x2000, 2), page(0x3000, 3), page(0x4000, 4), page(0x5000, 5), page(0x6000, 6),
			page(0x7000, 7), insert(0, 0x8000), &igvm.PageData{GPA: 0x9000, Mask: ours, Kind: igvm.PageSecrets}, vmsa(kvmVMSA), vmsa(kvmVMSA))
		if change != nil {
			change(f)
		}
		return mustMeasure(t, f, igvm.PlatformSNP, Options{Regions: regions})
	}
	r := build(nil)
	type place struct {
		name  string
		kind  Kind
		gpa   x86.GPA
		bytes uint64
	}
	want := []place{
		{"shim", KindNormal, 0x1000, 0x2000},
		{"kernel", KindNormal, 0x3000, 0x2000},
		{"initramfs", KindNormal, 0x5000, 0x2000},
		{"", KindNormal, 0x7000, 0x1000},
		{"", KindParameter, 0x8000, 0x1000},
		{"", KindSecrets, 0x9000, 0x1000},
		{"", KindVMSA, kvmVMSA, 0x1000},
		{"", KindVMSA, kvmVMSA, 0x1000},
	}
	var got []place
	for _, p := range r.Parts {
		got = append(got, place{p.Name, p.Kind, p.GPA, p.Bytes})
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("parts %v, want %v", got, want)
	}
	// A flipped byte changes the digest of its part alone.
	flipped := build(func(f *igvm.File) {
		for _, h := range f.Headers {
			if p, ok := h.(*igvm.PageData); ok && p.GPA == 0x4000 {
				p.Data[100] ^= 0x80
			}
		}
	})
	d := Compare(r.Parts, flipped.Parts)
	if len(d) != 1 || d[0].String() != "kernel at 0x3000: contents differ" || flipped.Digest == r.Digest {
		t.Errorf("differences %v", d)
	}
	// The form that is kept beside an image.
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Digest != r.Digest || len(Compare(r.Parts, back.Parts)) != 0 {
		t.Errorf("from JSON: %+v", back)
	}
}

// Pages are hashed where they lie: an image of Keel's size costs no copy of it.
func TestMemory(t *testing.T) {
	const pages = 14 << 20 / igvm.PageSize
	data := make([]byte, pages*igvm.PageSize)
	for i := range data {
		data[i] = byte(i * 31 >> 7)
	}
	for _, platform := range []igvm.PlatformType{igvm.PlatformSNP, igvm.PlatformTDX} {
		f := fileOf(platform)
		for i := range pages {
			f.Headers = append(f.Headers, &igvm.PageData{
				GPA: x86.GPA(0x100000 + i*igvm.PageSize), Mask: ours, Data: data[i*igvm.PageSize : (i+1)*igvm.PageSize],
			})
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		mustMeasure(t, f, platform, Options{})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%v: %d bytes allocated for an image of %d", platform, n, len(data))
		}
	}
}

func BenchmarkMeasure(b *testing.B) {
	const pages = 14 << 20 / igvm.PageSize
	data := make([]byte, igvm.PageSize)
	for name, platform := range platforms {
		f := fileOf(platform)
		for i := range pages {
			f.Headers = append(f.Headers, &igvm.PageData{GPA: x86.GPA(i * igvm.PageSize), Mask: ours, Data: data})
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(pages * igvm.PageSize)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Measure(f, platform, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
