package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"
)

func newPlatform(tb testing.TB, secret string) *Platform {
	tb.Helper()
	p, err := NewPlatform([]byte(secret))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func fullTD() *TD {
	d := &TD{Attributes: 0x1122334455667788, XFAM: 0x99aabbccddeeff00}
	counted(d.MRTD[:], 1)
	counted(d.MRConfigID[:], 2)
	counted(d.MROwner[:], 3)
	counted(d.MROwnerConfig[:], 4)
	for i := range d.RTMR {
		counted(d.RTMR[i][:], byte(5+i))
	}
	counted(d.ServTDHash[:], 9)
	return d
}

// TestTDReportLayout has the offsets of the TDX module ABI's TDREPORT_STRUCT once more.
func TestTDReportLayout(t *testing.T) {
	p, d := newPlatform(t, "a"), fullTD()
	var data [64]byte
	counted(data[:], 0x40)
	b := p.Report(d, data)
	if len(b) != 1024 {
		t.Fatal(len(b))
	}
	seam := seamDigest()
	infoHash, tcbHash := sha512.Sum384(b[512:]), sha512.Sum384(b[256:495])
	fields := []struct {
		name string
		at   int
		want []byte
	}{
		{"REPORTTYPE", 0, []byte{0x81, 0, 0, 0}},
		{"reserved", 4, make([]byte, 12)},
		{"CPUSVN", 16, []byte(svnCPU)},
		{"TEE_TCB_INFO_HASH", 32, tcbHash[:]},
		{"TEE_INFO_HASH", 80, infoHash[:]},
		{"REPORTDATA", 128, data[:]},
		{"reserved", 192, make([]byte, 32)},
		{"MAC", 224, p.reportMAC(b)},
		{"VALID", 256, []byte{0xff, 0x01, 0x03, 0, 0, 0, 0, 0}},
		{"TEE_TCB_SVN", 264, []byte(svnTEE)},
		{"MRSEAM", 280, seam[:]},
		{"MRSIGNERSEAM", 328, make([]byte, 48)},
		{"ATTRIBUTES", 376, make([]byte, 8)},
		{"TEE_TCB_SVN2", 384, []byte(svnTEE)},
		{"reserved", 400, make([]byte, 112)},
		{"ATTRIBUTES", 512, binary.LittleEndian.AppendUint64(nil, d.Attributes)},
		{"XFAM", 520, binary.LittleEndian.AppendUint64(nil, d.XFAM)},
		{"MRTD", 528, d.MRTD[:]},
		{"MRCONFIGID", 576, d.MRConfigID[:]},
		{"MROWNER", 624, d.MROwner[:]},
		{"MROWNERCONFIG", 672, d.MROwnerConfig[:]},
		{"RTMR0", 720, d.RTMR[0][:]},
		{"RTMR1", 768, d.RTMR[1][:]},
		{"RTMR2", 816, d.RTMR[2][:]},
		{"RTMR3", 864, d.RTMR[3][:]},
		{"SERVTD_HASH", 912, d.ServTDHash[:]},
		{"reserved", 960, make([]byte, 64)},
	}
	end := 0
	for _, f := range fields {
		if f.at != end {
			t.Errorf("the table has a gap at %d", end)
		}
		end = f.at + len(f.want)
		if got := b[f.at:end]; !bytes.Equal(got, f.want) {
			t.Errorf("%s at %d: % x, wanted % x", f.name, f.at, got, f.want)
		}
	}
	if end != len(b) {
		t.Errorf("the table ends at %d", end)
	}
}

// TestVerifyReport changes each byte: the MAC or one of the hashes must notice.
func TestVerifyReport(t *testing.T) {
	p := newPlatform(t, "a")
	b := p.Report(fullTD(), [64]byte{})
	if err := p.VerifyReport(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 1 << (i % 8)
		// 17 bytes between TEE_TCB_INFO and TDINFO are reserved and nowhere covered.
		if covered := i < 495 || i >= 512; covered == (p.VerifyReport(b) == nil) {
			t.Errorf("byte %d changed: taken is %v", i, !covered)
		}
		b[i] ^= 1 << (i % 8)
	}
	if err := newPlatform(t, "b").VerifyReport(b); !errors.Is(err, ErrRequest) {
		t.Errorf("another machine's report: %v", err)
	}
	if _, err := p.Quote(b[:1023]); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	b[528]++
	if _, err := p.Quote(b); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
}

// TestQuoteLayout has the offsets of Intel's quote of version 4 once more.
func TestQuoteLayout(t *testing.T) {
	p, d := newPlatform(t, "a"), fullTD()
	var data [64]byte
	counted(data[:], 0x40)
	report := p.Report(d, data)
	q, err := p.Quote(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		at   int
		want []byte
	}{
		{"version, key type, TEE type", 0, []byte{4, 0, 2, 0, 0x81, 0, 0, 0}},
		{"SVNs", 8, make([]byte, 4)},
		{"vendor", 12, []byte("KEEL EMULATED QE")},
		{"TEE_TCB_SVN", 48, report[264:280]},
		{"MRSEAM, MRSIGNERSEAM, attributes", 64, report[280:384]},
		{"ATTRIBUTES, XFAM", 168, report[512:528]},
		{"MRTD", 184, d.MRTD[:]},
		{"MRCONFIGID", 232, d.MRConfigID[:]},
		{"MROWNER", 280, d.MROwner[:]},
		{"MROWNERCONFIG", 328, d.MROwnerConfig[:]},
		{"RTMR0", 376, d.RTMR[0][:]},
		{"RTMR3", 520, d.RTMR[3][:]},
		{"REPORTDATA", 568, data[:]},
		{"size", 632, binary.LittleEndian.AppendUint32(nil, uint32(len(q)-636))},
		{"QE report type", 636 + 128, []byte{6, 0}},
	} {
		if got := q[f.at:][:len(f.want)]; !bytes.Equal(got, f.want) {
			t.Errorf("%s at %d: % x, wanted % x", f.name, f.at, got, f.want)
		}
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q[700:764]...))
	if err != nil {
		t.Fatal(err)
	}
	checkSignature(t, key, q[:632], q[636:700])

	enclave := q[770:][:384]
	authData := q[770+384+64+2:][:32]
	sum := sha256.Sum256(append(bytes.Clone(q[700:764]), authData...))
	if !bytes.Equal(enclave[320:352], sum[:]) || !bytes.Equal(enclave[352:], make([]byte, 32)) {
		t.Error("the enclave does not speak for the key")
	}
	chain := q[770+384+64+2+32+6:]
	var certs []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		checkName(t, block.Bytes, "not Intel")
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 3 {
		t.Fatal(len(certs))
	}
	pck, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatal("the PCK is no ECDSA key")
	}
	checkSignature(t, pck, enclave, q[770+384:][:64])
}

func checkSignature(t *testing.T, key *ecdsa.PublicKey, message, signature []byte) {
	t.Helper()
	sum := sha256.Sum256(message)
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
	if err != nil || !ecdsa.VerifyASN1(key, sum[:], der) {
		t.Error("wrong signature", err)
	}
}

// TestCollateralSigned wants the signature over the bytes as they stand.
func TestCollateralSigned(t *testing.T) {
	c, err := Collateral(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), -1)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(c.SigningChain)
	checkName(t, block.Bytes, "not Intel")
	for name, text := range map[string][]byte{"tcbInfo": c.TCBInfo, "enclaveIdentity": c.QEIdentity} {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil || members[name] == nil || members["signature"] == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
