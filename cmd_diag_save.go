package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/owner"
)

// saved is what a command that saves a file prints with --json.
type saved struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

// save has take write a file, which appears when it is complete; path - is standard
// output. One that is encrypted gets a name that says so. People see how far it is.
func save(path string, stdout, stderr io.Writer, take func(io.Writer) error) (saved, error) {
	to := &transfer{w: stdout, stderr: stderr, live: onTerminal(stderr) && path != "-"}
	if path == "-" {
		if onTerminal(stdout) {
			return saved{}, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "this is nothing for a terminal", Remedy: "name a file with -o"}
		}
		err := take(to)
		return saved{path, to.n}, to.explain(err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return saved{}, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("%s is no regular file", path), Remedy: "name another one with -o"}
	}
	// What it was is lost only when there is a new one. Others may not read it: a core has
	// secrets.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return saved{}, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot write -o", Err: err, Remedy: "name a file that can be written"}
	}
	defer os.Remove(f.Name()) // it is gone by then, if all went well
	to.w = f
	err = take(holes{to, f})
	to.finish()
	if err != nil && !errors.Is(err, client.ErrCut) {
		f.Close()
		return saved{}, to.explain(err)
	}
	size, failed := f.Seek(0, io.SeekEnd)
	failed = errors.Join(failed, f.Close())
	path = sealedName(path, to.first)
	if failed == nil {
		failed = os.Rename(f.Name(), path)
	}
	if failed != nil {
		return saved{}, to.explain(failed)
	}
	return saved{path, size}, to.explain(err)
}

// transfer counts what comes, and shows it where somebody looks.
type transfer struct {
	w      io.Writer
	stderr io.Writer
	live   bool
	first  []byte // of what came
	n      int64
	told   time.Time
}

// progressPeriod is how often people see how far it is.
const progressPeriod = 200 * time.Millisecond

// Write passes bytes on.
func (t *transfer) Write(b []byte) (int, error) {
	if t.n == 0 {
		t.first = append(t.first, b[:min(len(b), len(owner.Header))]...)
	}
	n, err := t.w.Write(b)
	t.n += int64(n)
	if now := time.Now(); t.live && now.Sub(t.told) >= progressPeriod {
		t.told = now
		fmt.Fprintf(t.stderr, "\r%.1f MiB ", float64(t.n)/(1<<20))
	}
	return n, err
}

// finish clears the line.
func (t *transfer) finish() {
	if t.live && !t.told.IsZero() {
		fmt.Fprint(t.stderr, "\r\x1b[K")
	}
}

// explain gives errors an outcome and a remedy.
func (t *transfer) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return &handoff.Failure{
			Outcome: handoff.OutcomeInternal, Cause: fmt.Sprintf("there is no room for the file after %d bytes", t.n), Err: err, Remedy: "make room, or name a file elsewhere with -o",
		}
	case errors.Is(err, client.ErrCut):
		return &handoff.Failure{Outcome: handoff.OutcomeVMLost, Cause: "the file is short", Err: err, Remedy: "use what there is, or ask for less"}
	}
	return err
}

// holes is a file in which zeros are holes.
type holes struct {
	*transfer
	file *os.File
}

// Seek moves in the file.
func (h holes) Seek(offset int64, whence int) (int64, error) { return h.file.Seek(offset, whence) }

// Truncate sets the length of the file.
func (h holes) Truncate(size int64) error { return h.file.Truncate(size) }

// fileFor is the name of a file about a VM when nobody gives one.
func fileFor(vm, suffix string) string {
	return strings.TrimLeft(filepath.Base(vm), "@") + suffix
}

// report says what was saved.
func (s saved) report(stdout, stderr io.Writer, asJSON bool, hint string) error {
	if asJSON {
		if s.File == "-" {
			stdout = stderr
		}
		return writeJSON(stdout, s)
	}
	if s.File == "-" {
		return nil
	}
	_, err := fmt.Fprintf(stderr, "keel: %s has %d bytes%s\n", s.File, s.Bytes, hint)
	return err
}
