package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/testing/testdata"

	"keel/boot"
	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/measure"
	"keel/boot/qemu"
	"keel/boot/shim"
	"keel/hcl/abi/snp"
)

// testImage writes an image that nothing could boot, with the given platforms.
func testImage(t *testing.T, snp, tdx *uint64) string {
	t.Helper()
	img, err := layout.Compose(layout.Input{
		Shim: &shim.Binary{Code: []byte{0xf4}, IGVMEntry: shim.Base, PVHEntry: shim.Base},
		Kernel: &layout.Kernel{
			SetupHeader: make([]byte, 120), Payload: make([]byte, 8192), Preferred: 16 << 20, Alignment: 2 << 20,
			InitSize: 1 << 20, Relocatable: true, CmdlineMax: 2047,
		},
		Initramfs: []byte("initramfs"), Cmdline: "quiet", SNP: snp, TDX: tdx,
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := img.IGVM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := igvm.Write(f)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, boot.IGVMName, string(b))
}

// runImage runs `keel image` and returns what it prints.
func runImage(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := imageCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// Policies of the test images.
const (
	snpWord = 0x30133
	tdxWord = 2
)

// measured returns what `keel image measure --json` prints for a platform.
func measured(t *testing.T, path, platform string) *boot.Measurement {
	t.Helper()
	out, err := runImage(t, "measure", "--qemu", "--json", "--platform", platform, path)
	if err != nil {
		t.Fatal(err)
	}
	var all []*boot.Measurement
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0].Platform != platform {
		t.Fatalf("%s: %v", out, err)
	}
	return all[0]
}

func TestImageMeasure(t *testing.T) {
	path := testImage(t, new(uint64(snpWord)), new(uint64(tdxWord)))
	out, err := runImage(t, "measure", path)
	if err != nil {
		t.Fatal(err)
	}
	snp, tdx := measured(t, path, "snp"), measured(t, path, "tdx")
	for _, want := range []string{snp.Digest.String(), tdx.Digest.String(), "abi=1.51,smt (0x30133)", "sept-ve-disable (0x2)", "initramfs"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if out, err = runImage(t, "show", path); err != nil || !strings.Contains(out, "native, snp, tdx") {
		t.Errorf("show: %v\n%s", err, out)
	}
}

// evidenceFiles returns an SNP report, laid out by hcl/abi/snp, and a quote that a
// real quoting enclave made, changed to be of the image.
func evidenceFiles(t *testing.T, path string) (report, quote []byte) {
	t.Helper()
	m := measured(t, path, "snp")
	report = make([]byte, snp.REPORT_SIZE)
	le := binary.LittleEndian
	le.PutUint32(report[snp.REPORT_VERSION:], snp.REPORT_VERSION_3)
	le.PutUint64(report[snp.REPORT_POLICY:], snpWord)
	copy(report[snp.REPORT_MEASUREMENT:], m.Digest[:])
	if k := m.IDBlock; k != nil {
		le.PutUint32(report[snp.REPORT_GUEST_SVN:], k.GuestSVN)
		copy(report[snp.REPORT_ID_KEY_DIGEST:], k.IDKeyDigest[:])
	}
	quote = bytes.Clone(testdata.RawQuote)
	parsed, err := abi.QuoteToProto(quote)
	if err != nil {
		t.Fatal(err)
	}
	body := parsed.(*tdx.QuoteV4).GetTdQuoteBody()
	td := measured(t, path, "tdx")
	copy(quote[bytes.Index(quote, body.GetMrTd()):], td.Digest[:])
	attributes := measure.TDXPolicy{SEPTVEDisable: true}.Attributes().Word()
	le.PutUint64(quote[bytes.Index(quote, append(bytes.Clone(body.GetTdAttributes()), body.GetXfam()...)):], attributes)
	return report, quote
}

func TestImageVerify(t *testing.T) {
	path := testImage(t, new(uint64(snpWord)), new(uint64(tdxWord)))
	report, quote := evidenceFiles(t, path)
	for name, b := range map[string][]byte{"report": report, "quote": quote} {
		out, err := runImage(t, "verify", "--report", file(t, name, string(b)), path)
		if err != nil || !strings.Contains(out, "the evidence is of this image, if") || !strings.Contains(out, "no signature was checked") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// A quote as it came from its enclave is of another TD.
	out, err := runImage(t, "verify", "--report", file(t, "foreign", string(testdata.RawQuote)), path)
	if qemu.OutcomeOf(err) != handoff.OutcomeBadConfig || !strings.Contains(out, "digest         differs") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = runImage(t, "verify", "--json", "--report", file(t, "report", string(report)), path)
	var v boot.Verdict
	if err != nil || json.Unmarshal([]byte(out), &v) != nil || !v.Matches || v.Platform != "snp" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestImageSign(t *testing.T) {
	path := testImage(t, new(uint64(snpWord)), new(uint64(tdxWord)))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(t.TempDir(), "id.pem")
	if out, err := exec.Command("openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", pem).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	signed := filepath.Join(t.TempDir(), "signed.igvm")
	out, err := runImage(t, "sign", "--id-key", pem, "--svn", "3", "--out", signed, path)
	if err != nil || out != measured(t, path, "snp").Digest.String()+"\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("FILE was written: %v", err)
	}
	report, _ := evidenceFiles(t, signed)
	if out, err := runImage(t, "verify", "--report", file(t, "report", string(report)), signed); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = runImage(t, "show", signed); err != nil || !strings.Contains(out, "ID block       signed\n") || !strings.Contains(out, "SVN 3") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestBadImageCommands goes through what the commands refuse.
func TestBadImageCommands(t *testing.T) {
	image, native := testImage(t, new(uint64(snpWord)), nil), testImage(t, nil, nil)
	garbage := file(t, "garbage", strings.Repeat("garbage\n", 1000))
	report, _ := evidenceFiles(t, testImage(t, new(uint64(snpWord)), new(uint64(tdxWord))))
	cut := file(t, "cut", string(report[:1000]))
	for name, tt := range map[string]struct {
		args []string
		want handoff.Outcome
		text string
	}{
		"unknown platform":  {[]string{"measure", "--platform", "sev", image}, handoff.OutcomeUsage, "snp, tdx or all"},
		"no SNP":            {[]string{"measure", "--platform", "snp", native}, handoff.OutcomeBadImage, "no platform snp"},
		"no TDX":            {[]string{"measure", image}, handoff.OutcomeBadImage, "no platform tdx"},
		"measure garbage":   {[]string{"measure", garbage}, handoff.OutcomeBadImage, "not an IGVM file"},
		"measure nothing":   {[]string{"measure", filepath.Join(t.TempDir(), "absent")}, handoff.OutcomeBadImage, "no such file"},
		"sign without key":  {[]string{"sign", image}, handoff.OutcomeUsage, "--id-key"},
		"sign with garbage": {[]string{"sign", "--id-key", garbage, image}, handoff.OutcomeBadConfig, "PEM"},
		"short family":      {[]string{"sign", "--id-key", garbage, "--family-id", "12", image}, handoff.OutcomeUsage, "32 hexadecimal digits"},
		"image ID":          {[]string{"sign", "--id-key", garbage, "--image-id", strings.Repeat("xy", 16), image}, handoff.OutcomeUsage, "--image-id"},
		"no report":         {[]string{"verify", image}, handoff.OutcomeUsage, "--report"},
		"absent report":     {[]string{"verify", "--report", filepath.Join(t.TempDir(), "absent"), image}, handoff.OutcomeBadConfig, "no such file"},
		"cut report":        {[]string{"verify", "--report", cut, image}, handoff.OutcomeBadConfig, "1000 bytes"},
		"report, no image":  {[]string{"verify", "--report", file(t, "report", string(report)), garbage}, handoff.OutcomeBadImage, "not an IGVM file"},
		"report, native":    {[]string{"verify", "--report", file(t, "report", string(report)), native}, handoff.OutcomeBadImage, "no platform snp"},
		"report, other":     {[]string{"verify", "--report", file(t, "report", string(report)), image}, handoff.OutcomeBadConfig, "digest differ"},
	} {
		_, err := runImage(t, tt.args...)
		if err == nil || qemu.OutcomeOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %s with %q", name, err, tt.want, tt.text)
			continue
		}
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: not one line of cause and remedy: %q", name, err)
		}
	}
}
