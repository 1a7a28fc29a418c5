package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// archive is a fake mirror: files by path, with every request recorded.
type archive struct {
	files    map[string][]byte
	requests []string
	status   int // answered to everything when not 0
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.requests = append(a.requests, r.URL.Path+" "+r.Header.Get("Range"))
	if a.status != 0 {
		http.Error(w, "no", a.status)
		return
	}
	body, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// setup starts the mirror under /debian and a machine whose apt knows it.
func setup(t *testing.T, files map[string][]byte) (*archive, *Cache, *bytes.Buffer) {
	t.Helper()
	a := &archive{files: files}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/apt/sources.list"), "deb "+server.URL+"/debian/ bookworm main\n")
	var log bytes.Buffer
	return a, &Cache{Dir: t.TempDir(), Root: root, Progress: &log, Client: server.Client()}, &log
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func pin(name string, body []byte) Pin {
	sum := sha256.Sum256(body)
	return Pin{Name: name, Version: "1", Pool: "pool/" + name + ".deb", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(body))}
}

func TestFetchStoresByChecksumAndAsksOnce(t *testing.T) {
	body := []byte("a package")
	p := pin("a", body)
	a, c, log := setup(t, map[string][]byte{"/debian/pool/a.deb": body})
	for range 2 {
		path, err := c.Fetch(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, body) || filepath.Base(path) != p.SHA256+".deb" {
			t.Fatalf("%s holds %q", path, got)
		}
	}
	if len(a.requests) != 1 {
		t.Errorf("requests: %q, want one", a.requests)
	}
	if !strings.Contains(log.String(), "fetching a 1") {
		t.Errorf("no progress in %q", log)
	}
}

func TestFetchFailures(t *testing.T) {
	body := []byte("right")
	for _, tc := range []struct {
		name   string
		served []byte
		status int
		want   error
	}{
		{"dropped", nil, 0, ErrDropped},
		{"same size, other content", []byte("wrong"), 0, ErrChecksum},
		{"longer", []byte("right and more"), 0, ErrChecksum},
		{"shorter", []byte("rig"), 0, ErrFetch},
		{"mirror broken", nil, http.StatusBadGateway, ErrFetch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, c, _ := setup(t, map[string][]byte{})
			if tc.served != nil {
				a.files["/debian/pool/a.deb"] = tc.served
			}
			a.status = tc.status
			if _, err := c.Fetch(context.Background(), pin("a", body)); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if left, _ := filepath.Glob(filepath.Join(c.Dir, "*.deb")); len(left) > 0 {
				t.Errorf("unverified file kept: %q", left)
			}
		})
	}
}

