package gueststate

import (
	"bytes"
	"errors"
	"testing"

	"keel/boot/handoff"
	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// sizes of blocks that disks have.
var blockSizes = []uint32{512, 4096}

func testKey(fill byte) Provider {
	p, err := HostKey(bytes.Repeat([]byte{fill}, KeyBytes))
	if err != nil {
		panic(err)
	}
	return p
}

func options() Options { return Options{VM: "web", Provider: testKey(7)} }

func newDisk(blockSize uint32) *blktest.Disk {
	return blktest.New(blk.Info{BlockSize: blockSize, Blocks: MinDisk / uint64(blockSize), Volatile: true})
}

func mustOpen(tb testing.TB, d blk.Disk, o Options) *Store {
	tb.Helper()
	s, err := Open(d, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustCommit(tb testing.TB, s *Store, contents ...string) {
	tb.Helper()
	for _, c := range contents {
		if err := s.Commit([]byte(c)); err != nil {
			tb.Fatal(err)
		}
	}
}

// holds checks what a store has.
func holds(tb testing.TB, s *Store, want string) {
	tb.Helper()
	got, err := s.Load()
	if err != nil || string(got) != want || (got == nil) != (want == "") {
		tb.Fatalf("%.40q, %v; want %.40q", got, err, want)
	}
}

// refused checks that an error is a bad state with a cause and a remedy.
func refused(tb testing.TB, err, cause error, remedy string) {
	tb.Helper()
	f, ok := errors.AsType[*handoff.Failure](err)
	if !ok || !errors.Is(err, cause) || f.Outcome != handoff.OutcomeBadState || !bytes.Contains([]byte(f.Remedy), []byte(remedy)) || f.Remedy == "" {
		tb.Fatalf("%v, want %v with the remedy %q", err, cause, remedy)
	}
	if bytes.ContainsRune([]byte(err.Error()), '\n') {
		tb.Errorf("not one line: %q", err)
	}
}

// edited makes a disk with the contents of another one, changed.
func edited(d *blktest.Disk, edit func(b []byte)) *blktest.Disk {
	b := d.Bytes()
	edit(b)
	c := blktest.New(d.Info())
	c.Fill(b)
	return c
}
