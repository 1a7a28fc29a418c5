package keyfile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// public returns the line of a public key.
func public(t *testing.T, key any) string {
	t.Helper()
	k, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(k))
}

// private returns the file of a private key, and that with a passphrase.
func private(t *testing.T, key any) (plain, encrypted string) {
	t.Helper()
	p, err := ssh.MarshalPrivateKey(key, "comment")
	if err != nil {
		t.Fatal(err)
	}
	e, err := ssh.MarshalPrivateKeyWithPassphrase(key, "comment", []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(p)), string(pem.EncodeToMemory(e))
}

// refused wants an error of one line that says why and shows nothing of the file.
func refused(t *testing.T, err error, text, why string) {
	t.Helper()
	if !errors.Is(err, ErrFile) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), why) {
		t.Errorf("%.40q: %v, want it to say %q", text, err, why)
	}
	if secret := strings.TrimSpace(text); err != nil && len(secret) > 20 && strings.Contains(err.Error(), secret[:20]) {
		t.Errorf("it shows the key: %v", err)
	}
}

func TestSigner(t *testing.T) {
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := public(t, key)
	for _, text := range []string{good, strings.TrimSpace(good) + " somebody@somewhere\n\n", "# a comment\n" + good} {
		if got, err := Signer(write(t, text)); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	if line, err := SignerLine(key); err != nil || line+"\n" != good {
		t.Errorf("%q, %v", line, err)
	}
	for text, why := range map[string]string{
		"": "no OpenSSH public key", good[:len(good)/2]: "no OpenSSH public key", "ssh-ed25519 AAAA\n": "no OpenSSH public key",
		good + good: "more than one", `from="here" ` + good: "more than one", public(t, &other.PublicKey): "ecdsa-sha2-nistp256",
		strings.Repeat(good, 1000): "larger than",
	} {
		_, err := Signer(write(t, text))
		refused(t, err, text, why)
	}
	_, err = Signer(filepath.Join(t.TempDir(), "none"))
	refused(t, err, "", "no such file")
}

func TestKey(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, encrypted := private(t, key)
	foreign, _ := private(t, other)
	if got, err := Key(write(t, plain)); err != nil || !got.Equal(key) {
		t.Error(err)
	}
	for text, why := range map[string]string{
		"": "no OpenSSH private key", plain[:len(plain)/2]: "no OpenSSH private key", encrypted: "is encrypted", foreign: "another type",
		public(t, key.Public()): "no OpenSSH private key",
	} {
		_, err := Key(write(t, text))
		refused(t, err, text, why)
	}
}

func TestIdentities(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Identities(write(t, "# created\n"+id.String()+"\n")); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", id.String()[:60], id.Recipient().String(), "# only a comment\n"} {
		_, err := Identities(write(t, text))
		refused(t, err, text, "no age identity")
	}
}
