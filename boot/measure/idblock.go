package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"keel/boot/igvm"
)

// ErrIDBlock says that an ID block or its authentication is not acceptable.
var ErrIDBlock = errors.New("ID block refused")

// Numbers of the ID block (SNP ABI 8.18 and chapter 10, "Signing algorithms").
const (
	idBlockVersion = 1
	algorithmP384  = 1 // ECDSA P-384 with SHA-384
	curveP384      = 2
	IDBlockSize    = 96     // bytes of an IDBlock
	IDAuthSize     = 0x1000 // bytes of an IDAuth
	publicKeySize  = 0x404
)

// IDBlock is what an SNP guest's owner signs (SNP ABI 8.18, table "Structure of
// the ID Block"): firmware launches nothing but a guest of this digest and
// policy, and reports the rest.
type IDBlock struct {
	LaunchDigest Digest
	FamilyID     [16]byte // the owner's own
	ImageID      [16]byte // the owner's own
	Version      uint32   // of this structure: 1
	GuestSVN     uint32   // security version of the guest
	Policy       uint64   // guest policy, see SNPPolicy
}

// Bytes encodes the block as firmware reads it: what the ID key signs.
func (b *IDBlock) Bytes() []byte { return wire(b) }

// ParseIDBlock decodes a block of IDBlockSize bytes.
func ParseIDBlock(raw []byte) (*IDBlock, error) {
	b := new(IDBlock)
	if err := unwire("ID block", raw, IDBlockSize, b); err != nil {
		return nil, err
	}
	if b.Version != idBlockVersion {
		return nil, fmt.Errorf("%w: version %d", ErrIDBlock, b.Version)
	}
	return b, nil
}

// Signature is an ECDSA signature for firmware: little-endian numbers with zeros
// behind them (SNP ABI, table "ECDSA P-384 with SHA-384 Signature").
type Signature struct {
	R, S     [72]byte
	Reserved [368]byte
}

// PublicKey is an ECDSA key for firmware: little-endian coordinates with zeros
// behind them (SNP ABI, table "ECDSA P-384 Public Key").
type PublicKey struct {
	Curve    uint32
	QX, QY   [72]byte
	Reserved [880]byte
}

// Digest is the SHA-384 by which an attestation report names the key
// (ID_KEY_DIGEST, AUTHOR_KEY_DIGEST).
func (k *PublicKey) Digest() Digest { return sha512.Sum384(wire(k)) }

// IDAuth is the authentication of an ID block (SNP ABI 8.18, table "Structure
// of the ID Authentication Information"): its signature, the key, and, if
// there is an author, the author's signature of that key.
type IDAuth struct {
	IDKeyAlgorithm     uint32
	AuthorKeyAlgorithm uint32 // zero without an author
	Reserved           [56]byte
	IDBlockSignature   Signature
	IDKey              PublicKey
	Reserved2          [60]byte
	IDKeySignature     Signature // by the author key
	AuthorKey          PublicKey // curve zero without an author
	Reserved3          [892]byte
}

// Bytes encodes the page as firmware reads it.
func (a *IDAuth) Bytes() []byte { return wire(a) }

// ParseIDAuth decodes a page of IDAuthSize bytes; reserved fields must be zero.
func ParseIDAuth(raw []byte) (*IDAuth, error) {
	a := new(IDAuth)
	if err := unwire("ID authentication", raw, IDAuthSize, a); err != nil {
		return nil, err
	}
	if err := a.checkReserved(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *IDAuth) checkReserved() error {
	zero := PublicKey{}.Reserved
	if a.Reserved != [56]byte{} || a.Reserved2 != [60]byte{} || a.Reserved3 != [892]byte{} ||
		a.IDBlockSignature.Reserved != [368]byte{} || a.IDKeySignature.Reserved != [368]byte{} ||
		a.IDKey.Reserved != zero || a.AuthorKey.Reserved != zero {
		return fmt.Errorf("%w: reserved bytes are not zero", ErrIDBlock)
	}
	return nil
}

// HasAuthor reports whether an author key vouches for the ID key.
func (a *IDAuth) HasAuthor() bool { return a.AuthorKey.Curve != 0 }

// wire encodes a struct of fixed size. It cannot fail on those of this package,
// whose sizes a test asserts.
func wire(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		return nil
	}
	return b
}

// unwire decodes a struct from exactly size bytes.
func unwire(what string, raw []byte, size int, into any) error {
	if len(raw) != size {
		return fmt.Errorf("%w: %s of %d bytes instead of %d", ErrIDBlock, what, len(raw), size)
	}
	if _, err := binary.Decode(raw, binary.LittleEndian, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrIDBlock, what, err)
	}
	return nil
}

// Header returns the directive that carries block and authentication in an IGVM
// file. The directive has no room for the policy: a loader takes it from
// GUEST_POLICY, which must be the one that was signed.
func Header(b *IDBlock, a *IDAuth, mask uint32) *igvm.SNPIDBlock {
	h := &igvm.SNPIDBlock{
		Mask: mask, LaunchDigest: b.LaunchDigest, FamilyID: b.FamilyID, ImageID: b.ImageID,
		Version: b.Version, GuestSVN: b.GuestSVN,
		IDKeyAlgorithm: a.IDKeyAlgorithm, AuthorKeyAlgorithm: a.AuthorKeyAlgorithm,
		IDKeySignature:     igvm.SNPSignature{R: a.IDBlockSignature.R, S: a.IDBlockSignature.S},
		IDPublicKey:        igvm.SNPPublicKey{Curve: a.IDKey.Curve, QX: a.IDKey.QX, QY: a.IDKey.QY},
		AuthorKeySignature: igvm.SNPSignature{R: a.IDKeySignature.R, S: a.IDKeySignature.S},
		AuthorPublicKey:    igvm.SNPPublicKey{Curve: a.AuthorKey.Curve, QX: a.AuthorKey.QX, QY: a.AuthorKey.QY},
	}
	if a.HasAuthor() {
		h.AuthorKeyEnabled = 1
	}
	return h
}

// FromHeader returns what a loader gives to firmware: the directive's block with
// the policy of the file, and its authentication. Without an author, whatever
// the directive holds for one is left out, as AUTHOR_KEY_EN is then zero.
func FromHeader(h *igvm.SNPIDBlock, policy uint64) (*IDBlock, *IDAuth) {
	b := &IDBlock{
		LaunchDigest: h.LaunchDigest, FamilyID: h.FamilyID, ImageID: h.ImageID,
		Version: h.Version, GuestSVN: h.GuestSVN, Policy: policy,
	}
	a := &IDAuth{
		IDKeyAlgorithm:   h.IDKeyAlgorithm,
		IDBlockSignature: Signature{R: h.IDKeySignature.R, S: h.IDKeySignature.S},
		IDKey:            PublicKey{Curve: h.IDPublicKey.Curve, QX: h.IDPublicKey.QX, QY: h.IDPublicKey.QY},
	}
	if h.AuthorKeyEnabled != 0 {
		a.AuthorKeyAlgorithm = h.AuthorKeyAlgorithm
		a.IDKeySignature = Signature{R: h.AuthorKeySignature.R, S: h.AuthorKeySignature.S}
		a.AuthorKey = PublicKey{Curve: h.AuthorPublicKey.Curve, QX: h.AuthorPublicKey.QX, QY: h.AuthorPublicKey.QY}
	}
	return b, a
}
