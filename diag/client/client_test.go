package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"keel/boot/handoff"
	"keel/diag/frame"
	"keel/diag/inspect"
	"keel/diag/server"
)

// part is a node with one field of each kind.
type part struct{ looks atomic.Uint64 }

func (p *part) Inspect(f *inspect.Fields) {
	f.Uint("looks", inspect.Public, inspect.Count, p.looks.Add(1), "how often somebody looked")
	f.Text("name", inspect.Private, "the guest's\x1b[31m\xff", "what the guest is called")
	f.Bool("alive", inspect.Public, true, "it is")
	f.Histogram("latency", inspect.Public, inspect.Microseconds, inspect.Histogram{Bounds: []uint64{10}, Counts: []uint64{1, 2}}, "how long it took")
	f.Node("leaf", leaf{}, "a part of it")
}

type leaf struct{}

func (leaf) Inspect(f *inspect.Fields) {
	f.Uint("secret", inspect.Private, inspect.Bytes, 7, "a number of the guest's")
}

// vm is a launcher with a VM that serves, without either.
type vm struct {
	path   string
	server *server.Server
	deaf   atomic.Bool // nobody listens in the VM
}

// start listens at a path and hands clients to a server.
func start(t *testing.T, path string, c server.Config) *vm {
	t.Helper()
	v := &vm{path: path}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if v.server, err = server.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.server.Serve(ctx, &hybrid{l, v}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v
}

// hybrid is a listener whose clients say CONNECT first.
type hybrid struct {
	net.Listener
	vm *vm
}

func (h *hybrid) Accept() (net.Conn, error) {
	for {
		c, err := h.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var line []byte
		for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")) && err == nil; line = append(line, b...) {
			_, err = c.Read(b)
		}
		if err == nil && !h.vm.deaf.Load() && string(line) == "CONNECT "+strconv.Itoa(handoff.VsockDiag)+"\n" {
			if _, err := io.WriteString(c, "OK 1073741824\n"); err == nil {
				return c, nil
			}
		}
		c.Close()
	}
}

func dial(t *testing.T, target string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestInspect(t *testing.T) {
	name := "client-test-" + strconv.Itoa(os.Getpid())
	for _, target := range []string{name, filepath.Join(t.TempDir(), "socket")} {
		path := target
		if target == name {
			path = handoff.VsockSocket(os.Getuid(), name)
		}
		start(t, path, server.Config{Root: &part{}})
		c := dial(t, target)
		root, err := c.Inspect(t.Context(), "", 4)
		if err != nil || root.Confidential || len(root.Fields) != 5 {
			t.Fatalf("%+v, %v", root, err)
		}
		looks, text, leaf := root.Fields[0], root.Fields[1], root.Fields[4]
		if looks.Name != "looks" || looks.Value != uint64(1) || looks.Unit != inspect.Count || looks.Sensitivity != inspect.Public || looks.Doc == "" {
			t.Errorf("%+v", looks)
		}
		if text.Value != "the guest's?[31m?" || text.Sensitivity != inspect.Private {
			t.Errorf("%+v", text)
		}
		if h, ok := root.Fields[3].Value.(inspect.Histogram); !ok || len(h.Bounds) != 1 || len(h.Counts) != 2 {
			t.Errorf("%+v", root.Fields[3])
		}
		if leaf.Withheld || len(leaf.Fields) != 1 || leaf.Fields[0].Value != uint64(7) {
			t.Errorf("%+v", leaf)
		}
		// Counters move, and a path and a depth mean something.
		if f, err := c.Inspect(t.Context(), "/looks", 0); err != nil || f.Value != uint64(2) {
			t.Errorf("%+v, %v", f, err)
		}
		if f, err := c.Inspect(t.Context(), "", 0); err != nil || f.Fields[4].Fields != nil {
			t.Errorf("%+v, %v", f, err)
		}
		for path, want := range map[string]error{
			"none": ErrPath, "looks/none": ErrPath, strings.Repeat("x", 257): ErrRequest, strings.Repeat("/", 9000): ErrLost,
			"bad\xffutf": ErrRequest,
		} {
			if _, err := c.Inspect(t.Context(), path, 0); !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%.20q: %v", path, err)
			}
		}
		for depth, want := range map[int]error{-1: ErrRequest, 17: ErrRequest, 1 << 40: ErrRequest} {
			if _, err := c.Inspect(t.Context(), "", depth); !errors.Is(err, want) {
				t.Errorf("depth %d: %v", depth, err)
			}
		}
		if _, err := c.Attest(t.Context(), make([]byte, 32)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not confidential") {
			t.Errorf("%v", err)
		}
	}
}

