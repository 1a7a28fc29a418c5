package boot

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/layout"
	"keel/boot/measure"

	"keel/hcl/abi/snp"

	"keel/hcl/abi/tdx"
)

// put writes evidence to a file of the test and returns its name.
func put(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "evidence")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// tdReport returns a TDREPORT of the image, without a MAC.
func tdReport(tb testing.TB, path string, edit func([]byte)) []byte {
	tb.Helper()
	_, m := mustMeasure(tb, path, true)
	b := make([]byte, tdx.REPORT_SIZE)
	b[0] = tdx.REPORT_TYPE_TDX
	// PKS and PERFMON are the machine's to choose.
	binary.LittleEndian.PutUint64(b[tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES:], tdxPolicy(false).Attributes().Word()|1<<30|1<<63)
	copy(b[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD:], m.Digest[:])
	if edit != nil {
		edit(b)
	}
	return b
}

// quote returns a quote with the fields of a TDREPORT.
func quote(report []byte, edit func([]byte)) []byte {
	b := make([]byte, quoteLeast+100)
	le := binary.LittleEndian
	le.PutUint16(b, quoteVersion)
	le.PutUint32(b[quoteTEE:], tdx.REPORT_TYPE_TDX)
	copy(b[quoteAttributes:], report[tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES:][:8])
	copy(b[quoteMRTD:], report[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD:][:measure.DigestSize])
	le.PutUint32(b[quoteAuthBytes:], 100)
	if edit != nil {
		edit(b)
	}
	return b
}

