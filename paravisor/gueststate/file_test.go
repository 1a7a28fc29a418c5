package gueststate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

func stateFile(tb testing.TB, bytes int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "state")
	if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func mustOpenFile(tb testing.TB, path string, write bool) *File {
	tb.Helper()
	f, err := OpenFile(path, write)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

func TestFile(t *testing.T) {
	path := stateFile(t, MinDisk+100) // the last block is not whole
	f := mustOpenFile(t, path, true)
	s := mustOpen(t, f, options())
	mustCommit(t, s, "x", "kept")
	holds(t, s, "kept")
	f.Close()
	f = mustOpenFile(t, path, false)
	_, err := Open(f, options())
	refused(t, err, ErrReadOnly, "writable")
	sum, err := Inspect(f, testKey(7))
	if err != nil || !sum.Opened || string(sum.Content) != "kept" || sum.Use != "A" {
		t.Errorf("%+v, %v", sum, err)
	}
	var all bytes.Buffer
	if n, err := all.ReadFrom(f.Reader()); err != nil || n != MinDisk+100 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestFileLocks checks the locks against each other and against those of QEMU: a writer
// shares with nobody, readers with each other.
func TestFileLocks(t *testing.T) {
	path := stateFile(t, MinDisk)
	first := mustOpenFile(t, path, false)
	second := mustOpenFile(t, path, false)
	locked := func(write bool) {
		t.Helper()
		if f, err := OpenFile(path, write); err == nil {
			f.Close()
			t.Error("opened what another has open")
		} else if !isOutcome(err, handoff.OutcomeBadState) || !strings.Contains(err.Error(), "end the VM") {
			t.Error(err)
		}
	}
	locked(true)
	first.Close()
	second.Close()
	writer := mustOpenFile(t, path, true)
	locked(true)
	locked(false)
	writer.Close()
	// What a QEMU has locked that writes the image: it reads and writes it, and lets
	// nobody else write or resize it.
	qemu, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{100, 101, 201, 203} {
		l := unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}
		if err := unix.FcntlFlock(qemu.Fd(), unix.F_OFD_SETLK, &l); err != nil {
			t.Fatal(err)
		}
	}
	locked(true)
	locked(false)
	qemu.Close()
	mustOpenFile(t, path, true)
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"absent": filepath.Join(dir, "absent"), "folder": dir, "pipe": fifo, "character device": os.DevNull,
	} {
		if _, err := OpenFile(path, false); !isOutcome(err, handoff.OutcomeBadState) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Inspect(mustOpenFile(t, stateFile(t, MinDisk-1), false), nil)
	refused(t, err, ErrSize, "4 MiB")
	_, err = Inspect(mustOpenFile(t, stateFile(t, 0), false), nil)
	refused(t, err, ErrSize, "4 MiB")
}

// TestInspect looks at disks with and without a key.
func TestInspect(t *testing.T) {
	d := newDisk(512)
	if s, err := Inspect(d, nil); err != nil || !s.Empty || s.Use != "" {
		t.Errorf("empty: %+v, %v", s, err)
	}
	mustCommit(t, mustOpen(t, d, options()), "old", "new")
	s, err := Inspect(d, nil)
	if err != nil || s.Use != "A" || s.Opened || s.Content != nil || s.Recovered || s.Spliced || s.Bytes != MinDisk {
		t.Errorf("without key: %+v, %v", s, err)
	}
	want := Slot{Name: "A", Condition: Sealed, Format: 1, Sequence: 3, Bytes: 3, VM: "web", Provider: HostKeyName}
	if s.Slots[0] != want {
		t.Errorf("%+v", s.Slots[0])
	}
	if s, err = Inspect(d, testKey(7)); err != nil || !s.Opened || string(s.Content) != "new" || s.Slots[1].Condition != Valid {
		t.Errorf("with key: %+v, %v", s, err)
	}
	s, err = Inspect(d, testKey(8))
	refused(t, err, ErrKey, ResetOption)
	if s == nil || s.Problem != err.Error() || s.Slots[0].Condition != OtherKey {
		t.Errorf("with another key: %+v", s)
	}
	for name, tt := range badDisks {
		if tt.edit == nil || tt.opts != nil || strings.Contains(name, "content") || strings.Contains(name, "tag") {
			continue // a key is needed to see those
		}
		_, err := Inspect(edited(d, tt.edit), testKey(7))
		refused(t, err, tt.want, tt.remedy)
	}
}

func TestWipe(t *testing.T) {
	d := newDisk(512)
	mustCommit(t, mustOpen(t, d, options()), "old")
	if err := Wipe(edited(d, func(b []byte) { copy(b, "ext4"); copy(b[SlotBytes:], "ext4") })); err == nil {
		t.Error("wiped something else")
	}
	damaged := edited(d, func(b []byte) { b[offSalt] ^= 1; b[SlotBytes+offSalt] ^= 1 })
	if err := Wipe(damaged); err != nil || !zero(damaged.Bytes()) {
		t.Errorf("damaged: %v", err)
	}
	if err := Wipe(d); err != nil || !zero(d.Bytes()) {
		t.Error(err)
	}
	holds(t, mustOpen(t, d, options()), "")
}
