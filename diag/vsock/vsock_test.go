package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answering listens at a path, reads a line from each client, and does with it what it
// is told.
func answering(t *testing.T, path string, answer func(c net.Conn)) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line := make([]byte, len("CONNECT 77\n"))
				if _, err := io.ReadFull(c, line); err != nil || string(line) != "CONNECT 77\n" {
					t.Errorf("%q, %v", line, err)
				}
				answer(c)
			}()
		}
	}()
}

func TestDial(t *testing.T) {
	abstract := fmt.Sprintf("@keel-test/%d/dial", os.Getpid())
	for _, path := range []string{filepath.Join(t.TempDir(), "s"), abstract} {
		answering(t, path, func(c net.Conn) {
			io.WriteString(c, "OK 1073741824\nand what follows is the VM's")
		})
		c, err := Dial(t.Context(), path, 77)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "and what follows is the VM's" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
	}
}

func TestDialRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(net.Conn)
		want   error
	}{
		"nobody there":   {func(net.Conn) {}, ErrNoPort},
		"half an answer": {func(c net.Conn) { io.WriteString(c, "OK 10") }, ErrNoPort},
		"no answer":      {func(net.Conn) { time.Sleep(time.Second) }, ErrHandshake},
		"other words":    {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400\r\n\r\n") }, ErrHandshake},
		"an endless line": {func(c net.Conn) {
			for range 100 {
				io.WriteString(c, "OK OK OK OK OK ")
			}
		}, ErrHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			answering(t, path, tt.answer)
			wait := 10 * time.Second
			if name == "no answer" {
				wait = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			if _, err := Dial(ctx, path, 77); !errors.Is(err, tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, path := range []string{filepath.Join(dir, "none"), file, "", "@keel-test/none", strings.Repeat("x", 500)} {
		if _, err := Dial(t.Context(), path, 77); !errors.Is(err, ErrNoSocket) {
			t.Errorf("%.20q: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, filepath.Join(dir, "none"), 77); err == nil {
		t.Error("dialed with a context that had ended")
	}
}

// TestListen listens where the kernel can: a socket of the family needs no device. Only
// a VM shows more (tests/boot).
func TestListen(t *testing.T) {
	l, err := Listen(0xfffffff0, 4)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip(fmt.Errorf("%w: this kernel has no vsock: %w", errors.ErrUnsupported, err))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Addr().String(); l.Addr().Network() != "vsock" || got != "4294967295:4294967280" {
		t.Errorf("%s", got)
	}
	if _, err := Listen(0xfffffff0, 4); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("the port twice: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	failure := failed("accept", unix.EMFILE)
	if temporary, ok := failure.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
		t.Errorf("%v ends a server", failure)
	}
}

// FuzzAnswer reads what a launcher may say.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"OK 1\n", "OK \n", "OK", "\n", "ok 1\n", strings.Repeat("x", 40), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := strings.NewReader(s)
		err := readAnswer(r)
		line, _, whole := strings.Cut(s, "\n")
		good := whole && strings.HasPrefix(line, "OK ") && len(line) < maxAnswer
		if (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
		if read := len(s) - r.Len(); read > maxAnswer || err == nil && read != len(line)+1 {
			t.Errorf("%q: read %d bytes", s, read)
		}
	})
}
