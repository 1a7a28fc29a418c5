package vsock

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestSocketFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	o := Options{CID: 3, Path: path}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := New(o); !errors.Is(err, ErrSocket) || !strings.Contains(err.Error(), "running VM") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a live socket: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil { // again
		t.Error(err)
	}
	if err := d.Serve(t.Context()); !errors.Is(err, ErrServing) {
		t.Errorf("served after Close: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}

	// A dead process leaves its socket.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if d, err = New(o); err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	// Somebody else's file is not removed.
	os.Remove(path)
	os.WriteFile(path, nil, 0o600)
	d.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if _, err := New(o); !errors.Is(err, ErrSocket) || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	before := descriptors(t)
	for _, c := range []struct {
		o    Options
		want error
	}{
		{Options{CID: 2, Path: dir + "/s"}, ErrOptions},
		{Options{CID: 0xffffffff, Path: dir + "/s"}, ErrOptions},
		{Options{CID: 3, Path: dir + "/s", MaxConnections: -1}, ErrOptions},
		{Options{CID: 3, Path: dir + "/s", MaxConnections: 1 << 20}, ErrOptions},
		{Options{CID: 3}, ErrSocket},
		{Options{CID: 3, Path: dir + "/" + strings.Repeat("x", maxPath)}, ErrSocket},
		{Options{CID: 3, Path: dir + "/no/such/folder"}, ErrSocket},
	} {
		if _, err := New(c.o); !errors.Is(err, c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	if after := descriptors(t); len(after) > len(before) {
		t.Errorf("descriptors before: %q, after: %q", before, after)
	}
}

func TestArguments(t *testing.T) {
	var d Device
	if got, want := strings.Join(d.QEMUArgs(9), " "), "-chardev socket,id=vsock,fd=9 -device vhost-user-vsock-pci,id=vsock0,chardev=vsock"; got != want {
		t.Errorf("%s", got)
	}
	if got := MemoryArgs(1 << 20); !slices.Contains(got, "memory-backend-memfd,id=ram,size=1048576,share=on,seal=on") {
		t.Errorf("%q", got)
	}
}

// TestEndings ends Serve in each way.
func TestEndings(t *testing.T) {
	for _, how := range []string{"close", "context", "both"} {
		d, err := New(Options{CID: 3, Path: filepath.Join(t.TempDir(), "s")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Serve(ctx) }()
		if how != "close" {
			cancel()
		}
		if how != "context" {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, ErrServing) { // Close may come first
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: Serve does not end", how)
		}
		cancel()
		if _, err := os.Stat(d.options.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the socket stays", how)
		}
	}
}

// countMaps counts the process's mappings of a file.
func countMaps(tb testing.TB, name string) int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Count(string(b), name)
}

func textLog(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

// lockedText is a log that another goroutine writes.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestAbstract listens at an abstract name: it leaves nothing, and is taken once.
func TestAbstract(t *testing.T) {
	o := Options{CID: 3, Path: "@keel-test/" + strconv.Itoa(os.Getpid()) + "/vsock"}
	t.Chdir(t.TempDir())
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); !errors.Is(err, ErrSocket) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one: %v", err)
	}
	c, err := net.Dial("unix", o.Path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("unix", o.Path); err == nil {
		c.Close()
		t.Error("it outlives its device")
	}
	if files, err := os.ReadDir("."); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	o.Path = "@" + strings.Repeat("x", maxPath)
	if _, err := New(o); !errors.Is(err, ErrSocket) {
		t.Errorf("a long name: %v", err)
	}
}
