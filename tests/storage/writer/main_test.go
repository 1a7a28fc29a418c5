package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"keel/tests/storage/durable"
)

// TestRun writes to a file what the verifier must accept, and no more.
func TestRun(t *testing.T) {
	l := durable.Layout{Jobs: 3, Slots: 16}
	disk := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Bytes()); err != nil {
		t.Fatal(err)
	}
	said := filepath.Join(t.TempDir(), "stdout")
	out, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	err = run(disk, l, 40)
	os.Stdout = stdout
	if errors.Is(err, unix.EINVAL) {
		t.Skip(fmt.Errorf("%w: the folder for temporary files has no O_DIRECT: %w", errors.ErrUnsupported, err))
	}
	if err != nil {
		t.Fatal(err)
	}
	console, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	acks := durable.Acks(string(console), l.Jobs)
	if want := []uint64{40, 40, 40}; !slices.Equal(acks, want) {
		t.Errorf("acknowledged %v, want %v", acks, want)
	}
	if err := durable.Verify(f, l, acks); err != nil {
		t.Error(err)
	}
	acks[1]++
	if durable.Verify(f, l, acks) == nil {
		t.Error("a block that was not written was found")
	}
}
