package attest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	sevdata "github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"
	tdxdata "github.com/google/go-tdx-guest/testing/testdata"
	"github.com/google/uuid"

	"keel/diag/attest/claims"
)

// when is a time at which the libraries' samples are valid.
var when = time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)

// sapphireRapids is a quote of a real platform, without the library's words after its end.
func sapphireRapids() []byte {
	b := tdxdata.RawQuote
	return bytes.Clone(b[:quoteAuth+int(binary.LittleEndian.Uint32(b[quoteSigned:]))])
}

func anything() *Expect {
	return &Expect{Nonce: make([]byte, 32), AnyMeasurement: true, AllowDebug: true, AllowMigration: true}
}

// tableOf packs certificates by GUID.
func tableOf(certs map[string][]byte) []byte {
	var t abi.CertTable
	for guid, der := range certs {
		t.Entries = append(t.Entries, abi.CertTableEntry{GUID: uuid.MustParse(guid), RawCert: der})
	}
	return t.Marshal()
}

func milanSample() *claims.Evidence {
	return &claims.Evidence{Kind: claims.KindSNP, Report: bytes.Clone(sevdata.AttestationBytes), Certificates: tableOf(map[string][]byte{abi.VcekGUID: sevdata.VcekBytes})}
}

// TestVendorSNP takes a report of real hardware with AMD's roots alone.
func TestVendorSNP(t *testing.T) {
	r := &Result{Kind: claims.KindSNP, At: when}
	if err := verifySNP(milanSample(), anything(), &Options{}, r); err != nil {
		t.Fatal(err)
	}
	if r.Emulated || r.TCB == 0 || len(r.ChipID) != 64 {
		t.Errorf("%+v", r)
	}
	// It vouches for no claim of ours, whatever that is.
	e := milanSample()
	claim, err := (&claims.Claim{Nonce: make([]byte, 32)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	e.Claim = claim
	if _, err := Verify(e, anything(), &Options{Now: when}); !errors.Is(err, ErrClaim) {
		t.Error(err)
	}
	e.Report[0x90] ^= 1
	if _, err := Verify(e, anything(), &Options{Now: when}); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	e = milanSample()
	known, err := roots()
	if err != nil {
		t.Fatal(err)
	}
	e.Certificates = tableOf(map[string][]byte{abi.VcekGUID: sevdata.VcekBytes, abi.ArkGUID: known.emulatedARK.Raw})
	if _, err := Verify(e, anything(), &Options{Now: when, AllowEmulated: true}); !errors.Is(err, ErrChain) {
		t.Error("a foreign ARK beside good evidence:", err)
	}
}

// TestVendorTDX takes a quote of real hardware with Intel's root alone.
func TestVendorTDX(t *testing.T) {
	r := &Result{Kind: claims.KindTDX, At: when}
	e := &claims.Evidence{Kind: claims.KindTDX, Report: sapphireRapids()}
	if err := verifyTDX(e, anything(), &Options{}, r); err != nil {
		t.Fatal(err)
	}
	if r.Emulated || len(r.RTMR) != 4 || len(r.TEESVN) != 16 {
		t.Errorf("%+v", r)
	}
	e.Report = bytes.Clone(tdxdata.RawQuote)
	if err := verifyTDX(e, anything(), &Options{}, &Result{At: when}); !errors.Is(err, ErrFormat) {
		t.Error("bytes after the end:", err)
	}
	e.Report = append(sapphireRapids(), make([]byte, 100)...)
	if err := verifyTDX(e, anything(), &Options{}, &Result{At: when}); err != nil {
		t.Error("zeros after the end:", err)
	}
	e.Report[100] ^= 1
	if err := verifyTDX(e, anything(), &Options{}, &Result{At: when}); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
}

// TestRoots wants the same ARK in both of AMD's bundles of a line, and none of the
// emulated certificates among the vendors'.
func TestRoots(t *testing.T) {
	known, err := roots()
	if err != nil {
		t.Fatal(err)
	}
	if len(known.amd) != 3 {
		t.Errorf("%d product lines", len(known.amd))
	}
	for line, certs := range known.amd {
		if want := trust.DefaultRootCerts[line].ProductCerts; certs.Ark == nil || certs.Ask == nil || certs.Asvk == nil || !certs.Ark.Equal(want.Ark) || !certs.Ask.Equal(want.Ask) {
			t.Errorf("%s: other roots than the library's", line)
		}
		if certs.Ark.Equal(known.emulatedARK) || certs.Ask.Equal(known.emulatedASK) {
			t.Errorf("%s is emulated", line)
		}
	}
	if err := known.intel.CheckSignatureFrom(known.intel); err != nil || known.intel.Equal(known.emulatedPCK) {
		t.Error(err)
	}
	if len(intelSigner) != 32 {
		t.Error(len(intelSigner))
	}
}

func TestTable(t *testing.T) {
	good := tableOf(map[string][]byte{abi.VcekGUID: {1, 2, 3}})
	if c, err := parseTable(good); err != nil || !bytes.Equal(c.vcek, []byte{1, 2, 3}) || c.ark != nil {
		t.Fatal(c, err)
	}
	put := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	var many abi.CertTable
	for range maxCertificates + 1 {
		many.Entries = append(many.Entries, abi.CertTableEntry{GUID: uuid.UUID{1}})
	}
	twice := abi.CertTable{Entries: []abi.CertTableEntry{{GUID: guidVCEK, RawCert: []byte{1}}, {GUID: guidVCEK, RawCert: []byte{2}}}}
	for _, test := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"no end", good[:40], ErrTruncated},
		{"beyond", put(20, 4), ErrTruncated},
		{"offset and length that wrap", put(16, 1<<32-2), ErrTruncated},
		{"all of memory", put(20, 1<<32-1), ErrTruncated},
		{"many", many.Marshal(), ErrFormat},
		{"twice", twice.Marshal(), ErrFormat},
	} {
		if _, err := parseTable(test.b); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// FuzzTable checks that what is found lies in the table.
func FuzzTable(f *testing.F) {
	f.Add(tableOf(map[string][]byte{abi.VcekGUID: {1, 2, 3}}))
	f.Add(tableOf(map[string][]byte{abi.VcekGUID: {1}, abi.AskGUID: {2}, abi.ArkGUID: {3}, abi.VlekGUID: {4}, abi.AsvkGUID: {5}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseTable(b)
		if err != nil {
			return
		}
		for _, der := range [][]byte{c.vcek, c.vlek, c.intermediate, c.ark} {
			if len(der) > len(b) || der != nil && !bytes.Contains(b, der) {
				t.Fatal("a certificate from elsewhere")
			}
		}
	})
}

// FuzzQuote checks that a quote whose sizes fit does not make the library panic.
func FuzzQuote(f *testing.F) {
	f.Add(sapphireRapids())
	f.Add(sapphireRapids()[:1020])
	short := sapphireRapids()
	binary.LittleEndian.PutUint32(short[632:], 10)
	f.Add(short)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseQuote(b)
		if err != nil {
			return
		}
		if len(q.raw) > len(b) || len(q.enclave) != enclaveReport {
			t.Fatal("a quote from elsewhere")
		}
		for _, c := range q.chain {
			if c == nil {
				t.Fatal("no certificate")
			}
		}
		r := &Result{Kind: claims.KindTDX, At: when}
		if err := verifyTDX(&claims.Evidence{Kind: claims.KindTDX, Report: b}, anything(), &Options{}, r); err == nil && !bytes.Equal(q.raw, sapphireRapids()) {
			t.Fatal("a quote that nobody made is taken")
		}
	})
}
