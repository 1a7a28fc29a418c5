package claims

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func rsaKey() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 2048)
	return &rsa.PublicKey{N: n.Sub(n, big.NewInt(1)), E: 65537}
}

func ecKey(tb testing.TB) *ecdsa.PublicKey {
	tb.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 5))
	if err != nil {
		tb.Fatal(err)
	}
	return &key.PublicKey
}

func someClaim() *Claim {
	return &Claim{Nonce: bytes.Repeat([]byte{7}, 20), EK: [32]byte{1}, AK: [32]byte{2}, Config: [32]byte{3}, Instance: [16]byte{15: 4}}
}

func TestClaimLayout(t *testing.T) {
	b, err := someClaim().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 192)
	copy(want, "KEELCLM\x00\x01\x00\x00\x00\x14\x00\x00\x00")
	copy(want[16:], bytes.Repeat([]byte{7}, 20))
	want[80], want[112], want[144], want[191] = 1, 2, 3, 4
	if !bytes.Equal(b, want) {
		t.Fatalf("% x", b)
	}
	if ReportData(b) != sha512.Sum512(want) {
		t.Error("the report data is not the SHA-512")
	}
	c, err := ParseClaim(b)
	if err != nil || !bytes.Equal(c.Nonce, someClaim().Nonce) || c.Instance != someClaim().Instance {
		t.Fatal(c, err)
	}
	for _, test := range []struct {
		name string
		f    func([]byte) []byte
		want error
	}{
		{"short", func(b []byte) []byte { return b[:191] }, ErrTruncated},
		{"long", func(b []byte) []byte { return append(b, 0) }, ErrFormat},
		{"magic", func(b []byte) []byte { b[0] = 'k'; return b }, ErrFormat},
		{"version", func(b []byte) []byte { b[8] = 2; return b }, ErrVersion},
		{"nonce too short", func(b []byte) []byte { b[12] = 15; return b }, ErrFormat},
		{"nonce too long", func(b []byte) []byte { b[12] = 65; return b }, ErrFormat},
		{"after the nonce", func(b []byte) []byte { b[40] = 1; return b }, ErrFormat},
	} {
		if _, err := ParseClaim(test.f(bytes.Clone(b))); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := (&Claim{Nonce: make([]byte, n)}).Marshal(); !errors.Is(err, ErrFormat) {
			t.Errorf("a nonce of %d bytes: %v", n, err)
		}
	}
}

