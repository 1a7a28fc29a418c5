package keyserver

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"keel/paravisor/keyrelease"
)

// keys makes a folder for keys.
func keys(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *store {
	t.Helper()
	s, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

func TestStore(t *testing.T) {
	path := keys(t)
	s := open(t, path)
	first, made, err := s.key("web")
	if err != nil || !made || len(first) != keyrelease.KeySize || bytes.Equal(first, make([]byte, keyrelease.KeySize)) {
		t.Fatalf("%x, %t, %v", first, made, err)
	}
	again, made, err := s.key("web")
	if err != nil || made || !bytes.Equal(again, first) {
		t.Errorf("%x, %t, %v", again, made, err)
	}
	if other, _, err := s.key("web2"); err != nil || bytes.Equal(other, first) {
		t.Errorf("%x, %v", other, err)
	}
	s.close()
	again, made, err = open(t, path).key("web")
	if err != nil || made || !bytes.Equal(again, first) {
		t.Errorf("opened again: %x, %t, %v", again, made, err)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// TestStoreRefused wants folders that are of no use to be left as they are.
func TestStoreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shared, used := keys(t), keys(t)
	if err := os.Chmod(shared, 0o750); err != nil {
		t.Fatal(err)
	}
	open(t, used)
	for name, test := range map[string]struct{ path, says string }{
		"missing": {filepath.Join(t.TempDir(), "absent"), "mkdir"}, "a file": {file, "no folder"},
		"others may look in": {shared, "0750"}, "in use": {used, "in use"}, "no name": {"", "folder"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openStore(test.path)
			oneLine(t, err, ErrKeys, test.says)
		})
	}
}

// TestStoreFull: a key that cannot be kept is not handed out.
func TestStoreFull(t *testing.T) {
	path := keys(t)
	s := open(t, path)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	key, _, err := s.key("web")
	if key != nil {
		t.Errorf("key %x", key)
	}
	oneLine(t, err, ErrKeys, "written")
}

// TestStoreLeft removes what a server that was killed has left half-way.
func TestStoreLeft(t *testing.T) {
	path := keys(t)
	left := filepath.Join(path, newPrefix+"1234")
	if err := os.WriteFile(left, keyFile("web", make([]byte, keyrelease.KeySize))[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, made, err := s.key("web"); err != nil || !made {
		t.Errorf("%t, %v", made, err)
	}
}

// TestNeverOverwritten: a file that appears at the last moment stays, and the key that was
// just made is forgotten.
func TestNeverOverwritten(t *testing.T) {
	path := keys(t)
	s := open(t, path)
	content := keyFile("web", bytes.Repeat([]byte{1}, keyrelease.KeySize))
	file := filepath.Join(path, "web"+keySuffix)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.write(file, keyFile("web", bytes.Repeat([]byte{2}, keyrelease.KeySize))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	after, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(after, content) {
		t.Errorf("%q, %v", after, err)
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestKeyFile flips every bit and cuts everywhere: nothing but the whole file is taken.
func TestKeyFile(t *testing.T) {
	key := bytes.Repeat([]byte{0x5e}, keyrelease.KeySize)
	b := keyFile("web", key)
	if got, err := parseKeyFile(b, "web"); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("%x, %v", got, err)
	}
	for i := range b {
		if got, err := parseKeyFile(b[:i], "web"); err == nil {
			t.Errorf("cut at %d: %x", i, got)
		}
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			if got, err := parseKeyFile(bad, "web"); err == nil {
				t.Errorf("bit %d of byte %d: %x", bit, i, got)
			}
		}
	}
	if _, err := parseKeyFile(b, "db"); err == nil || err.Error() != `is of VM "web"` {
		t.Errorf("%v", err)
	}
	if len(b) > maxKeyFile {
		t.Errorf("%d bytes", len(b))
	}
}

func TestSigningKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "signing")
	public, err := NewSigningKey(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadSigningKey(path)
	if err != nil || !public.Equal(key.Public()) {
		t.Fatalf("%v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewSigningKey(path)
	oneLine(t, err, ErrSigningKey, "exist")
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("it was written again (%v)", err)
	}
	_, err = NewSigningKey(filepath.Join(dir, "absent", "signing"))
	oneLine(t, err, ErrSigningKey, "made")

	file := func(name string, content []byte, mode fs.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, content, mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"absent": filepath.Join(dir, "absent"), "a folder": dir, "empty": file("empty", nil, 0o600),
		"others may read it": file("shared", before, 0o640), "public key": file("public", block("PUBLIC KEY", der), 0o600),
		"not PKCS #8": file("no8", block(pemPrivate, der), 0o600), "two": file("two", append(bytes.Clone(before), before...), 0o600),
		"truncated": file("short", before[:len(before)/2], 0o600), "raw": file("raw", make([]byte, ed25519.SeedSize), 0o600),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadSigningKey(path)
			oneLine(t, err, ErrSigningKey, "")
		})
	}
}

// FuzzKeyFile: a key comes only out of what keyFile has written.
func FuzzKeyFile(f *testing.F) {
	f.Add(keyFile("web", make([]byte, keyrelease.KeySize)))
	f.Add([]byte("keel released key 1\nvm web\nkey \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := parseKeyFile(b, "web")
		if err == nil && !bytes.Equal(keyFile("web", key), b) {
			t.Fatalf("%x out of %q", key, b)
		}
	})
}
