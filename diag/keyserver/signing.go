package keyserver

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	pemPrivate    = "PRIVATE KEY" // PKCS #8 (RFC 5208, RFC 8410)
	maxSigningKey = 4 << 10       // bytes of its file
)

// NewSigningKey makes a key in a file that does not exist yet, which only its owner reads,
// and returns its public half. Its errors are ErrSigningKey.
func NewSigningKey(path string) (ed25519.PublicKey, error) {
	bad := func(err error, remedy string) (ed25519.PublicKey, error) {
		return nil, fmt.Errorf("%w: %w; %s", ErrSigningKey, err, remedy)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return bad(err, "try again")
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return bad(err, "try again")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return bad(err, "name a file that does not exist yet: VMs believe the key that it has")
	case err != nil:
		return bad(err, "name a file that can be made")
	}
	err = pem.Encode(f, &pem.Block{Type: pemPrivate, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), syncFolder(filepath.Dir(path))); err != nil {
		_ = os.Remove(path) // nobody knows its public half
		return bad(err, "see that there is space left")
	}
	return public, nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadSigningKey reads the key that NewSigningKey, or "openssl genpkey -algorithm ed25519",
// has made. Its errors are ErrSigningKey.
func ReadSigningKey(path string) (ed25519.PrivateKey, error) {
	bad := func(err error, remedy string) (ed25519.PrivateKey, error) {
		return nil, fmt.Errorf("%w: %w; %s", ErrSigningKey, err, remedy)
	}
	f, err := os.Open(path)
	if err != nil {
		return bad(err, "make one with 'keel keyserver keygen FILE'")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bad(err, "name a readable file")
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return bad(fmt.Errorf("%s has mode %#o", path, perm), "let its owner alone read it (chmod 600)")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSigningKey))
	if err != nil {
		return bad(err, "name a readable file")
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemPrivate || len(rest) > 0 {
		return bad(fmt.Errorf("%s holds no PEM block %q", path, pemPrivate), "make one with 'keel keyserver keygen FILE'")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return bad(err, "make one with 'keel keyserver keygen FILE'")
	}
	signer, ok := key.(ed25519.PrivateKey)
	if !ok {
		return bad(fmt.Errorf("%s holds a %T", path, key), "make an Ed25519 key with 'keel keyserver keygen FILE'")
	}
	return signer, nil
}
