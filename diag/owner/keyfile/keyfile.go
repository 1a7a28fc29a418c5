// Package keyfile reads the files of an owner's keys, on the owner's host: Ed25519 keys
// as ssh-keygen writes them, age identities as age-keygen does.
package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// ErrFile says that a file holds no key of the kind that is wanted. It comes with one
// line about the cause.
var ErrFile = errors.New("no usable key")

// maxFile bounds a file with keys, in bytes.
const maxFile = 64 << 10

// read reads a file of bounded size.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrFile, path, maxFile)
	}
	return b, nil
}

// Signer reads a file with one public key, a line "ssh-ed25519 …".
func Signer(path string) (ed25519.PublicKey, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey(b)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s holds no OpenSSH public key", ErrFile, path)
	case len(bytes.TrimSpace(rest)) > 0 || len(options) > 0:
		return nil, fmt.Errorf("%w: %s holds more than one key", ErrFile, path)
	}
	outer, ok := key.(ssh.CryptoPublicKey)
	if ok {
		if inner, ok := outer.CryptoPublicKey().(ed25519.PublicKey); ok && key.Type() == ssh.KeyAlgoED25519 {
			return inner, nil
		}
	}
	return nil, fmt.Errorf("%w: %s holds one of type %s, not %s", ErrFile, path, key.Type(), ssh.KeyAlgoED25519)
}

// SignerLine returns a public key as OpenSSH writes it, without a comment.
func SignerLine(key ed25519.PublicKey) (string, error) {
	k, err := ssh.NewPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrFile, err)
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k))), nil
}

// Key reads a file with an OpenSSH Ed25519 private key that no passphrase encrypts.
func Key(path string) (ed25519.PrivateKey, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKey(b)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, fmt.Errorf("%w: %s is encrypted: make a copy without a passphrase with ssh-keygen -p", ErrFile, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s holds no OpenSSH private key", ErrFile, path)
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds one of another type than %s", ErrFile, path, ssh.KeyAlgoED25519)
	}
	return *key, nil
}

// Identities reads a file with age identities, AGE-SECRET-KEY-1….
func Identities(path string) ([]age.Identity, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		// The library's error may hold the key.
		return nil, fmt.Errorf("%w: %s holds no age identity; age -d opens with other kinds", ErrFile, path)
	}
	return ids, nil
}
