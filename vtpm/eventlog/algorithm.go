package eventlog

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"
)

// Algorithm is a hash algorithm, and with it a bank of PCRs, by its TPM_ALG_ID (TCG
// Algorithm Registry §4).
type Algorithm uint16

// The algorithms that libtpms has banks for. It activates all four by default; Keel
// leaves SHA-256 and SHA-384 active when it manufactures a TPM. Linux asks for no
// SHA-1 bank: tpm_chip finds the banks by TPM2_GetCapability, and IMA takes SHA-256
// where SHA-1 is missing. A guest may activate the others again; then they are
// measured as well, as an active bank that nobody extends would let the guest write
// history itself.
const (
	SHA1   Algorithm = 0x0004
	SHA256 Algorithm = 0x000b
	SHA384 Algorithm = 0x000c
	SHA512 Algorithm = 0x000d
)

// Supported returns all algorithms, in the order of their numbers.
func Supported() []Algorithm { return []Algorithm{SHA1, SHA256, SHA384, SHA512} }

// New returns the hash of a, or nil where Keel does not know it.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	return nil
}

// Size returns the size of a digest in bytes, 0 where Keel does not know the algorithm.
func (a Algorithm) Size() int {
	switch a {
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

// String returns the name that tpm2-tools use, such as sha256.
func (a Algorithm) String() string {
	switch a {
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	}
	return fmt.Sprintf("algorithm %#04x", uint16(a))
}

// Digest is a digest with its algorithm (TPMT_HA).
type Digest struct {
	Algorithm Algorithm
	Value     []byte
}

// Sum returns the digests of data for some banks.
func Sum(banks []Algorithm, data []byte) []Digest {
	digests := make([]Digest, 0, len(banks))
	for _, a := range banks {
		if h := a.New(); h != nil {
			h.Write(data)
			digests = append(digests, Digest{a, h.Sum(nil)})
		}
	}
	return digests
}

// checkBanks refuses an empty or ambiguous list, and algorithms without a hash.
func checkBanks(banks []Algorithm) error {
	if len(banks) == 0 {
		return fmt.Errorf("no bank is active")
	}
	for i, a := range banks {
		if a.Size() == 0 {
			return fmt.Errorf("%v is not known", a)
		}
		if slices.Contains(banks[:i], a) {
			return fmt.Errorf("%v is named twice", a)
		}
	}
	return nil
}