func TestConfidential(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fail := errors.New("the machine is\nbroken")
	start(t, path, server.Config{Root: &part{}, Confidential: true, Attest: func(_ context.Context, nonce []byte) ([]byte, error) {
		if nonce[0] == 0 {
			return nil, fail
		}
		return append([]byte("evidence for "), nonce...), nil
	}})
	c := dial(t, path)
	root, err := c.Inspect(t.Context(), "", 4)
	if err != nil || !root.Confidential || !root.Withheld || len(root.Fields) != 4 {
		t.Fatalf("%+v, %v", root, err)
	}
	if leaf := root.Fields[3]; leaf.Name != "leaf" || !leaf.Withheld || len(leaf.Fields) != 0 {
		t.Errorf("%+v", leaf)
	}
	_, private := c.Inspect(t.Context(), "name", 0)
	_, absent := c.Inspect(t.Context(), "noname", 0)
	if !errors.Is(private, ErrPath) || strings.ReplaceAll(absent.Error(), "noname", "name") != private.Error() {
		t.Errorf("a private field and none can be told apart: %v, %v", private, absent)
	}
	nonce := bytes.Repeat([]byte{'n'}, 16)
	if e, err := c.Attest(t.Context(), nonce); err != nil || string(e) != "evidence for nnnnnnnnnnnnnnnn" {
		t.Errorf("%q, %v", e, err)
	}
	for want, nonce := range map[error][]byte{ErrRequest: nonce[:15], ErrAnswer: make([]byte, 16)} {
		if _, err := c.Attest(t.Context(), nonce); !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestNobody asks VMs that are not there, or do not serve.
func TestNobody(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, target := range []string{"no-such-vm", dir + "/none", file, "@keel-test/none"} {
		if c, err := Dial(t.Context(), target); !errors.Is(err, ErrNoVM) {
			t.Errorf("%s: %v, %v", target, c, err)
		}
	}
	v := start(t, filepath.Join(dir, "s"), server.Config{Root: &part{}})
	v.deaf.Store(true)
	if _, err := Dial(t.Context(), v.path); !errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}
}

// TestReconnect ends a connection between calls, and then for good.
func TestReconnect(t *testing.T) {
	v := start(t, filepath.Join(t.TempDir(), "s"), server.Config{Root: &part{}})
	c := dial(t, v.path)
	for range 3 {
		if _, err := c.Inspect(t.Context(), "", 1); err != nil {
			t.Fatal(err)
		}
		c.conn.Close()
	}
	v.deaf.Store(true)
	if _, err := c.Inspect(t.Context(), "", 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}
	v.deaf.Store(false)
	if _, err := c.Inspect(t.Context(), "", 1); err != nil {
		t.Errorf("%v", err)
	}
	c.Close()
	if _, err := c.Inspect(t.Context(), "", 1); !errors.Is(err, ErrLost) {
		t.Errorf("after Close: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	if _, err := Dial(ctx, v.path); err == nil {
		t.Error("dialed without time")
	}
}

// response makes one as a VM would, with an Inspect answer in it.
func response(answer []byte) []byte {
	r := protowire.AppendTag(nil, 2, protowire.BytesType)
	return frame.Append(nil, frame.Head{Stream: 1, Type: frame.Response}, protowire.AppendBytes(r, answer))
}

// FuzzAnswer lets a VM answer whatever it likes.
func FuzzAnswer(f *testing.F) {
	f.Add(response(nil))
	f.Add(response([]byte("\x0a\x06\x0a\x01n\x28\x07\x18\x02")))
	f.Add(response([]byte("\x0a\x04\x4a\x02\x10\x01")))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x03\x01"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\x02\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			head := make([]byte, 10)
			if _, err := io.ReadFull(theirs, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, theirs, int64(binary.BigEndian.Uint32(head))); err != nil {
				return
			}
			theirs.Write(answer)
		}()
		c, err := newClient(t.Context(), "fuzz", func(context.Context) (net.Conn, error) { return ours, nil })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		tree, err := c.Inspect(t.Context(), "", 1)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q", err)
			}
			return
		}
		var check func(f *inspect.Field)
		check = func(f *inspect.Field) {
			if strings.ContainsAny(f.Name+f.Doc+string(f.Unit), "\n\x1b\x00") {
				t.Errorf("%+v", f)
			}
			for i := range f.Fields {
				check(&f.Fields[i])
			}
		}
		check(&tree.Field)
	})
}
