package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"keel/hcl/abi/snp"
)

func newChip(tb testing.TB, secret string) *Chip {
	tb.Helper()
	c, err := NewChip([]byte(secret), DefaultTCB)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// counted returns an array's bytes filled with a number each its own.
func counted(b []byte, from byte) {
	for i := range b {
		b[i] = from + byte(i)
	}
}

func fullGuest() *SNPGuest {
	g := &SNPGuest{Policy: snp.POLICY_RESERVED_ONE | snp.POLICY_SMT | 0x0137, GuestSVN: 0x11223344, AuthorKey: true, LaunchTCB: 0x0102030405060708}
	counted(g.Measurement[:], 1)
	counted(g.HostData[:], 2)
	counted(g.FamilyID[:], 3)
	counted(g.ImageID[:], 4)
	counted(g.IDKeyDigest[:], 5)
	counted(g.AuthorKeyDigest[:], 6)
	counted(g.ReportID[:], 7)
	return g
}

// TestSNPLayout has the offsets of AMD 56860, table "ATTESTATION_REPORT", once more.
func TestSNPLayout(t *testing.T) {
	c, g := newChip(t, "a"), fullGuest()
	req := &SNPRequest{VMPL: 2, Requester: 1}
	counted(req.Data[:], 8)
	b, err := c.Report(g, req)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 0x4a0 {
		t.Fatal(len(b))
	}
	le := binary.LittleEndian
	id := c.ID()
	tcb := le.AppendUint64(nil, uint64(DefaultTCB))
	fields := []struct {
		name string
		at   int
		want []byte
	}{
		{"VERSION", 0x00, []byte{3, 0, 0, 0}},
		{"GUEST_SVN", 0x04, []byte{0x44, 0x33, 0x22, 0x11}},
		{"POLICY", 0x08, []byte{0x37, 0x01, 0x03, 0, 0, 0, 0, 0}},
		{"FAMILY_ID", 0x10, g.FamilyID[:]},
		{"IMAGE_ID", 0x20, g.ImageID[:]},
		{"VMPL", 0x30, []byte{2, 0, 0, 0}},
		{"SIGNATURE_ALGO", 0x34, []byte{1, 0, 0, 0}},
		{"CURRENT_TCB", 0x38, tcb},
		{"PLATFORM_INFO", 0x40, make([]byte, 8)},
		{"AUTHOR_KEY_EN", 0x48, []byte{1, 0, 0, 0, 0, 0, 0, 0}},
		{"REPORT_DATA", 0x50, req.Data[:]},
		{"MEASUREMENT", 0x90, g.Measurement[:]},
		{"HOST_DATA", 0xc0, g.HostData[:]},
		{"ID_KEY_DIGEST", 0xe0, g.IDKeyDigest[:]},
		{"AUTHOR_KEY_DIGEST", 0x110, g.AuthorKeyDigest[:]},
		{"REPORT_ID", 0x140, g.ReportID[:]},
		{"REPORT_ID_MA", 0x160, bytes.Repeat([]byte{0xff}, 32)},
		{"REPORTED_TCB", 0x180, tcb},
		{"CPUID", 0x188, []byte{0x19, 0x01, 0x01}},
		{"reserved", 0x18b, make([]byte, 0x15)},
		{"CHIP_ID", 0x1a0, id[:]},
		{"COMMITTED_TCB", 0x1e0, tcb},
		{"CURRENT", 0x1e8, []byte{21, 55, 1, 0}},
		{"COMMITTED", 0x1ec, []byte{21, 55, 1, 0}},
		{"LAUNCH_TCB", 0x1f0, []byte{8, 7, 6, 5, 4, 3, 2, 1}},
		{"reserved", 0x1f8, make([]byte, 0x2a0-0x1f8)},
	}
	end := 0
	for _, f := range fields {
		if f.at != end {
			t.Errorf("the table has a gap at %#x", end)
		}
		end = f.at + len(f.want)
		if got := b[f.at:end]; !bytes.Equal(got, f.want) {
			t.Errorf("%s at %#x: % x, wanted % x", f.name, f.at, got, f.want)
		}
	}
	if !bytes.Equal(b[0x2a0+144:], make([]byte, 512-144)) {
		t.Error("bytes after the signature")
	}
	little := func(b []byte) *big.Int { b = bytes.Clone(b); slices.Reverse(b); return new(big.Int).SetBytes(b) }
	sum := sha512.Sum384(b[:0x2a0])
	der, err := asn1.Marshal(struct{ R, S *big.Int }{little(b[0x2a0:][:72]), little(b[0x2e8:][:72])})
	if err != nil || !ecdsa.VerifyASN1(c.VCEKPublic(), sum[:], der) {
		t.Error("wrong signature", err)
	}
	again, err := c.Report(g, req)
	if err != nil || !bytes.Equal(again, b) {
		t.Error("the same report has other bytes", err)
	}
}

func TestSNPVariants(t *testing.T) {
	c, g := newChip(t, "a"), &SNPGuest{Policy: snp.POLICY_RESERVED_ONE}
	b, err := c.Report(g, &SNPRequest{Version: 2, HideChipID: true})
	if err != nil {
		t.Fatal(err)
	}
	if b[0] != 2 || !bytes.Equal(b[0x188:0x1e0], make([]byte, 0x58)) || b[0x48] != 2 {
		t.Errorf("% x, signer info %#x", b[0x188:0x1e0], b[0x48])
	}
	if binary.LittleEndian.Uint64(b[0x1f0:]) != uint64(DefaultTCB) {
		t.Error("launched at another TCB than the chip's")
	}
	for _, test := range []struct {
		name string
		g    *SNPGuest
		req  *SNPRequest
	}{
		{"version 1", g, &SNPRequest{Version: 1}},
		{"version 4", g, &SNPRequest{Version: 4}},
		{"VMPL 4", g, &SNPRequest{VMPL: 4}},
		{"VMPL below the requester's", g, &SNPRequest{VMPL: 1, Requester: 2}},
		{"policy", &SNPGuest{}, &SNPRequest{}},
	} {
		if _, err := c.Report(test.g, test.req); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestDeriveKey changes one thing at a time.
func TestDeriveKey(t *testing.T) {
	c, g := newChip(t, "a"), fullGuest()
	all := KeyRequest{Fields: selectAll, VMPL: 1, GuestSVN: 5, TCB: 4}
	key := func(c *Chip, g *SNPGuest, req KeyRequest) [32]byte {
		t.Helper()
		k, err := c.DeriveKey(g, &req)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(c, g, all)
	if base != key(newChip(t, "a"), fullGuest(), all) {
		t.Error("the same request has another key")
	}
	if base == key(newChip(t, "b"), g, all) {
		t.Error("two machines have one key")
	}
	for _, test := range []struct {
		name string
		bit  uint64
		f    func(g *SNPGuest, r *KeyRequest)
	}{
		{"policy", SelectPolicy, func(g *SNPGuest, _ *KeyRequest) { g.Policy ^= snp.POLICY_SMT }},
		{"image", SelectImageID, func(g *SNPGuest, _ *KeyRequest) { g.ImageID[0]++ }},
		{"family", SelectFamilyID, func(g *SNPGuest, _ *KeyRequest) { g.FamilyID[0]++ }},
		{"measurement", SelectMeasurement, func(g *SNPGuest, _ *KeyRequest) { g.Measurement[47]++ }},
		{"SVN", SelectGuestSVN, func(_ *SNPGuest, r *KeyRequest) { r.GuestSVN++ }},
		{"TCB", SelectTCB, func(_ *SNPGuest, r *KeyRequest) { r.TCB-- }},
	} {
		other, req := fullGuest(), all
		test.f(other, &req)
		if key(c, other, req) == base {
			t.Errorf("%s: selected and not mixed in", test.name)
		}
		without, plain := req, all
		without.Fields &^= test.bit
		plain.Fields &^= test.bit
		if key(c, other, without) != key(c, g, plain) {
			t.Errorf("%s: not selected and mixed in", test.name)
		}
		if key(c, g, plain) == base {
			t.Errorf("%s: the selection itself is not mixed in", test.name)
		}
	}
	level := all
	level.VMPL = 2
	if key(c, g, level) == base {
		t.Error("two VMPLs have one key")
	}
	for _, bad := range []KeyRequest{
		{VMRK: true},
		{Fields: 1 << 6},
		{VMPL: 4},
		{VMPL: 0, Requester: 1},
		{Fields: SelectGuestSVN, GuestSVN: g.GuestSVN + 1},
		{Fields: SelectTCB, TCB: DefaultTCB + 1},
		{Fields: SelectTCB, TCB: 5}, // one level above, the others below
	} {
		if _, err := c.DeriveKey(g, &bad); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestNames wants every certificate of both chains to say what it is.
func TestNames(t *testing.T) {
	table, err := newChip(t, "a").Certificates()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		at, n := binary.LittleEndian.Uint32(table[24*i+16:]), binary.LittleEndian.Uint32(table[24*i+20:])
		checkName(t, table[at:at+n], "not AMD")
	}
	if !bytes.Equal(table[72:96], make([]byte, 24)) {
		t.Error("the table has no end")
	}
}

func checkName(t *testing.T, der []byte, who string) {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{c.Subject.String(), c.Issuer.String()} {
		if !strings.Contains(name, "Keel EMULATED") || !strings.Contains(name, who) {
			t.Errorf("%s does not say what it is", name)
		}
	}
}
