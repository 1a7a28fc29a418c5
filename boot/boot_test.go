package boot

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/igvm"
)

// testKernel returns a bzImage that reports what it was given.
func testKernel(tb testing.TB) []byte {
	tb.Helper()
	obj := filepath.Join(tb.TempDir(), "kernel.o")
	if out, err := exec.Command("gcc", "-c", "-o", obj, "testdata/kernel.S").CombinedOutput(); err != nil {
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
	return bzImage(text)
}

// bzImage puts a setup header in front of a protected-mode part.
func bzImage(payload []byte) []byte {
	for len(payload)%16 != 0 {
		payload = append(payload, 0)
	}
	b := make([]byte, 1024)
	le := binary.LittleEndian
	b[0x1f1] = 1
	le.PutUint32(b[0x1f4:], uint32(len(payload)/16))
	b[0x200], b[0x201] = 0xeb, 0x66 // jump over the header, which ends at 268h
	le.PutUint32(b[0x202:], 0x53726448)
	le.PutUint16(b[0x206:], 0x020f)
	b[0x211] = 1
	le.PutUint32(b[0x22c:], 0x7fffffff)
	le.PutUint32(b[0x230:], 0x200000)
	b[0x234] = 1
	le.PutUint16(b[0x236:], 1)
	le.PutUint32(b[0x238:], 2047)
	le.PutUint64(b[0x258:], 0x1000000)
	le.PutUint32(b[0x260:], 0x400000)
	return append(b, payload...)
}

func testOptions(tb testing.TB) Options {
	tb.Helper()
	return Options{Kernel: testKernel(tb), Initramfs: bytes.Repeat([]byte("initramfs"), 5000), Cmdline: "console=ttyS0", Out: tb.TempDir()}
}

func mustBuild(tb testing.TB, o Options) Result {
	tb.Helper()
	res, err := Build(o)
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestRebuildIsIdentical(t *testing.T) {
	o := testOptions(t)
	o.CacheDir = t.TempDir()
	a := mustBuild(t, o)
	// The second build compiles the shim again and reads its inputs from files.
	p := o
	p.Out, p.CacheDir = t.TempDir(), t.TempDir()
	p.KernelPath, p.InitramfsPath = filepath.Join(p.CacheDir, "k"), filepath.Join(p.CacheDir, "i")
	for path, b := range map[string][]byte{p.KernelPath: o.Kernel, p.InitramfsPath: o.Initramfs} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Kernel, p.Initramfs = nil, nil
	b := mustBuild(t, p)
	for _, name := range []string{IGVMName, PVHName} {
		if !bytes.Equal(mustRead(t, filepath.Join(o.Out, name)), mustRead(t, filepath.Join(p.Out, name))) {
			t.Errorf("%s differs between two builds", name)
		}
	}
	if a.Digest != b.Digest || a.IGVMBytes != b.IGVMBytes {
		t.Errorf("results differ: %+v, %+v", a, b)
	}
	// Everything that is measured changes the digest.
	for name, edit := range map[string]func(*Options){
		"debug":     func(o *Options) { o.Debug = true },
		"cmdline":   func(o *Options) { o.Cmdline += " quiet" },
		"initramfs": func(o *Options) { o.Initramfs = append(bytes.Clone(o.Initramfs), 1) },
		"kernel":    func(o *Options) { o.Kernel = bytes.Clone(o.Kernel); o.Kernel[len(o.Kernel)-1] ^= 1 },
	} {
		q := o
		edit(&q)
		if mustBuild(t, q).Digest == a.Digest {
			t.Errorf("%s is not in the digest", name)
		}
	}
}

func TestOpenAndDescribe(t *testing.T) {
	o := testOptions(t)
	o.Debug = true
	res := mustBuild(t, o)
	s, err := Open(res.IGVM)
	if err != nil {
		t.Fatal(err)
	}
	if s.Cmdline != o.Cmdline || !s.Debug || s.Architecture != "x64" || s.Headers["VP_CONTEXT"] != 2 || s.Bytes != res.IGVMBytes {
		t.Errorf("%+v", s)
	}
	last := uint64(0)
	for _, r := range s.Regions {
		if r.Span.Start < last || r.Span.Size == 0 {
			t.Errorf("region %s at %#x overlaps", r.Name, r.Span.Start)
		}
		last = r.Span.End()
	}
	var text strings.Builder
	if err := s.Describe(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"native, snp, tdx", "abi=1.51,smt,debug", "debug,sept-ve-disable", "kind           debug", s.Digest, "initramfs", "PAGE_DATA", `"console=ttyS0"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("text lacks %q", want)
		}
	}
	var back Summary
	if b, err := json.Marshal(s); err != nil || json.Unmarshal(b, &back) != nil || back.Digest != s.Digest {
		t.Errorf("JSON: %v", err)
	}
}

func TestBadImages(t *testing.T) {
	res := mustBuild(t, testOptions(t))
	image := mustRead(t, res.IGVM)
	other, err := igvm.Write(&igvm.File{Version: 2, PageSize: igvm.PageSize, Headers: []igvm.Header{&igvm.SupportedPlatform{Mask: 1, Version: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		edit func([]byte) []byte
		text string
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }, "truncated"},
		{"empty", func([]byte) []byte { return nil }, "corrupt"},
		{"an ELF", func([]byte) []byte { return mustRead(t, res.PVH) }, "not an IGVM file"},
		{"aarch64", func(b []byte) []byte { b[24] = 1; return b }, "another architecture"},
		{"header changed", func(b []byte) []byte { b[60] ^= 1; return b }, "corrupt"},
		{"page changed", func(b []byte) []byte { b[len(b)-3*4096] ^= 1; return b }, "digest"},
		{"somebody else's", func([]byte) []byte { return other }, "not an image of Keel"},
	}
	for _, tt := range tests {
		b := tt.edit(bytes.Clone(image))
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, openErr := Open(path)
		_, elfErr := PVHFromIGVM(b)
		for _, err := range []error{openErr, elfErr} {
			checkFailure(t, tt.name, err, tt.text)
		}
	}
	_, err = Open(filepath.Join(t.TempDir(), "missing"))
	checkFailure(t, "missing", err, "no such file")
}

// checkFailure wants one line with cause and remedy and the outcome bad-image.
func checkFailure(t *testing.T, name string, err error, text string) {
	t.Helper()
	var f *handoff.Failure
	if !errors.As(err, &f) || f.Outcome != handoff.OutcomeBadImage || f.Remedy == "" {
		t.Errorf("%s: %v", name, err)
		return
	}
	if msg := err.Error(); !strings.Contains(msg, text) || strings.Contains(msg, "\n") {
		t.Errorf("%s: %q, want %q", name, msg, text)
	}
}

func TestBadInputs(t *testing.T) {
	arm := make([]byte, 4096)
	copy(arm[0x38:], "ARM\x64")
	for name, tt := range map[string]struct {
		edit func(*Options)
		text string
	}{
		"no kernel":    {func(o *Options) { o.Kernel, o.KernelPath = nil, "/nonexistent" }, "no such file"},
		"no initramfs": {func(o *Options) { o.Initramfs, o.InitramfsPath = nil, "/nonexistent" }, "no such file"},
		"garbage":      {func(o *Options) { o.Kernel = make([]byte, 4096) }, "not a bzImage"},
		"arm64":        {func(o *Options) { o.Kernel = arm }, "another architecture"},
		"cut":          {func(o *Options) { o.Kernel = o.Kernel[:1100] }, "truncated"},
		"cmdline":      {func(o *Options) { o.Cmdline = strings.Repeat("a", 2048) }, "command line"},
	} {
		o := testOptions(t)
		tt.edit(&o)
		_, err := Build(o)
		checkFailure(t, name, err, tt.text)
	}
}

// vm starts the ELF under QEMU and returns what it writes to COM1, until it
// ends or the text until has come.
func vm(t *testing.T, until string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	base := []string{"-machine", "q35", "-accel", "tcg", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(base, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		got.Write(buf[:n])
		if err != nil || until != "" && strings.Contains(got.String(), until) {
			break
		}
	}
	cancel()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // killed, or ended by itself; the text decides
	return got.String()
}

// The ELF's way through both firmwares of Debian's QEMU: what the kernel is
// given must be what the VM is.
func TestKernelIsEntered(t *testing.T) {
	for _, tt := range []struct {
		bios   string
		debug  bool
		append string
		want   string
	}{
		{"qboot.rom", false, "init=/bin/sh", "console=ttyS0 mitigations=off"},
		{"bios-256k.bin", true, "debug", "console=ttyS0 mitigations=off debug"},
	} {
		o := testOptions(t)
		o.Debug = tt.debug
		res := mustBuild(t, o)
		out := vm(t, "", "-m", "64", "-bios", tt.bios, "-kernel", res.PVH, "-append", tt.append)
		_, dump, found := strings.Cut(out, "ENTRY\n")
		if !found || len(dump) < 2*4096+2048 {
			t.Errorf("%s: kernel not entered: %.200q", tt.bios, out)
			continue
		}
		bp, node := []byte(dump[:4096]), []byte(dump[4096:8192])
		hd, err := handoff.Parse(node[16:][:min(4080, binary.LittleEndian.Uint32(node[12:]))])
		if err != nil {
			t.Errorf("%s: %v", tt.bios, err)
			continue
		}
		if hd.VPs != 2 || hd.Digest != res.Digest || hd.Debug() != tt.debug || hd.RAMBytes>>20 < 60 || hd.RAMBytes>>20 > 64 {
			t.Errorf("%s: %+v", tt.bios, hd)
		}
		if text, _, _ := strings.Cut(dump[8192:], "\x00"); text != tt.want {
			t.Errorf("%s: command line %q", tt.bios, text)
		}
		if rsdp := binary.LittleEndian.Uint64(bp[0x70:]); rsdp>>16 != 0xf {
			t.Errorf("%s: RSDP %#x", tt.bios, rsdp)
		}
	}
}

func TestTooLittleMemoryIsNamed(t *testing.T) {
	res := mustBuild(t, testOptions(t))
	out := vm(t, "\r\n", "-m", "18", "-bios", "qboot.rom", "-kernel", res.PVH)
	if out != "keel: shim: the host gave too little memory: the image's pages are not all RAM\r\n" {
		t.Errorf("%q", out)
	}
}
