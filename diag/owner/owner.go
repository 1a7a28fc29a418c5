// Package owner is what the owner of a VM has to do with its diagnostics: the two public
// keys in the image, what is encrypted to the one, and the calls that are signed for the
// other. Both ends use it; files with keys are read by package keyfile, on the host alone.
//
// The keys are measured with the image, so that the host can neither add nor take any.
package owner

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Keys are the public keys of an owner. An image without an owner has none of them.
type Keys struct {
	Recipient *Recipient        // to which private answers are encrypted; nil for none
	Signer    ed25519.PublicKey // of the signatures under calls; nil for none
}

// ErrKeys says that the keys of an image make no sense.
var ErrKeys = errors.New("the owner's keys in the image make no sense")

// A manifest has a line for each key: "owner", what it is for, and the key.
const (
	lineRecipient = "owner recipient " // age1…
	lineSigner    = "owner signer "    // 64 hexadecimal digits
	linePrefix    = "owner "
)

// Manifest returns the lines of the keys in an image's manifest, none without keys.
func (k Keys) Manifest() string {
	var b strings.Builder
	if k.Recipient != nil {
		fmt.Fprintf(&b, "%s%s\n", lineRecipient, k.Recipient)
	}
	if k.Signer != nil {
		fmt.Fprintf(&b, "%s%x\n", lineSigner, []byte(k.Signer))
	}
	return b.String()
}

// ParseManifest reads the keys of a manifest. Lines of others are ignored. A key that is
// malformed, unknown or there twice is an error: an image must not seem to have no owner.
func ParseManifest(text string) (k Keys, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if value, ok := strings.CutPrefix(line, lineRecipient); ok && k.Recipient == nil {
			if k.Recipient, err = ParseRecipient(value); err != nil {
				return Keys{}, fmt.Errorf("%w: %w", ErrKeys, err)
			}
			continue
		}
		if value, ok := strings.CutPrefix(line, lineSigner); ok && k.Signer == nil {
			if k.Signer, err = hex.DecodeString(value); err != nil || len(k.Signer) != ed25519.PublicKeySize {
				return Keys{}, fmt.Errorf("%w: signer %.80q", ErrKeys, value)
			}
			continue
		}
		if strings.HasPrefix(line, linePrefix) {
			return Keys{}, fmt.Errorf("%w: line %.80q", ErrKeys, line)
		}
	}
	return k, nil
}
