package boot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/measure"
	"keel/boot/shim"

	"keel/hcl/abi/snp"
)

// synthetic composes an image of which every byte is known: no compiler is needed
// for it. edit changes the parts first.
func synthetic(tb testing.TB, edit func(*layout.Input)) *layout.Image {
	tb.Helper()
	payload := make([]byte, 24<<10)
	for i := range payload {
		payload[i] = byte(i*7 + i>>8*13)
	}
	clear(payload[8<<10 : 16<<10]) // pages of zeros
	kernel, err := layout.ParseKernel(bzImage(payload))
	if err != nil {
		tb.Fatal(err)
	}
	in := layout.Input{
		Shim:   &shim.Binary{Code: bytes.Repeat([]byte{0x90}, 5000), IGVMEntry: shim.Base, PVHEntry: shim.Base + 10},
		Kernel: kernel, Initramfs: bytes.Repeat([]byte("initramfs"), 1500), Cmdline: "console=ttyS0 quiet",
		SNP: new(snpPolicy(false).Word()), TDX: new(tdxPolicy(false).Word()),
	}
	if edit != nil {
		edit(&in)
	}
	img, err := layout.Compose(in)
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

// save writes an image to a file of the test and returns its name.
func save(tb testing.TB, img *layout.Image) string {
	tb.Helper()
	f, err := img.IGVM()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := igvm.Write(f)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), IGVMName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func mustMeasure(tb testing.TB, path string, qemu bool) (snp, tdx *Measurement) {
	tb.Helper()
	all, err := Measure(path, Isolated, qemu)
	if err != nil {
		tb.Fatal(err)
	}
	return all[0], all[1]
}

// TestGoldenDigests holds the synthetic image to digests that testdata/digests.py,
// which shares nothing with this module, computed from the file's bytes.
func TestGoldenDigests(t *testing.T) {
	path := save(t, synthetic(t, nil))
	const (
		launch = "a73a0af1ace3d2a36a0911b3e318030ebfaa6364adec9e1496815e9988e533ab2cc88667b79e181be5e78d73537a793f"
		mrtd   = "363786bb847c4dfd7fe4cd019543c2158a0b2e304c296212596a06ee2271a7b83e6043659027de2e27872ba162ce78dd"
	)
	for _, qemu := range []bool{false, true} {
		snp, tdx := mustMeasure(t, path, qemu)
		if snp.Digest.String() != launch {
			t.Errorf("launch digest %v", snp.Digest)
		}
		if tdx.Digest.String() != mrtd {
			t.Errorf("MRTD %v", tdx.Digest)
		}
		if snp.Policy != (Policy{"snp", "0x30133", "abi=1.51,smt"}) || tdx.Policy != (Policy{"tdx", "0x2", "sept-ve-disable"}) {
			t.Errorf("policies %+v, %+v", snp.Policy, tdx.Policy)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "python3", "testdata/digests.py", path).Output(); err != nil {
		t.Logf("python3: %v", err)
	} else if want := "snp " + launch + "\ntdx " + mrtd + "\n"; string(out) != want {
		t.Errorf("digests.py says\n%s", out)
	}
}

// TestNativeZero checks that no loader measures the image otherwise than another.
func TestNativeZero(t *testing.T) {
	img := synthetic(t, nil)
	f, err := img.IGVM()
	if err != nil {
		t.Fatal(err)
	}
	var digests []measure.Digest
	for _, o := range []measure.Options{{}, {NativeZero: true}, {QEMU: true}} {
		r, err := measure.Measure(f, igvm.PlatformSNP, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.DatalessPages != 0 || r.SharedPages != 0 {
			t.Errorf("%+v: %d pages without data, %d shared", o, r.DatalessPages, r.SharedPages)
		}
		digests = append(digests, r.Digest)
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("digests differ: %v", digests)
	}
}

// TestEveryByteIsMeasured flips bytes all over the parts of an image: both digests
// must change each time, and the comparison of parts must name the part.
func TestEveryByteIsMeasured(t *testing.T) {
	path := save(t, synthetic(t, nil))
	refSNP, refTDX := mustMeasure(t, path, true)
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1 << (i % 8); return b }
	check := func(name, part string, edit func(*layout.Input)) {
		t.Helper()
		snp, tdx := mustMeasure(t, save(t, synthetic(t, edit)), true)
		for _, m := range [][2]*Measurement{{refSNP, snp}, {refTDX, tdx}} {
			d := measure.Compare(m[0].Parts, m[1].Parts)
			named := slices.ContainsFunc(d, func(d measure.Difference) bool { return d.Got.Name == part })
			if m[0].Digest == m[1].Digest || !named {
				t.Errorf("%s: %s digest %v, differences %v", name, m[0].Platform, m[1].Digest, d)
			}
		}
	}
	plain := synthetic(t, nil)
	for i := 0; i < 24<<10; i += 1021 {
		check("kernel", "kernel", func(in *layout.Input) { k := *in.Kernel; k.Payload = flip(k.Payload, i); in.Kernel = &k })
	}
	for i := 0; i < 1500*9; i += 787 {
		check("initramfs", "initramfs", func(in *layout.Input) { in.Initramfs = flip(in.Initramfs, i) })
	}
	for i := range len(plain.Cmdline()) {
		check("command line", "command line, measured", func(in *layout.Input) {
			b := []byte(in.Cmdline)
			b[i] ^= 1
			in.Cmdline = string(b)
		})
	}
	for i := 0; i < 5000; i += 499 {
		check("shim", "shim", func(in *layout.Input) { s := *in.Shim; s.Code = flip(s.Code, i); in.Shim = &s })
	}
	for bit := range 64 {
		check("SNP policy", "info", func(in *layout.Input) { *in.SNP ^= 1 << bit })
		check("TDX policy", "info", func(in *layout.Input) { *in.TDX ^= 1 << bit })
	}
	check("debug", "info", func(in *layout.Input) { in.Debug = true })
	check("setup header", "info", func(in *layout.Input) { k := *in.Kernel; k.SetupHeader = flip(k.SetupHeader, 40); in.Kernel = &k })
	check("entry", "info", func(in *layout.Input) { s := *in.Shim; s.IGVMEntry++; in.Shim = &s })
}

// key writes a new signing key and returns its file.
func key(tb testing.TB, curve string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "key.pem")
	out, err := exec.Command("openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", path).CombinedOutput()
	if err != nil {
		tb.Fatalf("openssl: %v\n%s", err, out)
	}
	return path
}

func TestSign(t *testing.T) {
	path := save(t, synthetic(t, nil))
	before := mustRead(t, path)
	id, author := key(t, "secp384r1"), key(t, "secp384r1")
	o := SignOptions{
		IDKey: id, AuthorKey: author, Out: filepath.Join(t.TempDir(), "signed"),
		Identity: measure.Identity{FamilyID: [16]byte{1}, ImageID: [16]byte{2}, GuestSVN: 7},
	}
	m, err := Sign(path, o)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, path), before) {
		t.Error("the image itself was written")
	}
	signed := mustRead(t, o.Out)
	// Signing changes no digest, and is repeatable; signing again replaces the block.
	snp, tdx := mustMeasure(t, o.Out, true)
	plain, plainTDX := mustMeasure(t, path, true)
	if snp.Digest != plain.Digest || tdx.Digest != plainTDX.Digest || m.Digest != snp.Digest {
		t.Errorf("digests %v, %v", snp.Digest, tdx.Digest)
	}
	o2 := o
	o2.Out = ""
	if _, err := Sign(o.Out, o2); err != nil || !bytes.Equal(mustRead(t, o.Out), signed) {
		t.Errorf("signed again: %v, or other bytes", err)
	}
	b := snp.IDBlock
	if b == nil || b.Problem != "" || b.AuthorKeyDigest == nil || b.GuestSVN != 7 || b.FamilyID != "01"+strings.Repeat("0", 30) {
		t.Errorf("%+v", b)
	}
	s, err := Open(o.Out)
	if err != nil || s.IDBlock == nil || s.IDBlock.IDKeyDigest != b.IDKeyDigest {
		t.Errorf("%+v, %v", s, err)
	}
	// The native platform starts as before.
	want, err := PVHFromIGVM(before)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := PVHFromIGVM(signed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("PVH of the signed image: %v, or other bytes", err)
	}
	for name, tt := range map[string]struct {
		image, key string
		outcome    handoff.Outcome
		text       string
	}{
		"no key":         {path, filepath.Join(t.TempDir(), "absent"), handoff.OutcomeBadConfig, "cannot be read"},
		"other curve":    {path, key(t, "prime256v1"), handoff.OutcomeBadConfig, "P-384"},
		"image as key":   {path, path, handoff.OutcomeBadConfig, "too large for a key"},
		"key as image":   {id, id, handoff.OutcomeBadImage, "not an IGVM file"},
		"native only":    {save(t, synthetic(t, func(in *layout.Input) { in.SNP = nil })), id, handoff.OutcomeBadImage, "no platform snp"},
		"cannot written": {path, id, handoff.OutcomeBadConfig, "cannot be written"},
	} {
		_, err := Sign(tt.image, SignOptions{IDKey: tt.key, Out: filepath.Join(t.TempDir(), "absent", "out")})
		checkOutcome(t, name, err, tt.outcome, tt.text)
	}
}

