package measure

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"keel/boot/igvm"
)

// scalarSize is the size of a number of P-384 in bytes.
const scalarSize = 48

// signatureASN1 is an ECDSA signature as crypto/ecdsa has it (RFC 3279, 2.2.3).
type signatureASN1 struct{ R, S *big.Int }

// Identity is what the owner says of an image, besides its digest.
type Identity struct {
	FamilyID, ImageID [16]byte
	GuestSVN          uint32
}

// SignIDBlock signs a block with the ID key, and that key with the author key
// unless it is nil. Signatures are deterministic (RFC 6979): the same image and
// keys give the same bytes. Preconditions: keys come from ParseKey.
func SignIDBlock(b *IDBlock, id, author *ecdsa.PrivateKey) (*IDAuth, error) {
	a := &IDAuth{IDKeyAlgorithm: algorithmP384}
	var err error
	if a.IDKey, err = publicKey(&id.PublicKey); err != nil {
		return nil, err
	}
	if a.IDBlockSignature, err = sign(id, b.Bytes()); err != nil {
		return nil, err
	}
	if author == nil {
		return a, nil
	}
	a.AuthorKeyAlgorithm = algorithmP384
	if a.AuthorKey, err = publicKey(&author.PublicKey); err != nil {
		return nil, err
	}
	a.IDKeySignature, err = sign(author, wire(&a.IDKey))
	return a, err
}

// Verify checks the signatures over a block, as firmware does at the end of a
// launch. Whether the keys are the right ones is for the caller to say, who
// knows their digests. Errors are ErrIDBlock.
func (a *IDAuth) Verify(b *IDBlock) error {
	if err := a.checkReserved(); err != nil {
		return err
	}
	switch {
	case b.Version != idBlockVersion:
		return fmt.Errorf("%w: version %d", ErrIDBlock, b.Version)
	case a.IDKeyAlgorithm != algorithmP384:
		return fmt.Errorf("%w: ID key algorithm %d is not ECDSA P-384", ErrIDBlock, a.IDKeyAlgorithm)
	case a.HasAuthor() && a.AuthorKeyAlgorithm != algorithmP384:
		return fmt.Errorf("%w: author key algorithm %d is not ECDSA P-384", ErrIDBlock, a.AuthorKeyAlgorithm)
	}
	if err := verify(&a.IDKey, &a.IDBlockSignature, b.Bytes()); err != nil {
		return fmt.Errorf("%w: ID key: %w", ErrIDBlock, err)
	}
	if !a.HasAuthor() {
		return nil
	}
	if err := verify(&a.AuthorKey, &a.IDKeySignature, wire(&a.IDKey)); err != nil {
		return fmt.Errorf("%w: author key: %w", ErrIDBlock, err)
	}
	return nil
}

// AddIDBlock measures the SNP platform of a file and returns a copy of the file
// with a signed ID block for that digest and the file's policy; one that was
// there is replaced. The block itself is not measured.
func AddIDBlock(f *igvm.File, o Options, who Identity, id, author *ecdsa.PrivateKey) (*igvm.File, *Result, error) {
	mask, err := findPlatform(f, igvm.PlatformSNP)
	if err != nil {
		return nil, nil, err
	}
	out := *f
	out.Headers = slices.DeleteFunc(slices.Clone(f.Headers), func(h igvm.Header) bool {
		b, ok := h.(*igvm.SNPIDBlock)
		return ok && b.Mask&mask != 0
	})
	r, err := Measure(&out, igvm.PlatformSNP, o)
	if err != nil {
		return nil, nil, err
	}
	if !r.HasPolicy {
		return nil, nil, fmt.Errorf("%w: the image has no GUEST_POLICY to sign", ErrIDBlock)
	}
	if _, err := SNPPolicyOf(r.Policy); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrIDBlock, err)
	}
	b := &IDBlock{
		LaunchDigest: r.Digest, FamilyID: who.FamilyID, ImageID: who.ImageID,
		Version: idBlockVersion, GuestSVN: who.GuestSVN, Policy: r.Policy,
	}
	a, err := SignIDBlock(b, id, author)
	if err != nil {
		return nil, nil, err
	}
	r.IDBlock = Header(b, a, mask)
	// Behind the pages and in front of the registers: hosts may start the VP
	// when they see those.
	at := slices.IndexFunc(out.Headers, func(h igvm.Header) bool { return h.Type() == igvm.TypeVPContext })
	if at < 0 {
		at = len(out.Headers)
	}
	out.Headers = slices.Insert(out.Headers, at, igvm.Header(r.IDBlock))
	return &out, r, nil
}