func TestDigestKeys(t *testing.T) {
	both, err := DigestKeys(rsaKey(), ecKey(t))
	if err != nil {
		t.Fatal(err)
	}
	swapped, _ := DigestKeys(ecKey(t), rsaKey())
	one, _ := DigestKeys(rsaKey())
	none, _ := DigestKeys()
	if both == swapped || both == one || none != [32]byte{} {
		t.Error("digests do not tell the keys apart")
	}
	if _, err := DigestKeys("no key"); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func someRuntime(tb testing.TB, ek crypto.PublicKey) []byte {
	tb.Helper()
	c := RuntimeClaims{Configuration: Configuration{SecureBoot: true, TPMEnabled: true, TPMPersisted: true, UniqueID: "00112233-4455-6677-8899-AABBCCDDEEFF"}}
	for _, k := range []struct {
		id  string
		pub crypto.PublicKey
	}{{KeyAK, rsaKey()}, {KeyEK, ek}} {
		key, err := NewKey(k.id, k.pub)
		if err != nil {
			tb.Fatal(err)
		}
		c.Keys = append(c.Keys, key)
	}
	b, err := c.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestRuntime(t *testing.T) {
	for _, ek := range []crypto.PublicKey{rsaKey(), ecKey(t)} {
		b := someRuntime(t, ek)
		var members map[string]json.RawMessage
		if err := json.Unmarshal(b, &members); err != nil || members["keys"] == nil || members["vm-configuration"] == nil || members["user-data"] != nil {
			t.Errorf("%v: %s", err, b)
		}
		c, err := ParseRuntime(b)
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]crypto.PublicKey{KeyAK: rsaKey(), KeyEK: ek} {
			got, err := c.Key(id)
			if err != nil {
				t.Fatal(err)
			}
			if eq, ok := got.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(want) {
				t.Errorf("%s: %v", id, got)
			}
		}
		if _, err := c.Key("HCLTransferKey"); !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		c.Keys = append(c.Keys, c.Keys[0])
		if _, err := c.Key(KeyAK); !errors.Is(err, ErrFormat) {
			t.Error("two keys of one name:", err)
		}
	}
	// libtpms' indices hold 2,048 bytes: an RSA AK and an ECC EK fit, two RSA keys do not.
	report := HCLReport{Type: ReportSNP, Hardware: make([]byte, HardwareReportSize), Runtime: someRuntime(t, ecKey(t))}
	if _, err := report.Marshal(2048); err != nil {
		t.Error(err)
	}
	report.Runtime = someRuntime(t, rsaKey())
	if _, err := report.Marshal(2048); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if _, err := report.Marshal(2900); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "{", "[]", "{} {}", `{"keys":1}`, `{"keys":[` + strings.Repeat("{},", 8) + `{}]}`, strings.Repeat(" ", MaxRuntime+1)} {
		if _, err := ParseRuntime([]byte(bad)); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	for _, bad := range []Key{
		{Type: "RSA", N: "AQAB", E: "AQAB"}, {Type: "RSA", N: "!", E: "AQAB"}, {Type: "EC", Curve: "P-256", X: "AA", Y: "AA"}, {Type: "EC", Curve: "P-384"}, {Type: "oct"},
	} {
		if _, err := bad.Public(); !errors.Is(err, ErrFormat) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := NewKey(KeyAK, "no key"); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

// someHCL returns a report that is bound to its claims.
func someHCL(tb testing.TB, kind ReportType, hash HashType) *HCLReport {
	tb.Helper()
	r := &HCLReport{Type: kind, Hash: hash, Request: RequestAKCert, Runtime: someRuntime(tb, ecKey(tb))}
	size, _ := hardwareSize(kind)
	r.Hardware = make([]byte, size)
	data, ok := RuntimeData(hash, r.Runtime)
	if !ok {
		tb.Fatal("no hash")
	}
	if kind == ReportSNP {
		copy(r.Hardware[0x50:], data[:])
	} else {
		copy(r.Hardware[128:], data[:])
	}
	return r
}

// TestHCLLayout has the numbers from Microsoft's design document.
func TestHCLLayout(t *testing.T) {
	r := someHCL(t, ReportSNP, HashSHA256)
	b, err := r.Marshal(2048)
	if err != nil {
		t.Fatal(err)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	n := uint32(len(r.Runtime))
	for at, want := range map[int]uint32{0: 0x414c4348, 4: 2, 8: 1236 + n, 12: 2, 16: 0, 20: 0, 28: 0, 1216: 20 + n, 1220: 1, 1224: 2, 1228: 1, 1232: n} {
		if u32(at) != want {
			t.Errorf("at %d: %#x, wanted %#x", at, u32(at), want)
		}
	}
	if !bytes.Equal(b[32:1216], r.Hardware) || !bytes.Equal(b[1236:], r.Runtime) {
		t.Error("report or claims are elsewhere")
	}
	sum := sha256.Sum256(r.Runtime)
	if !bytes.Equal(b[32+0x50:][:32], sum[:]) || !bytes.Equal(b[32+0x70:][:32], make([]byte, 32)) {
		t.Error("the report data are not the hash and zeros")
	}
	binary.LittleEndian.PutUint32(b[4:], 1) // of Azure's first machines
	if _, err := ParseHCLReport(b); err != nil {
		t.Error(err)
	}
}

func TestHCLRoundTrip(t *testing.T) {
	for _, kind := range []ReportType{ReportSNP, ReportTDX} {
		for _, hash := range []HashType{HashSHA256, HashSHA384, HashSHA512} {
			r := someHCL(t, kind, hash)
			b, err := r.Marshal(2900)
			if err != nil {
				t.Fatal(err)
			}
			for _, fill := range []byte{0, 0xff} {
				got, err := ParseHCLReport(append(bytes.Clone(b), bytes.Repeat([]byte{fill}, 2900-len(b))...))
				if err != nil {
					t.Fatal(err)
				}
				if got.Type != kind || got.Hash != hash || !bytes.Equal(got.Hardware, r.Hardware) || !bytes.Equal(got.Runtime, r.Runtime) || !got.Bound() {
					t.Errorf("type %d, hash %d: %v", kind, hash, got.Bound())
				}
				got.Runtime[0]++
				if got.Bound() {
					t.Error("bound to other claims")
				}
			}
		}
	}
	none := HCLReport{Runtime: []byte("{}")}
	b, err := none.Marshal(2048)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseHCLReport(b); err != nil || got.Bound() {
		t.Error(got, err)
	}
}

func TestHCLRefusals(t *testing.T) {
	good, err := someHCL(t, ReportTDX, HashSHA256).Marshal(2900)
	if err != nil {
		t.Fatal(err)
	}
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	for _, test := range []struct {
		name string
		f    func([]byte) []byte
		want error
	}{
		{"empty", func([]byte) []byte { return nil }, ErrTruncated},
		{"no claims", func(b []byte) []byte { return b[:1235] }, ErrTruncated},
		{"claims cut", func(b []byte) []byte { return b[:len(b)-1] }, ErrTruncated},
		{"signature", put(0, 0x414c4349), ErrFormat},
		{"version 0", put(4, 0), ErrVersion},
		{"version 3", put(4, 3), ErrVersion},
		{"size", put(8, 1184), ErrFormat},
		{"request", put(12, 4), ErrVersion},
		{"reserved", put(28, 1), ErrFormat},
		{"after the TDREPORT", put(32+1024, 1), ErrFormat},
		{"data size", put(1216, 1), ErrFormat},
		{"data version", put(1220, 2), ErrVersion},
		{"VBS", put(1224, 1), ErrVersion},
		{"hash 0", put(1228, 0), ErrVersion},
		{"hash 4", put(1228, 4), ErrVersion},
		{"huge claims", put(1232, 1<<32-1), ErrSize},
		{"claims that wrap", put(1232, 1<<32-20), ErrSize},
		{"rest", func(b []byte) []byte { return append(b, 1) }, ErrFormat},
	} {
		if _, err := ParseHCLReport(test.f(bytes.Clone(good))); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, wanted is %v", test.name, err, test.want)
		}
	}
	for _, bad := range []HCLReport{{Type: ReportSNP, Hardware: make([]byte, 1024)}, {Type: ReportNone, Hardware: make([]byte, 1)}, {Type: 9}} {
		if _, err := bad.Marshal(2900); !errors.Is(err, ErrFormat) {
			t.Errorf("%+v: %v", bad.Type, err)
		}
	}
}

func TestEvidence(t *testing.T) {
	e := &Evidence{Kind: KindTDX, Report: []byte{1}, Claim: []byte{2}}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseEvidence(b); err != nil || !bytes.Equal(got.Report, e.Report) || got.Kind != KindTDX {
		t.Error(got, err)
	}
	for _, test := range []struct {
		text string
		want error
	}{
		{"", ErrFormat},
		{"{", ErrFormat},
		{`{"version":2,"kind":"snp","shape":"new"}`, ErrVersion},
		{`{"version":1,"kind":"sgx"}`, ErrVersion},
		{`{"version":1,"kind":"snp","more":1}`, ErrFormat},
		{`{"version":1,"kind":"snp","report":7}`, ErrFormat},
		{strings.Repeat(" ", MaxEvidence+1), ErrSize},
	} {
		if _, err := ParseEvidence([]byte(test.text)); !errors.Is(err, test.want) {
			t.Errorf("%.30q: %v", test.text, err)
		}
	}
	for _, big := range []*Evidence{{Kind: KindSNP, Report: make([]byte, maxReport+1)}, {Kind: KindSNP, Certificates: make([]byte, maxTable+1)}, {Kind: KindSNP, Claim: make([]byte, ClaimSize+1)}} {
		if _, err := big.Marshal(); !errors.Is(err, ErrSize) {
			t.Error(err)
		}
	}
}