// checkOutcome wants one line with cause and remedy.
func checkOutcome(t *testing.T, name string, err error, outcome handoff.Outcome, text string) {
	t.Helper()
	f, ok := errors.AsType[*handoff.Failure](err)
	if !ok || f.Outcome != outcome || f.Remedy == "" || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %v, want %s with %q", name, err, outcome, text)
	}
}

// tamper changes an ID block that was signed.
func tamper(tb testing.TB, path string, edit func(*igvm.SNPIDBlock)) string {
	tb.Helper()
	f, err := igvm.Read(mustRead(tb, path))
	if err != nil {
		tb.Fatal(err)
	}
	for _, h := range f.Headers {
		if b, ok := h.(*igvm.SNPIDBlock); ok {
			edit(b)
		}
	}
	b, err := igvm.Write(f)
	if err != nil {
		tb.Fatal(err)
	}
	out := filepath.Join(tb.TempDir(), "tampered")
	if err := os.WriteFile(out, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestBadIDBlock checks that a block which firmware would refuse is shown as such.
func TestBadIDBlock(t *testing.T) {
	path := save(t, synthetic(t, nil))
	if _, err := Sign(path, SignOptions{IDKey: key(t, "secp384r1")}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit func(*igvm.SNPIDBlock)
		text string
	}{
		"for another digest": {func(b *igvm.SNPIDBlock) { b.LaunchDigest[0] ^= 1 }, "it is for digest"},
		"changed":            {func(b *igvm.SNPIDBlock) { b.GuestSVN++ }, "signature does not match"},
		"not signed":         {func(b *igvm.SNPIDBlock) { b.IDKeySignature = igvm.SNPSignature{} }, "ID key"},
	} {
		bad := tamper(t, path, tt.edit)
		s, err := Open(bad)
		if err != nil || s.IDBlock == nil || !strings.Contains(s.IDBlock.Problem, tt.text) {
			t.Errorf("%s: %+v, %v", name, s.IDBlock, err)
		}
		report := filepath.Join(t.TempDir(), "report")
		if err := os.WriteFile(report, snpReport(t, path, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Verify(bad, report, "")
		checkOutcome(t, name, err, handoff.OutcomeBadImage, "bad ID block")
	}
}

func TestMeasureRefuses(t *testing.T) {
	native := save(t, synthetic(t, func(in *layout.Input) { in.SNP, in.TDX = nil, nil }))
	for _, tt := range []struct{ path, platform, text string }{
		{native, "snp", "no platform snp"},
		{native, "tdx", "no platform tdx"},
		{native, "native", "not measured"},
		{filepath.Join(t.TempDir(), "absent"), "snp", "no such file"},
	} {
		_, err := Measure(tt.path, []string{tt.platform}, false)
		checkOutcome(t, tt.platform, err, handoff.OutcomeBadImage, tt.text)
	}
}

func TestDescribeMeasurement(t *testing.T) {
	path := save(t, synthetic(t, nil))
	snp, _ := mustMeasure(t, path, true)
	var text strings.Builder
	if err := snp.Describe(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{snp.Digest.String(), "abi=1.51,smt", "secrets", "SNP CPUID", "vmsa", "0x00fffffffff000", "initramfs", "ID block       none\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("text lacks %q:\n%s", want, text.String())
		}
	}
	var back []Measurement
	if b, err := json.Marshal([]*Measurement{snp}); err != nil || json.Unmarshal(b, &back) != nil || back[0].Digest != snp.Digest || len(back[0].Parts) != len(snp.Parts) {
		t.Errorf("JSON: %v", err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if err := s.Describe(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"native, snp, tdx", "policy snp", "sept-ve-disable (0x2)", "does not run on their hardware yet", "TDX reset vector"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("text lacks %q:\n%s", want, text.String())
		}
	}
}

// snpReport returns a report of the image as firmware would write it, without a
// signature. edit changes it.
func snpReport(tb testing.TB, path string, edit func([]byte)) []byte {
	tb.Helper()
	m, _ := mustMeasure(tb, path, true)
	b := make([]byte, snp.REPORT_SIZE)
	le := binary.LittleEndian
	le.PutUint32(b[snp.REPORT_VERSION:], 3)
	le.PutUint64(b[snp.REPORT_POLICY:], snpPolicy(false).Word())
	copy(b[snp.REPORT_MEASUREMENT:], m.Digest[:])
	if k := m.IDBlock; k != nil {
		copy(b[snp.REPORT_ID_KEY_DIGEST:], k.IDKeyDigest[:])
		if k.AuthorKeyDigest != nil {
			le.PutUint32(b[snp.REPORT_FLAGS:], 1)
			copy(b[snp.REPORT_AUTHOR_KEY_DIGEST:], k.AuthorKeyDigest[:])
		}
		for at, text := range map[int]string{snp.REPORT_FAMILY_ID: k.FamilyID, snp.REPORT_IMAGE_ID: k.ImageID} {
			id, err := hex.DecodeString(text)
			if err != nil {
				tb.Fatal(err)
			}
			copy(b[at:], id)
		}
		le.PutUint32(b[snp.REPORT_GUEST_SVN:], k.GuestSVN)
	}
	if edit != nil {
		edit(b)
	}
	return b
}
