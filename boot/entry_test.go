package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/shim"
	"keel/hcl/abi/x86"
)

// Offsets in testdata/entry.S.
const (
	entryStub = 0x200
	entryPage = 0x2fc
	dumpWords = 29 // of 64 bits
)

// entryShim assembles testdata/entry.S.
func entryShim(tb testing.TB) *shim.Binary {
	tb.Helper()
	obj := filepath.Join(tb.TempDir(), "entry.o")
	if out, err := exec.Command("gcc", "-c", "-o", obj, "testdata/entry.S").CombinedOutput(); err != nil {
		tb.Fatalf("gcc: %v\n%s", err, out)
	}
	f, err := elf.Open(obj)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	text, err := f.Section(".text").Data()
	if err != nil {
		tb.Fatal(err)
	}
	return &shim.Binary{Code: text, IGVMEntry: shim.Base, PVHEntry: shim.Base + entryStub}
}

// cbit is where the test's CPUID page says that the C-bit lies: a bit that the
// processor leaves to software, as it has no encrypted memory (APM vol. 2, 5.4).
const cbit = 52

// cpuidPage returns a CPUID page in whose last entry the C-bit is.
func cpuidPage() []byte {
	b := make([]byte, igvm.PageSize)
	le := binary.LittleEndian
	functions := []uint32{0, 1, 7, 0x80000008, 0x8000001f}
	le.PutUint32(b, uint32(len(functions)))
	for i, f := range functions {
		le.PutUint32(b[0x10+0x30*i:], f)
		le.PutUint32(b[0x10+0x30*i+0x1c:], 0xffffff00|31)
	}
	le.PutUint32(b[0x10+0x30*4+0x1c:], 0x0840|cbit)
	return b
}

// TestEntriesReachTheShim runs the entries of SNP and TDX in the state in which a VP
// begins there, up to the shim's first instruction, whose registers must be those of
// the native platform's context.
func TestEntriesReachTheShim(t *testing.T) {
	code := entryShim(t)
	const moved = x86.GPA(0x3000000) // below 4 GiB lies QEMU's firmware
	for _, tt := range []struct {
		name  string
		entry func(img *layout.Image) x86.GPA
		bit   uint64 // in every page table entry
	}{
		{"snp", func(img *layout.Image) x86.GPA { return img.Isolation.SNPEntry }, 1 << cbit},
		{"tdx", func(img *layout.Image) x86.GPA { img.Isolation.TDXEntry = moved; return moved + 0xff0 }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := tt.entry(synthetic(t, func(in *layout.Input) { in.Shim = code }))
			patched := *code
			patched.Code = bytes.Clone(code.Code)
			binary.LittleEndian.PutUint32(patched.Code[entryPage:], uint32(at))
			img := synthetic(t, func(in *layout.Input) { in.Shim = &patched })
			tt.entry(img)
			path := filepath.Join(t.TempDir(), PVHName)
			if err := os.WriteFile(path, withEntries(t, img), 0o600); err != nil {
				t.Fatal(err)
			}
			out := vm(t, "", "-m", "128", "-bios", "qboot.rom", "-kernel", path)
			_, dump, found := strings.Cut(out, "ENTRY\n")
			if !found || len(dump) != dumpWords*8 {
				t.Fatalf("shim not entered: %.200q", out)
			}
			var got []uint64
			for b := []byte(dump); len(b) > 0; b = b[8:] {
				got = append(got, binary.LittleEndian.Uint64(b))
			}
			slices.Reverse(got) // as pushed
			context := nativeContext(t, img)
			tables := uint64(context.CR3)
			want := append(make([]uint64, 0, dumpWords),
				context.RSP, 0, 0, 0, 0, 0, context.RSI, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				context.CR0, tables, context.CR4|1<<6, context.EFER, uint64(context.CS.Selector), uint64(context.DS.Selector),
				uint64(context.DS.Selector), 0, context.GDTRBase<<16|uint64(context.GDTRLimit),
				tables+0x1000|0x23|tt.bit, tables+0x2000|0x23|tt.bit, 0xffe000e3|tt.bit, 0)
			if !slices.Equal(got, want) {
				t.Errorf("registers %#x\nwant      %#x", got, want)
			}
		})
	}
}

// nativeContext returns the registers of the native platform.
func nativeContext(t *testing.T, img *layout.Image) *igvm.NativeContext {
	t.Helper()
	f, err := img.IGVM()
	if err != nil {
		t.Fatal(err)
	}
	c, err := igvm.ParseNativeContext(f.Headers[len(f.Headers)-1].(*igvm.VPContext).Data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withEntries returns a PVH ELF of the image's native pages and of those that only SNP
// or TDX load.
func withEntries(t *testing.T, img *layout.Image) []byte {
	t.Helper()
	f, err := img.IGVM()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Headers {
		p, ok := h.(*igvm.PageData)
		// What is not moved lies where QEMU has its firmware.
		if !ok || p.GPA >= 0xf0000000 || slices.ContainsFunc(img.Pages, func(q layout.Page) bool { return q.GPA == p.GPA }) {
			continue
		}
		data := p.Data
		if p.Kind == igvm.PageCPUID {
			data = cpuidPage()
		}
		img.Pages = append(img.Pages, layout.Page{GPA: p.GPA, Data: data})
	}
	slices.SortFunc(img.Pages, func(a, b layout.Page) int { return int(a.GPA) - int(b.GPA) })
	out, err := img.PVH()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
