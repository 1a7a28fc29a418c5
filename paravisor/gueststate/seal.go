package gueststate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

// Hint is what a Provider keeps beside the state to find its key again, such as the
// version of the firmware that a key was derived for. It is not secret.
type Hint [32]byte

// Provider has the keys with which state is sealed.
type Provider interface {
	// Name is how the disk names the provider, 1 to MaxName bytes of printable ASCII.
	Name() string
	// Hint belongs to the key of what is sealed from now on.
	Hint() Hint
	// Key returns the key of a hint, KeyBytes that cannot be guessed. The hint may
	// come from the disk and then is the host's.
	Key(Hint) ([]byte, error)
}

// one is the provider of one key.
type one struct {
	name string
	key  [KeyBytes]byte
}

// HostKeyName is the name of the provider that HostKey returns.
const HostKeyName = "host-key"

// HostKey returns the provider of a key that the host gave. It hides the state from
// whoever gets the disk without the host's configuration, and from nobody else.
func HostKey(key []byte) (Provider, error) { return newOne(HostKeyName, key) }

// TEEKey returns the provider of a key that a TEE derived for this image. It hides the
// state from the host, unless the TEE is an emulated one, whose name says so.
func TEEKey(kind string, emulated bool, key []byte) (Provider, error) {
	if emulated {
		kind = "emulated-" + kind
	}
	return newOne(kind, key)
}

// ReleasedKeyName is the name of the provider that ReleasedKey returns.
const ReleasedKeyName = "released"

// ReleasedKey returns the provider of a key that a key server released against evidence of
// this VM. It hides the state from the host, as far as the server's policy does.
func ReleasedKey(key []byte) (Provider, error) { return newOne(ReleasedKeyName, key) }

func newOne(name string, key []byte) (Provider, error) {
	if len(key) != KeyBytes || zero(key) {
		return nil, fmt.Errorf("%w: a key has %d bytes and is not all zero", errNoKey, KeyBytes)
	}
	return &one{name, [KeyBytes]byte(key)}, nil
}

var errNoKey = errors.New("not a key")

// ParseKey reads the contents of a key file: KeyBytes as they are, or as hexadecimal
// digits with white space around them.
func ParseKey(b []byte) ([]byte, error) {
	if len(b) == KeyBytes {
		return b, nil
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != KeyBytes {
		return nil, fmt.Errorf("%w: it has neither %d bytes nor as many hexadecimal pairs", errNoKey, KeyBytes)
	}
	return key, nil
}

func (o *one) Name() string { return o.name }
func (*one) Hint() Hint     { return Hint{} }

func (o *one) Key(h Hint) ([]byte, error) {
	if h != (Hint{}) {
		return nil, ErrKey
	}
	return o.key[:], nil
}

// sealer seals and opens the state of one VM.
//
// AES-GCM breaks when a key meets a nonce twice, and a counter is no help: a host that
// rolls its disk back rolls the counter back too. So each commit has a key of its own,
// derived from the provider's key and a salt of 256 bits. The salt is a MAC over fresh
// random bytes, the place and the content: it repeats by no accident, and should a clone
// of the VM repeat the random bytes, it repeats for the same content only, which gives
// the same ciphertext and nothing away.
type sealer struct {
	vm       string
	provider Provider
	hint     Hint
	key      []byte // of the hint
	saltKey  []byte // derived from key
}

const (
	sealLabel = "keel gueststate 1 seal "
	saltLabel = "keel gueststate 1 salt "
)

// prepare gets the key for what will be written.
func (s *sealer) prepare() error {
	if name := s.provider.Name(); !printable(name, MaxName) {
		return fmt.Errorf("%w: the provider's name has %d bytes", ErrKey, len(name))
	}
	s.hint = s.provider.Hint()
	var err error
	if s.key, err = s.provider.Key(s.hint); err == nil && len(s.key) != KeyBytes {
		err = errNoKey
	}
	if err == nil {
		s.saltKey, err = hkdf.Key(sha256.New, s.key, nil, saltLabel+s.vm, sha256.Size)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// derive returns the cipher of one commit, its nonce, and the bytes by which the header
// shows which key it was: an output of HKDF says nothing about the others nor the key.
func derive(key []byte, h *header) (aead cipher.AEAD, nonce []byte, check [16]byte, err error) {
	const nonceBytes = 12
	b, err := hkdf.Key(sha256.New, key, h.salt[:], sealLabel+h.vm, KeyBytes+nonceBytes+len(check))
	if err != nil {
		return nil, nil, check, err
	}
	block, err := aes.NewCipher(b[:KeyBytes])
	if err == nil {
		aead, err = cipher.NewGCM(block)
	}
	copy(check[:], b[KeyBytes+nonceBytes:])
	return aead, b[KeyBytes : KeyBytes+nonceBytes], check, err
}

// seal fills b, which is a whole number of blocks, with the slot of a content, and
// completes the header.
func (s *sealer) seal(b []byte, h *header, content []byte) error {
	var fresh [32]byte
	_, _ = rand.Read(fresh[:]) // never fails
	mac := hmac.New(sha256.New, s.saltKey)
	mac.Write(fresh[:])
	mac.Write(binary.LittleEndian.AppendUint64([]byte{byte(h.slot)}, h.sequence))
	mac.Write(content)
	mac.Sum(h.salt[:0])
	aead, nonce, check, err := derive(s.key, h)
	if err != nil {
		return err
	}
	h.check = check
	h.put(b[:headerBytes])
	body := b[headerBytes:]
	copy(body, content)
	sealed := aead.Seal(body[:0], nonce, body[:len(content)], b[:headerBytes])
	clear(body[len(sealed):])
	return nil
}

// judge says what can be said of a slot whose header is sound: whose it is, and whether
// it opens. It is the function that look calls for each slot.
func (s *sealer) judge(h *header, slot []byte) ([]byte, Condition, error) {
	switch {
	case h.vm != s.vm:
		return nil, OtherVM, fmt.Errorf("%w, %q", ErrVM, h.vm)
	case h.provider != s.provider.Name():
		return nil, OtherKey, fmt.Errorf("%w, %q", ErrProvider, h.provider)
	}
	key, err := s.provider.Key(h.hint)
	if err != nil {
		return nil, OtherKey, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return open(key, h, slot)
}

// open authenticates a slot and decrypts its content in place.
func open(key []byte, h *header, slot []byte) ([]byte, Condition, error) {
	aead, nonce, check, err := derive(key, h)
	if err != nil {
		return nil, OtherKey, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !hmac.Equal(check[:], h.check[:]) {
		return nil, OtherKey, ErrKey
	}
	body := slot[headerBytes : headerBytes+int(h.length)+tagBytes]
	content, err := aead.Open(body[:0], nonce, body, slot[:headerBytes])
	if err != nil {
		return nil, Damaged, errTag
	}
	return content, Valid, nil
}

var errTag = errors.New("content does not authenticate")
