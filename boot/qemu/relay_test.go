package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// echoServer answers what it is sent.
func echoServer(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestRelay(t *testing.T) {
	dir := t.TempDir()
	for name, to := range map[string]string{
		"TCP":  echoServer(t, "tcp", "127.0.0.1:0"),
		"Unix": echoServer(t, "unix", filepath.Join(dir, "server")),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			ctx, cancel := context.WithCancel(context.Background())
			r, err := openRelay(ctx, path, 7, to)
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", fmt.Sprintf("%s_%d", path, 7))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 4)
			if _, err := c.Write([]byte("keel")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "keel" {
				t.Errorf("%q, %v", got, err)
			}
			_ = c.Close()
			cancel()
			r.close()
			if _, err := net.Dial("unix", fmt.Sprintf("%s_%d", path, 7)); err == nil {
				t.Error("the relay listens on after its end")
			}
		})
	}
}

// TestRelayBounds: a VM that opens connection after connection gets a few, and nobody
// behind the address looks to it like nobody at the port.
func TestRelayBounds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "vm")
	r, err := openRelay(t.Context(), path, 7, echoServer(t, "unix", filepath.Join(dir, "server")))
	if err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	for range maxRelayed + 2 {
		c, err := net.Dial("unix", path+"_7")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		open = append(open, c)
	}
	alive := 0
	for _, c := range open {
		_, _ = c.Write([]byte{1})
		if n, _ := c.Read(make([]byte, 1)); n == 1 {
			alive++
		}
	}
	if alive != maxRelayed {
		t.Errorf("%d connections, want %d", alive, maxRelayed)
	}
	for _, c := range open {
		_ = c.Close()
	}
	r.close()

	r, err = openRelay(t.Context(), path, 8, filepath.Join(dir, "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	c, err := net.Dial("unix", path+"_8")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
