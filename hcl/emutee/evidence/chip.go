package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"keel/hcl/abi/snp"
)

// TCB is a TCB_VERSION of Milan: security patch levels of the boot loader (bits 7:0), the
// TEE (15:8), the SNP firmware (55:48) and the microcode (63:56).
type TCB uint64

// DefaultTCB is that of a machine that says nothing else.
const DefaultTCB TCB = 0xd3_16_00_00_00_00_00_04

// atLeast reports whether no level of t is below that of other.
func (t TCB) atLeast(other TCB) bool {
	for i := 0; i < 64; i += 8 {
		if uint8(t>>i) < uint8(other>>i) {
			return false
		}
	}
	return true
}

// ask signs the VCEK's certificate. The ARK's private key does not exist any more.
var ask = load("ask.pem", "ask_key.pem")

// Chip is the emulated AMD-SP of one machine: its identity and its VCEK follow from a
// secret of the machine. Its methods may be called from any goroutine.
type Chip struct {
	id     [64]byte
	tcb    TCB
	vcek   *ecdsa.PrivateKey
	root   []byte // what derived keys start from
	table  func() ([]byte, error)
	serial *big.Int
}

// NewChip returns the AMD-SP of the machine with that secret. As on hardware the VCEK
// depends on the TCB too.
func NewChip(secret []byte, tcb TCB) (*Chip, error) {
	c := &Chip{tcb: tcb}
	id, err := derive(secret, "chip id", len(c.id))
	if err != nil {
		return nil, err
	}
	copy(c.id[:], id)
	if c.vcek, err = deriveKey(elliptic.P384(), secret, fmt.Sprintf("VCEK %#x", uint64(tcb))); err != nil {
		return nil, err
	}
	if c.root, err = derive(secret, "key derivation", sha256.Size); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(id, uint64(tcb)))
	sum[0] &= 0x7f // positive and of at most 20 bytes (RFC 5280, section 4.1.2.2)
	c.serial = new(big.Int).SetBytes(sum[:20])
	c.table = sync.OnceValues(c.certificates)
	return c, nil
}

// ID is the CHIP_ID of the reports.
func (c *Chip) ID() [64]byte { return c.id }

// TCB is the version that the chip reports as current, committed and reported.
func (c *Chip) TCB() TCB { return c.tcb }

// Certificates returns the certificate table that goes with the reports (GHCB
// specification, section 4.1.8.1): VCEK, ASK and ARK. The first call signs the VCEK's
// certificate with RSA-4096, which an emulated machine takes long for.
func (c *Chip) Certificates() ([]byte, error) {
	t, err := c.table()
	return slices.Clone(t), err
}

// VCEKPublic is the key that verifies the reports.
func (c *Chip) VCEKPublic() *ecdsa.PublicKey { return &c.vcek.PublicKey }

// certificates makes the table.
func (c *Chip) certificates() ([]byte, error) {
	vcek, err := c.certify()
	if err != nil {
		return nil, err
	}
	askDER, _, err := file("ask.pem")
	if err != nil {
		return nil, err
	}
	arkDER, _, err := file("ark.pem")
	if err != nil {
		return nil, err
	}
	entries := []struct {
		guid string
		der  []byte
	}{{guidVCEK, vcek}, {guidASK, askDER}, {guidARK, arkDER}}
	table := make([]byte, tableEntry*(len(entries)+1))
	for i, e := range entries {
		head := table[i*tableEntry:]
		copy(head, e.guid)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(table)))
		binary.LittleEndian.PutUint32(head[20:], uint32(len(e.der)))
		table = append(table, e.der...)
	}
	return table, nil
}

// certify returns the VCEK's certificate. Its name is what KDS gives (AMD 57230, section
// 3.1), as verifiers insist on it; the street says what it is.
func (c *Chip) certify() ([]byte, error) {
	issuer, err := ask()
	if err != nil {
		return nil, err
	}
	extensions, err := c.extensions()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: c.serial,
		Subject: pkix.Name{
			Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
			Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
			CommonName: "SEV-VCEK", StreetAddress: []string{"Keel EMULATED VCEK, not AMD"},
		},
		NotBefore: issuer.cert.NotBefore, NotAfter: issuer.cert.NotAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, c.vcek.Public(), issuer.key)
	if err != nil {
		return nil, fmt.Errorf("%w: VCEK: %w", ErrKeys, err)
	}
	return der, nil
}

// extensions are what AMD puts into the certificate: product, TCB and chip.
func (c *Chip) extensions() ([]pkix.Extension, error) {
	var all []pkix.Extension
	add := func(arc []int, value any, params string) error {
		b, err := asn1.MarshalWithParams(value, params)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKeys, err)
		}
		all = append(all, pkix.Extension{Id: amdOID(arc), Value: b})
		return nil
	}
	if err := add(arcStructVersion, 0, ""); err != nil {
		return nil, err
	}
	if err := add(arcProductName, chipProduct, "ia5"); err != nil {
		return nil, err
	}
	for i, arc := range arcsTCB {
		if err := add(arc, int(uint8(c.tcb>>(8*i))), ""); err != nil {
			return nil, err
		}
	}
	// KDS puts the chip's identity in without an ASN.1 header.
	return append(all, pkix.Extension{Id: amdOID(arcHardwareID), Value: c.id[:]}), nil
}

func amdOID(arc []int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
}

// signReport puts the signature into a report (AMD 56860, "ECDSA P-384 with SHA-384
// Signature Format").
func (c *Chip) signReport(b []byte) error {
	r, s, err := sign(c.vcek, crypto.SHA384, b[:snp.REPORT_SIGNATURE])
	if err != nil {
		return err
	}
	for i, v := range []*big.Int{r, s} {
		field := b[snp.REPORT_SIGNATURE+i*snp.SIGNATURE_S:][:snp.SIGNATURE_S]
		v.FillBytes(field)
		slices.Reverse(field)
	}
	return nil
}