// TestVerify goes through what can differ, one thing at a time.
func TestVerify(t *testing.T) {
	plain := save(t, synthetic(t, nil))
	signed := filepath.Join(t.TempDir(), "signed")
	o := SignOptions{
		IDKey: key(t, "secp384r1"), AuthorKey: key(t, "secp384r1"), Out: signed,
		Identity: measure.Identity{FamilyID: [16]byte{1}, ImageID: [16]byte{2}, GuestSVN: 3},
	}
	if _, err := Sign(plain, o); err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 1 } }
	for name, tt := range map[string]struct {
		image    string
		evidence []byte
		differ   string // names of what differs
	}{
		"SNP":                 {plain, snpReport(t, plain, nil), ""},
		"SNP signed":          {signed, snpReport(t, signed, nil), ""},
		"SNP digest":          {plain, snpReport(t, plain, flip(snp.REPORT_MEASUREMENT+47)), "digest"},
		"SNP policy":          {plain, snpReport(t, plain, flip(snp.REPORT_POLICY+2)), "policy"},
		"SNP debug policy":    {plain, snpReport(t, plain, func(b []byte) { b[snp.REPORT_POLICY+2] |= 8 }), "policy"},
		"SNP VMPL":            {plain, snpReport(t, plain, func(b []byte) { b[snp.REPORT_VMPL] = 2 }), "VMPL"},
		"SNP foreign ID key":  {signed, snpReport(t, signed, flip(snp.REPORT_ID_KEY_DIGEST)), "ID key"},
		"SNP foreign author":  {signed, snpReport(t, signed, flip(snp.REPORT_AUTHOR_KEY_DIGEST)), "author key"},
		"SNP unsigned launch": {signed, snpReport(t, plain, nil), "ID key, author key, family ID, image ID, guest SVN"},
		"SNP unsigned image":  {plain, snpReport(t, signed, nil), "ID key, author key, family ID, image ID, guest SVN"},
		"SNP family":          {signed, snpReport(t, signed, flip(snp.REPORT_FAMILY_ID)), "family ID"},
		"SNP image ID":        {signed, snpReport(t, signed, flip(snp.REPORT_IMAGE_ID)), "image ID"},
		"SNP SVN":             {signed, snpReport(t, signed, flip(snp.REPORT_GUEST_SVN)), "guest SVN"},
		"SNP two things":      {plain, snpReport(t, plain, func(b []byte) { b[snp.REPORT_MEASUREMENT] ^= 1; b[snp.REPORT_POLICY+2] ^= 8 }), "digest, policy"},
		"TDREPORT":            {plain, tdReport(t, plain, nil), ""},
		"TDREPORT signed":     {signed, tdReport(t, signed, nil), ""},
		"TDREPORT digest":     {plain, tdReport(t, plain, flip(tdx.REPORT_TDINFO+tdx.TDINFO_MRTD)), "digest"},
		"TDREPORT debug":      {plain, tdReport(t, plain, flip(tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES)), "policy"},
		"TDREPORT profiled":   {plain, tdReport(t, plain, func(b []byte) { b[tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES] |= 0x10 }), "policy"},
		"TDREPORT with #VE":   {plain, tdReport(t, plain, func(b []byte) { b[tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES+3] &^= 0x10 }), "policy"},
		"quote":               {plain, quote(tdReport(t, plain, nil), nil), ""},
		"quote digest":        {plain, quote(tdReport(t, plain, nil), flip(quoteMRTD+47)), "digest"},
		"quote debug":         {plain, quote(tdReport(t, plain, nil), flip(quoteAttributes)), "policy"},
	} {
		v, err := Verify(tt.image, put(t, tt.evidence), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var differ []string
		for _, c := range v.Checks {
			if !c.Same {
				differ = append(differ, c.What)
			}
		}
		if got := strings.Join(differ, ", "); got != tt.differ || v.Matches != (tt.differ == "") || (v.Failure() == nil) != v.Matches {
			t.Errorf("%s: %q differ, want %q", name, got, tt.differ)
		}
		var text strings.Builder
		if err := v.Describe(&text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), "no signature was checked") || strings.Contains(text.String(), "differs:") != !v.Matches {
			t.Errorf("%s:\n%s", name, text.String())
		}
		if !v.Matches {
			checkOutcome(t, name, v.Failure(), handoff.OutcomeBadConfig, tt.differ)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerifyNamesParts checks that a second image tells what the digest does not.
func TestVerifyNamesParts(t *testing.T) {
	mine := save(t, synthetic(t, nil))
	other := save(t, synthetic(t, func(in *layout.Input) { in.Cmdline += " init=/bin/sh" }))
	third := save(t, synthetic(t, func(in *layout.Input) { in.Initramfs = []byte("other") }))
	for _, evidence := range [][]byte{snpReport(t, other, nil), tdReport(t, other, nil)} {
		v, err := Verify(mine, put(t, evidence), other)
		// The first page holds the digest by which Keel names the image.
		if err != nil || fmt.Sprint(v.Parts) != "[info at 0x100000: contents differ command line, measured at 0x10d000: contents differ]" {
			t.Errorf("%+v, %v", v, err)
		}
		v, err = Verify(mine, put(t, evidence), third)
		if err != nil || len(v.Parts) != 1 || !strings.Contains(v.Parts[0], "not of "+third) {
			t.Errorf("%+v, %v", v, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	plain := save(t, synthetic(t, nil))
	native := save(t, synthetic(t, func(in *layout.Input) { in.SNP, in.TDX = nil, nil }))
	snp, td := snpReport(t, plain, nil), tdReport(t, plain, nil)
	version := func(v byte) func([]byte) { return func(b []byte) { b[0] = v } }
	for name, tt := range map[string]struct {
		image    string
		evidence []byte
		outcome  handoff.Outcome
		text     string
	}{
		"empty":              {plain, nil, handoff.OutcomeBadConfig, "truncated or foreign: 0 bytes"},
		"truncated report":   {plain, snp[:1000], handoff.OutcomeBadConfig, "truncated or foreign: 1000 bytes"},
		"longer report":      {plain, append(bytes.Clone(snp), 0), handoff.OutcomeBadConfig, "unknown form"},
		"report version 1":   {plain, snpReport(t, plain, version(1)), handoff.OutcomeBadConfig, "version 1"},
		"report version 6":   {plain, snpReport(t, plain, version(6)), handoff.OutcomeBadConfig, "version 6"},
		"truncated TDREPORT": {plain, td[:800], handoff.OutcomeBadConfig, "truncated"},
		"SGX report":         {plain, tdReport(t, plain, version(0)), handoff.OutcomeBadConfig, "foreign"},
		"quote version 5":    {plain, quote(td, version(5)), handoff.OutcomeBadConfig, "version 5"},
		"truncated quote":    {plain, quote(td, nil)[:quoteLeast+99], handoff.OutcomeBadConfig, "truncated TDX quote"},
		"short quote":        {plain, quote(td, nil)[:40], handoff.OutcomeBadConfig, "truncated TDX quote"},
		"lying quote":        {plain, quote(td, func(b []byte) { b[quoteAuthBytes+3] = 0xff }), handoff.OutcomeBadConfig, "truncated TDX quote"},
		"huge":               {plain, make([]byte, 1<<20), handoff.OutcomeBadConfig, "too large"},
		"native image":       {native, snp, handoff.OutcomeBadImage, "no platform snp"},
		"native image, TD":   {native, td, handoff.OutcomeBadImage, "no platform tdx"},
		"no image":           {put(t, snp), snp, handoff.OutcomeBadImage, "not an IGVM file"},
	} {
		_, err := Verify(tt.image, put(t, tt.evidence), "")
		checkOutcome(t, name, err, tt.outcome, tt.text)
	}
	_, err := Verify(plain, filepath.Join(t.TempDir(), "absent"), "")
	checkOutcome(t, "absent", err, handoff.OutcomeBadConfig, "no such file")
}

func FuzzParseEvidence(f *testing.F) {
	snp := make([]byte, snp.REPORT_SIZE)
	snp[0] = 3
	td := make([]byte, tdx.REPORT_SIZE)
	td[0] = tdx.REPORT_TYPE_TDX
	for _, b := range [][]byte{snp, snp[:100], td, quote(td, nil), quote(td, nil)[:50]} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvidence("fuzz", b)
		if err != nil {
			var failure *handoff.Failure
			if !errors.As(err, &failure) || failure.Remedy == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.Contains(b, e.measurement[:]) || len(e.reportData) != 64 || e.form == "" {
			t.Fatalf("%+v", e)
		}
	})
}
