package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// text are bytes of which each tells where it is.
func text(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + i) * 7 / 5)
	}
	return b
}

func attach(t *testing.T, p *Port) *Reader {
	t.Helper()
	r, err := p.Attach()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func say(t *testing.T, p *Port, b []byte) {
	t.Helper()
	if n, err := p.Write(b); n != len(b) || err != nil {
		t.Fatal(n, err)
	}
}

// read reads n bytes and what was lost before them.
func read(t *testing.T, r *Reader, n int) (b []byte, lost uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	buf := make([]byte, MaxChunk)
	for len(b) < n {
		m, missing, err := r.Read(ctx, buf[:min(len(buf), n-len(b))])
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(b), n, err)
		}
		b, lost = append(b, buf[:m]...), lost+missing
	}
	return b, lost
}

func TestReaders(t *testing.T) {
	var p Port
	early := attach(t, &p)
	say(t, &p, []byte("one "))
	late := attach(t, &p)
	say(t, &p, []byte("two"))
	for _, r := range []*Reader{early, late} {
		if b, lost := read(t, r, 7); string(b) != "one two" || lost != 0 {
			t.Errorf("%q, %d lost", b, lost)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := early.Read(ctx, make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waiting := make(chan []byte)
	go func() {
		b, _ := read(t, early, 5)
		waiting <- b
	}()
	say(t, &p, []byte("three"))
	if b := <-waiting; string(b) != "three" {
		t.Errorf("%q", b)
	}
}

// TestSlow: who does not read loses the oldest bytes and nothing else, and is told.
func TestSlow(t *testing.T) {
	var p Port
	r := attach(t, &p)
	const total = backlog*3 + 17
	for at := 0; at < total; {
		n := min(total-at, 1000)
		say(t, &p, text(at, n))
		at += n
	}
	b, lost := read(t, r, backlog)
	if lost != total-backlog || !bytes.Equal(b, text(total-backlog, backlog)) {
		t.Errorf("%d lost", lost)
	}
	if now, all := p.Readers(); now != 1 || all != lost {
		t.Errorf("%d readers lost %d", now, all)
	}
	say(t, &p, []byte("x"))
	if b, lost := read(t, r, 1); string(b) != "x" || lost != 0 {
		t.Errorf("%q, %d lost", b, lost)
	}
	// One piece that is longer than everything.
	say(t, &p, text(0, total))
	if b, lost := read(t, r, backlog); lost != total-backlog || !bytes.Equal(b, text(total-backlog, backlog)) {
		t.Errorf("%d lost", lost)
	}
}

// TestScrollback: a reader that comes late sees the last of what was said.
func TestScrollback(t *testing.T) {
	for _, total := range []int{1, scrollback - 1, scrollback, scrollback + 1, 5 * scrollback} {
		var p Port
		for at := 0; at < total; {
			n := min(total-at, 1+rand.IntN(3000))
			say(t, &p, text(at, n))
			at += n
		}
		want := min(total, scrollback)
		if b, lost := read(t, attach(t, &p), want); lost != uint64(total-want) || !bytes.Equal(b, text(total-want, want)) {
			t.Errorf("of %d: %d bytes, %d lost", total, len(b), lost)
		}
	}
}

func TestMany(t *testing.T) {
	var p Port
	var last *Reader
	for range MaxReaders {
		last = attach(t, &p)
	}
	if _, err := p.Attach(); !errors.Is(err, ErrMany) {
		t.Error(err)
	}
	last.Close()
	attach(t, &p)
}

// TestIdle: nobody asks, and a guest that says something costs nothing but the copy.
func TestIdle(t *testing.T) {
	var p Port
	line := text(0, 80)
	say(t, &p, line)
	if n := testing.AllocsPerRun(1000, func() { _, _ = p.Write(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if cap(p.past.buf) != scrollback {
		t.Errorf("%d bytes of memory", cap(p.past.buf))
	}
}

// TestTogether: readers come and go while the guest talks; each sees a stretch of it.
func TestTogether(t *testing.T) {
	var p Port
	done := make(chan error)
	for range 4 {
		go func() {
			for range 50 {
				r, err := p.Attach()
				if err != nil {
					done <- err
					return
				}
				buf := make([]byte, 100)
				n, _, err := r.Read(context.Background(), buf)
				r.Close()
				if err == nil && !bytes.Contains(bytes.Repeat([]byte("0123456789"), 11), buf[:n]) {
					err = fmt.Errorf("%q", buf[:n])
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- io.EOF
		}()
	}
	for ended := 0; ended < 4; {
		say(t, &p, []byte("0123456789"))
		select {
		case err := <-done:
			if ended++; !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		default:
		}
	}
}
