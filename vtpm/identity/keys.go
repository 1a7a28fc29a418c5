package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// policySecretEK is the policy of the low range's EKs: TPM2_PolicySecret with the
// endorsement hierarchy (EK Credential Profile 2.5, annex B.3.1, PolicyA).
var policySecretEK = []byte{
	0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
	0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
}

// Attributes of the keys.
const (
	primaryAttributes = objFixedTPM | objFixedParent | objSensitiveDataOrigin | objRestricted
	ekAttributes      = primaryAttributes | objAdminWithPolicy | objDecrypt
	srkAttributes     = primaryAttributes | objUserWithAuth | objNoDA | objDecrypt
	akAttributes      = primaryAttributes | objUserWithAuth | objNoDA | objSign
)

// template is a TPMT_PUBLIC up to its unique field, and how that looks.
type template struct {
	public []byte
	unique []int // sizes of the unique field's parts, in bytes
}

const (
	rsaBytes  = 2048 / 8
	p256Bytes = 256 / 8
)

// templateEKRSA is L-1 of the EK Credential Profile 2.5 (annex B.3.3).
var templateEKRSA = rsaTemplate(ekAttributes, policySecretEK, aes128CFB, []uint16{algNull})

// templateEKECC is L-2 of the EK Credential Profile 2.5 (annex B.3.4).
var templateEKECC = eccTemplate(ekAttributes, policySecretEK)

// templateSRK is the RSA key of the Provisioning Guidance 1.0, §7.5.1.
var templateSRK = rsaTemplate(srkAttributes, nil, aes128CFB, []uint16{algNull})

// templateAK is the attestation key of Azure's virtual TPM: RSASSA with SHA-256.
var templateAK = rsaTemplate(akAttributes, nil, []uint16{algNull}, []uint16{algRSASSA, algSHA256})

var aes128CFB = []uint16{algAES, 128, algCFB}

func templateHead(kind uint16, attributes uint32, policy []byte) []byte {
	b := be.AppendUint16(be.AppendUint16(nil, kind), algSHA256)
	return appendSized(be.AppendUint32(b, attributes), policy)
}

func rsaTemplate(attributes uint32, policy []byte, symmetric, scheme []uint16) template {
	b := templateHead(algRSA, attributes, policy)
	for _, v := range append(append([]uint16{}, symmetric...), scheme...) {
		b = be.AppendUint16(b, v)
	}
	b = be.AppendUint16(b, rsaBytes*8)
	return template{be.AppendUint32(b, 0), []int{rsaBytes}} // the default exponent
}

func eccTemplate(attributes uint32, policy []byte) template {
	b := templateHead(algECC, attributes, policy)
	for _, v := range append(append([]uint16{}, aes128CFB...), algNull, curveP256, algNull) {
		b = be.AppendUint16(b, v)
	}
	return template{b, []int{p256Bytes, p256Bytes}}
}

// marshal returns the template with a unique field of zeroes.
func (t template) marshal() []byte {
	b := bytes.Clone(t.public)
	for _, n := range t.unique {
		b = appendSized(b, make([]byte, n))
	}
	return b
}

// errTemplate reports a public area that is not of the template.
var errTemplate = errors.New("the public area is of another kind")

// key returns the public key in a TPMT_PUBLIC, which must be the template's in all but
// its unique field.
func (t template) key(public []byte) (crypto.PublicKey, error) {
	if !bytes.HasPrefix(public, t.public) {
		return nil, errTemplate
	}
	r := &reply{rest: public[len(t.public):]}
	var parts [][]byte
	for _, n := range t.unique {
		part := r.sized()
		if len(part) > n {
			return nil, errTemplate
		}
		parts = append(parts, part)
	}
	if r.short || len(r.rest) != 0 {
		return nil, errTemplate
	}
	if len(parts) == 1 {
		n := new(big.Int).SetBytes(parts[0])
		if n.BitLen() != rsaBytes*8 {
			return nil, errTemplate
		}
		return &rsa.PublicKey{N: n, E: 65537}, nil
	}
	// A coordinate may be shorter than the field.
	point := make([]byte, 1+2*p256Bytes)
	point[0] = 4
	for i, part := range parts {
		copy(point[1+(i+1)*p256Bytes-len(part):], part)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// createPrimary makes a primary key of a hierarchy, which the caller flushes. The same
// seed and template give the same key.
func createPrimary(tpm TPM, hierarchy uint32, t template) (handle uint32, public []byte, err error) {
	params := appendSized(nil, []byte{0, 0, 0, 0}) // no authorization value, no data
	params = appendSized(params, t.marshal())
	params = be.AppendUint16(params, 0) // no outside information
	params = be.AppendUint32(params, 0) // no creation PCRs
	handle, r, err := run(tpm, call{code: ccCreatePrimary, handles: []uint32{hierarchy}, auth: empty, params: params, handle: true})
	if err != nil {
		return handleFailed, nil, err
	}
	public = bytes.Clone(r.sized())
	if err := r.check("a primary key"); err != nil {
		return handleFailed, nil, errors.Join(err, flush(tpm, handle))
	}
	return handle, public, nil
}

func flush(tpm TPM, handle uint32) error {
	_, _, err := run(tpm, call{code: ccFlushContext, params: be.AppendUint32(nil, handle)})
	return err
}

// persist gives an object of the owner or endorsement hierarchy a persistent handle.
// Handles below 0x81800000 are the owner's to give.
func persist(tpm TPM, object, handle uint32) error {
	_, _, err := run(tpm, call{
		code: ccEvictControl, handles: []uint32{rhOwner, object}, auth: empty,
		params: be.AppendUint32(nil, handle),
	})
	return err
}

// readPublic returns the TPMT_PUBLIC at a persistent handle, nil when there is none.
func readPublic(tpm TPM, handle uint32) ([]byte, error) {
	found, err := hasHandle(tpm, handle)
	if err != nil || !found {
		return nil, err
	}
	_, r, err := run(tpm, call{code: ccReadPublic, handles: []uint32{handle}})
	if err != nil {
		return nil, err
	}
	public := bytes.Clone(r.sized())
	if err := r.check(fmt.Sprintf("the object %#x", handle)); err != nil {
		return nil, err
	}
	return public, nil
}
