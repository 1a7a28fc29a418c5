package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/vtpm/wire"
)

// pair returns both ends of a socket: a file for the peer, whose reads end, and the
// descriptor to serve.
func pair(tb testing.TB) (*os.File, int) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		tb.Fatal(err)
	}
	peer := os.NewFile(uintptr(fds[0]), "peer")
	tb.Cleanup(func() {
		peer.Close()
		unix.Close(fds[1])
	})
	return peer, fds[1]
}

// execute returns the frame of a command.
func execute(tb testing.TB, seq uint64, effect wire.Effect, cmd []byte) []byte {
	tb.Helper()
	b, err := wire.Append(nil, &wire.Frame{Kind: wire.Execute, Seq: seq, Effect: effect, Body: cmd})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// started returns a TPM behind Startup.
func started(tb testing.TB) *Engine {
	tb.Helper()
	if err := Prepare(); err != nil {
		tb.Fatal(err)
	}
	e := power(tb, nil, nil)
	tb.Cleanup(e.Close)
	if rc, _ := run(tb, e, command(0x144, 0, 0)); rc != 0 {
		tb.Fatalf("Startup: %#x", rc)
	}
	e.Permanent()
	return e
}

// withPassword returns a command with a handle, an empty password and parameters.
func withPassword(cc, handle uint32, parameters ...byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(nil, 0x8002)
	b = be.AppendUint32(b, uint32(27+len(parameters)))
	b = be.AppendUint32(b, cc)
	b = be.AppendUint32(b, handle)
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	return append(b, parameters...)
}

// Commands.
var (
	getRandom  = command(0x17B, 0, 16)
	digest     = append([]byte{0, 0, 0, 1, 0, 0x0B}, make([]byte, 32)...)
	extend     = withPassword(0x182, 16, digest...)
	refused    = withPassword(0x182, 99, digest...) // there is no such PCR
	clearOwner = withPassword(0x126, 0x4000000A)    // changes permanent state

	// An RSA key of the null hierarchy, which takes the engine a while.
	primary = withPassword(0x131, 0x40000007,
		0, 4, 0, 0, 0, 0, // no secret, no data
		0, 22, 0, 1, 0, 0x0B, 0, 4, 0, 0x72, 0, 0, // a signing key
		0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0, // no encryption, no scheme, 2048 bits, no unique part
		0, 0, 0, 0, 0, 0) // no outside info, no PCRs
)

// TestServe: what changes nothing that the peer needs is answered, the rest returned.
func TestServe(t *testing.T) {
	e := started(t)
	for _, tt := range []struct {
		name     string
		effect   wire.Effect
		command  []byte
		answered bool
		rc       uint32
	}{
		{"keeps", wire.Keeps, getRandom, true, 0},
		{"repeats", wire.Repeats, extend, true, 0},
		{"repeats, refused", wire.Repeats, refused, false, 0x184},
		{"changes", wire.Changes, extend, false, 0},
		{"changes nothing", wire.Changes, getRandom, false, 0},
		{"no command", wire.Keeps, []byte{1}, true, 0x9A},
		{"Clear, said to keep", wire.Keeps, clearOwner, false, 0},
	} {
		peer, fd := pair(t)
		if _, err := peer.Write(execute(t, 7, tt.effect, bytes.Clone(tt.command))); err != nil {
			t.Fatal(err)
		}
		if err := unix.Shutdown(int(peer.Fd()), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		s, err := e.Serve(fd)
		response := s.Response
		if tt.answered {
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %+v, %v; want an answer, then the end", tt.name, s, err)
				continue
			}
			f, err := wire.NewReader(peer).Read()
			if err != nil || f.Kind != wire.Done || f.Status != wire.OK || f.Seq != 7 || len(f.Permanent)+len(f.Volatile) > 0 {
				t.Errorf("%s: %+v, %v", tt.name, f, err)
			}
			response = f.Body
		} else if err != nil || s.Seq != 7 {
			t.Errorf("%s: %+v, %v", tt.name, s, err)
		}
		if len(response) < 10 || binary.BigEndian.Uint32(response[6:]) != tt.rc {
			t.Errorf("%s: response %x, want the code %#x", tt.name, response, tt.rc)
		}
		if changed := e.Permanent() != nil; changed != (tt.name == "Clear, said to keep") {
			t.Errorf("%s: permanent state changed: %v", tt.name, changed)
		}
	}
}

// TestServePieces sends a command byte by byte, and then the next.
func TestServePieces(t *testing.T) {
	e := started(t)
	peer, fd := pair(t)
	served := make(chan error)
	go func() {
		_, err := e.Serve(fd)
		served <- err
	}()
	replies := wire.NewReader(peer)
	for seq := range uint64(3) {
		frame := execute(t, seq+1, wire.Keeps, getRandom)
		for _, b := range frame {
			if _, err := peer.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := replies.Read(); err != nil || f.Seq != seq+1 || len(f.Body) != 28 {
			t.Errorf("%+v, %v", f, err)
		}
	}
	peer.Close()
	if err := <-served; !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// TestServeRefuses: nothing is run of what is no command.
func TestServeRefuses(t *testing.T) {
	e := started(t)
	good := execute(t, 1, wire.Changes, extend)
	change := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	cancel, err := wire.Append(nil, &wire.Frame{Kind: wire.Cancel, Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"magic": change(3, 2), "kind": change(4, 4), "locality": change(5, 5), "effect": change(6, 3), "reserved": change(7, 1),
		"permanent state": change(20, 1), "volatile state": change(24, 1), "end": change(28, 1), "too long": change(18, 1), "no body": change(16, 0)[:32],
		"another behind it": append(bytes.Clone(good), good...), "cut off": good[:len(good)-1], "header cut off": good[:31], "cancel": cancel,
	} {
		peer, fd := pair(t)
		if _, err := peer.Write(b); err != nil {
			t.Fatal(err)
		}
		peer.Close()
		if s, err := e.Serve(fd); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := e.Serve(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("no socket: %v", err)
	}
	peer, fd := pair(t)
	if _, err := peer.Write(execute(t, 1, wire.Keeps, getRandom)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Serve(fd); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a peer that does not listen: %v", err)
	}
}

// TestServeCancel: a command that was cancelled before it came is not run; one that runs
// ends.
func TestServeCancel(t *testing.T) {
	e := started(t)
	peer, fd := pair(t)
	if Cancel(5) {
		t.Error("a command runs that did not come")
	}
	served := make(chan Served, 1)
	go func() {
		s, _ := e.Serve(fd)
		served <- s
	}()
	if _, err := peer.Write(execute(t, 5, wire.Changes, extend)); err != nil {
		t.Fatal(err)
	}
	if f, err := wire.NewReader(peer).Read(); err != nil || f.Seq != 5 || binary.BigEndian.Uint32(f.Body[6:]) != 0x909 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := peer.Write(execute(t, 6, wire.Changes, primary)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(int(peer.Fd()), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond) // it has begun by then, mostly
	for late := time.After(time.Minute); ; {
		Cancel(6)
		select {
		case s := <-served:
			if s.Response == nil { // the cancel came first
				f, err := wire.NewReader(peer).Read()
				if err != nil {
					t.Fatal(err)
				}
				s.Response = f.Body
			}
			if rc := binary.BigEndian.Uint32(s.Response[6:]); s.Seq != 6 || rc != 0x909 {
				t.Errorf("%d: %x", s.Seq, s.Response)
			}
			return
		case <-late:
			t.Fatal("it does not end")
		case <-time.After(time.Millisecond):
		}
	}
}

// FuzzServe: a stream is a command for this loop when it is one for package wire, and
// whatever it is, the loop comes back.
func FuzzServe(f *testing.F) {
	e := started(f)
	for _, effect := range []wire.Effect{wire.Changes, wire.Repeats, wire.Keeps} {
		for _, c := range [][]byte{getRandom, extend, refused, clearOwner, {1}} {
			f.Add(execute(f, 2, effect, c))
		}
	}
	f.Add([]byte("KTP\x03"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		stream = stream[:min(len(stream), 64<<10)] // a socket holds that
		got, err := wire.NewReader(bytes.NewReader(stream)).Read()
		command := err == nil && got.Kind == wire.Execute && len(stream) == wire.HeaderSize+len(got.Body)
		peer, fd := pair(t)
		if len(stream) > 0 {
			if _, err := peer.Write(stream); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Shutdown(int(peer.Fd()), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		s, err := e.Serve(fd)
		if taken := !errors.Is(err, ErrFrame) && len(stream) > 0; taken != command {
			t.Fatalf("%+v, %v; package wire reads %+v", s, err, got)
		}
		if command && err == nil && s.Seq != got.Seq {
			t.Fatalf("command %d is answered for %d", got.Seq, s.Seq)
		}
	})
}