func TestFetchResumes(t *testing.T) {
	body := []byte("0123456789")
	p := pin("a", body)
	for _, tc := range []struct {
		part     string
		requests []string
	}{
		{"0123", []string{"/debian/pool/a.deb bytes=4-"}},
		// A wrong beginning costs one more transfer, not the build.
		{"XXXX", []string{"/debian/pool/a.deb bytes=4-", "/debian/pool/a.deb "}},
		{"0123456789", nil},
		{"XXXXXXXXXXXXXXXX", []string{"/debian/pool/a.deb "}},
	} {
		a, c, _ := setup(t, map[string][]byte{"/debian/pool/a.deb": body})
		put(t, filepath.Join(c.Dir, p.SHA256+".part"), tc.part)
		path, err := c.Fetch(context.Background(), p)
		if err != nil {
			t.Fatalf("%s: %v", tc.part, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, body) {
			t.Errorf("%s: got %q", tc.part, got)
		}
		if fmt.Sprint(a.requests) != fmt.Sprint(tc.requests) {
			t.Errorf("%s: requests %q, want %q", tc.part, a.requests, tc.requests)
		}
	}
}

func TestFirstAvailable(t *testing.T) {
	newer, older := pin("newer", []byte("n")), pin("older", []byte("o"))
	ctx := context.Background()
	t.Run("warns and falls back", func(t *testing.T) {
		_, c, log := setup(t, map[string][]byte{"/debian/pool/older.deb": []byte("o")})
		_, got, err := c.FirstAvailable(ctx, newer, older)
		if err != nil || got != older {
			t.Fatalf("got %v, %v", got, err)
		}
		if !strings.Contains(log.String(), "WARNING: the mirror dropped newer 1; falling back to older 1") {
			t.Errorf("silent fallback: %q", log)
		}
	})
	t.Run("a wrong checksum is final", func(t *testing.T) {
		_, c, _ := setup(t, map[string][]byte{"/debian/pool/newer.deb": []byte("x"), "/debian/pool/older.deb": []byte("o")})
		if _, _, err := c.FirstAvailable(ctx, newer, older); !errors.Is(err, ErrChecksum) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("all dropped", func(t *testing.T) {
		_, c, _ := setup(t, nil)
		if _, _, err := c.FirstAvailable(ctx, newer, older); !errors.Is(err, ErrDropped) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no pins", func(t *testing.T) {
		_, c, _ := setup(t, nil)
		if _, _, err := c.FirstAvailable(ctx); !errors.Is(err, ErrFetch) {
			t.Errorf("got %v", err)
		}
	})
}

// TestSecurityPool: such a pin is asked at the security archive first.
func TestSecurityPool(t *testing.T) {
	body := []byte("s")
	p := pin("s", body)
	p.Pool = "pool/updates/s.deb"
	a, c, _ := setup(t, map[string][]byte{"/sec/pool/updates/s.deb": body})
	list := filepath.Join(c.Root, "etc/apt/sources.list")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSuffix(strings.Fields(string(text))[1], "/debian/")
	put(t, list, string(text)+"deb "+url+"/sec bookworm-security main\n")
	if _, err := c.Fetch(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if len(a.requests) != 1 || !strings.HasPrefix(a.requests[0], "/sec/") {
		t.Errorf("requests %q", a.requests)
	}
}

// build makes a real package with dpkg-deb.
func build(t *testing.T, compression string) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "tree/DEBIAN/control"), "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
	put(t, filepath.Join(dir, "tree/usr/src/one"), "first")
	put(t, filepath.Join(dir, "tree/usr/src/sub/two"), strings.Repeat("second", 100000))
	if err := os.Symlink("sub/two", filepath.Join(dir, "tree/usr/src/link")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "x.deb")
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Z"+compression, "-b", filepath.Join(dir, "tree"), file).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	return file
}

func TestExtract(t *testing.T) {
	for _, compression := range []string{"xz", "zstd", "none"} {
		file, dir := build(t, compression), t.TempDir()
		if err := File(file, "usr/src/one", filepath.Join(dir, "a/one"), 0o755); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(filepath.Join(dir, "a/one")); err != nil || st.Mode().Perm() != 0o755 || st.Size() != 5 {
			t.Errorf("%s: %v, %v", compression, st, err)
		}
		if err := File(file, "usr/src/sub/two", filepath.Join(dir, "b"), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || len(b) != 600000 {
			t.Errorf("%s: %d bytes, %v", compression, len(b), err)
		}
		for what, err := range map[string]error{
			"missing file": File(file, "usr/src/none", filepath.Join(dir, "none"), 0o644),
			"link":         File(file, "usr/src/link", filepath.Join(dir, "none"), 0o644),
			"no package":   File(filepath.Join(dir, "a/one"), "usr/src/one", filepath.Join(dir, "none"), 0o644),
		} {
			if !errors.Is(err, ErrExtract) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// TestMembersCleansNames: names that climb stay below the root of the tree.
func TestMembersCleansNames(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "./../../etc/x", Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := members(&b, func(h *tar.Header, _ io.Reader) error { got = h.Name; return nil }); err != nil || got != "etc/x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub/lock")
	unlock, err := Lock(path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		second, err := Lock(path, io.Discard)
		if err == nil {
			second()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("second holder while held: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}
