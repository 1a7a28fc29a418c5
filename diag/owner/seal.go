package owner

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Recipient is an age X25519 public key (age-encryption.org/v1).
type Recipient struct{ key *age.X25519Recipient }

// ErrRecipient says that a text is no public key of age, or one to which nothing can be
// encrypted.
var ErrRecipient = errors.New("no age X25519 public key")

// ParseRecipient reads a public key, age1 and 58 more characters, and tries it.
func ParseRecipient(text string) (*Recipient, error) {
	const length = 62 // of 32 bytes in Bech32 with this prefix
	if len(text) != length || strings.ToLower(text) != text {
		return nil, fmt.Errorf("%w: %.80q", ErrRecipient, text)
	}
	key, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %.80q", ErrRecipient, text)
	}
	// A point of small order shows when it is used.
	if _, err := key.Wrap(make([]byte, 16)); err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrRecipient, text, err)
	}
	return &Recipient{key}, nil
}

// String returns the key as ParseRecipient reads it.
func (r *Recipient) String() string { return r.key.String() }

// Header begins everything that is sealed (C2SP age, "Header").
const Header = "age-encryption.org/v1\n"

// Seal returns a writer whose data reaches w encrypted to the recipient, in pieces of
// 64 KiB: what is not a whole piece yet waits for Close. Who has the data without its end
// can tell. What w sees says nothing but the size. That the data is of this VM it does not
// say: whoever has the public key can encrypt to it.
func (r *Recipient) Seal(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, r.key) }