// CheckIDBlock checks the ID block of a measured file: it must name the digest
// that was computed, and its signatures must hold for the file's policy. The
// caller compares the keys' digests with those that it trusts.
func (r *Result) CheckIDBlock() (*IDBlock, *IDAuth, error) {
	if r.IDBlock == nil {
		return nil, nil, fmt.Errorf("%w: the image has none; sign it", ErrIDBlock)
	}
	if !r.HasPolicy {
		return nil, nil, fmt.Errorf("%w: the image has no GUEST_POLICY that it could be for", ErrIDBlock)
	}
	b, a := FromHeader(r.IDBlock, r.Policy)
	if r.IDBlock.IDPublicKey.Reserved != 0 || r.IDBlock.AuthorPublicKey.Reserved != 0 {
		return nil, nil, fmt.Errorf("%w: reserved bytes are not zero", ErrIDBlock)
	}
	if r.IDBlock.AuthorKeyEnabled != 0 && !a.HasAuthor() {
		return nil, nil, fmt.Errorf("%w: author enabled without a key", ErrIDBlock)
	}
	if b.LaunchDigest != r.Digest {
		return nil, nil, fmt.Errorf("%w: it is for digest %v, the image has %v", ErrIDBlock, b.LaunchDigest, r.Digest)
	}
	if err := a.Verify(b); err != nil {
		return nil, nil, err
	}
	return b, a, nil
}

// sign signs with SHA-384.
func sign(key *ecdsa.PrivateKey, message []byte) (Signature, error) {
	sum := sha512.Sum384(message)
	// Without a source of randomness the signature is that of RFC 6979.
	der, err := key.Sign(nil, sum[:], crypto.SHA384)
	if err != nil {
		return Signature{}, fmt.Errorf("sign ID block: %w", err)
	}
	var v signatureASN1
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		return Signature{}, fmt.Errorf("sign ID block: %w", err)
	}
	return Signature{R: toFirmware(v.R.FillBytes(make([]byte, scalarSize))), S: toFirmware(v.S.FillBytes(make([]byte, scalarSize)))}, nil
}

// verify checks a signature with SHA-384.
func verify(key *PublicKey, s *Signature, message []byte) error {
	public, err := key.ECDSA()
	if err != nil {
		return err
	}
	r, okR := fromFirmware(&s.R)
	v, okS := fromFirmware(&s.S)
	if !okR || !okS {
		return fmt.Errorf("signature has more than %d bytes", scalarSize)
	}
	der, err := asn1.Marshal(signatureASN1{new(big.Int).SetBytes(r), new(big.Int).SetBytes(v)})
	if err != nil {
		return err
	}
	sum := sha512.Sum384(message)
	if !ecdsa.VerifyASN1(public, sum[:], der) {
		return fmt.Errorf("signature does not match")
	}
	return nil
}

// NewPublicKey returns a key in firmware's form; it must be on P-384.
func NewPublicKey(key *ecdsa.PublicKey) (*PublicKey, error) {
	k, err := publicKey(key)
	if err != nil {
		return nil, err
	}
	return &k, nil
}

func publicKey(key *ecdsa.PublicKey) (PublicKey, error) {
	point, err := key.Bytes()
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: public key: %w", ErrIDBlock, err)
	}
	// SEC 1, 2.3.3: 4, then the two coordinates.
	if key.Curve != elliptic.P384() || len(point) != 1+2*scalarSize {
		return PublicKey{}, fmt.Errorf("%w: key is on %s instead of P-384", ErrIDBlock, key.Curve.Params().Name)
	}
	return PublicKey{Curve: curveP384, QX: toFirmware(point[1 : 1+scalarSize]), QY: toFirmware(point[1+scalarSize:])}, nil
}

// ECDSA returns the key for crypto/ecdsa, if it is a point of P-384.
func (k *PublicKey) ECDSA() (*ecdsa.PublicKey, error) {
	if k.Curve != curveP384 {
		return nil, fmt.Errorf("curve %d is not P-384", k.Curve)
	}
	x, okX := fromFirmware(&k.QX)
	y, okY := fromFirmware(&k.QY)
	if !okX || !okY {
		return nil, fmt.Errorf("key has more than %d bytes a coordinate", scalarSize)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("key is no point of P-384: %w", err)
	}
	return key, nil
}

// toFirmware turns a big-endian number into a little-endian one with zeros
// behind it. Preconditions: b has scalarSize bytes.
func toFirmware(b []byte) (out [72]byte) {
	copy(out[:], b)
	slices.Reverse(out[:len(b)])
	return out
}

// fromFirmware is the reverse; not ok says that the number is too large.
func fromFirmware(in *[72]byte) (b []byte, ok bool) {
	b = slices.Clone(in[:scalarSize])
	slices.Reverse(b)
	return b, [72 - scalarSize]byte(in[scalarSize:]) == [72 - scalarSize]byte{}
}
