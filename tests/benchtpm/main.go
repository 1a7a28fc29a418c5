// Command benchtpm measures the TPM that Keel gives its guests (the worker behind package
// vtpm, with its sealed state store) beside Debian's swtpm, which has the same engine: the
// same commands over the same kind of socket, command by command in turn. It judges
// nothing: it writes what it saw to tests/benchtpm/results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	peerqemu "keel/tests/bench/peer"
	"keel/tests/benchtpm/command"
	"keel/vtpm/vtpmtest"
	peer "keel/vtpm/vtpmtest/swtpm"
)

// flags are the choices of a measurement.
type flags struct {
	rounds, boots         int
	only, out, dir, image string
}

func main() {
	var f flags
	flag.IntVar(&f.rounds, "n", 7, "rounds; each runs every operation many times on both sides")
	flag.IntVar(&f.boots, "boots", 3, "rounds of guests; each boots every side once; 0 for none")
	flag.StringVar(&f.image, "image", "build/keel.igvm", "image of Keel for the guests")
	flag.StringVar(&f.only, "only", "", "measure only the operations whose name contains this, once; writes no results")
	flag.StringVar(&f.out, "out", "tests/benchtpm/results", "folder for the results")
	flag.StringVar(&f.dir, "dir", "", "folder for the states of the TPMs (default /dev/shm where there is one, else that for temporary files)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "benchtpm:", err)
		os.Exit(1)
	}
}

// errUsage says that the measurement cannot be made as asked.
var errUsage = errors.New("cannot measure")

func run(ctx context.Context, f flags) error {
	ops := selected(f.only)
	switch {
	case f.rounds < 1:
		return fmt.Errorf("%w: -n %d: ask for at least 1 round", errUsage, f.rounds)
	case len(ops) == 0:
		return fmt.Errorf("%w: -only %q: no operation has that in its name; there are %s", errUsage, f.only, names(command.Operations))
	case os.Geteuid() != 0:
		return fmt.Errorf("%w: workers have user IDs of their own, which only root gives: run it as root", errUsage)
	}
	if f.only != "" {
		f.rounds = 1
	}
	work, err := os.MkdirTemp("", "keel-benchtpm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{ops: ops, where: f.dir}
	if b.where == "" {
		b.where = stateFolder()
	}
	if b.states, err = os.MkdirTemp(b.where, "keel-benchtpm-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.states)
	fmt.Fprintln(os.Stderr, "benchtpm: building the worker")
	if b.program, err = buildWorker(ctx, ".", work); err != nil {
		return err
	}
	defer b.stop()
	var r *results
	if err := onOneProcessor(func() error {
		if err := b.start(ctx); err != nil {
			return err
		}
		r, err = b.measure(ctx, f.rounds)
		return err
	}); err != nil {
		return err
	}
	if f.only != "" {
		return nil // measure has said what it saw
	}
	if f.boots > 0 {
		g, err := prepareGuests(ctx, f.image, work)
		if err != nil {
			return err
		}
		if r.Inside, r.InsideFailures, err = g.measure(ctx, f.boots); err != nil {
			return err
		}
		r.InsideCommand = peerqemu.SWTPM()
	}
	return b.write(ctx, r, f.out)
}

// stateFolder returns a file system without a disk beneath it, whose noise would be
// measured with the rest: swtpm does not wait for the disk, Keel does.
func stateFolder() string {
	const memory = "/dev/shm"
	var s unix.Statfs_t
	if unix.Statfs(memory, &s) == nil && s.Bavail*uint64(s.Bsize) > 64<<20 {
		return memory
	}
	return os.TempDir()
}

// selected returns the operations whose name contains a text.
func selected(only string) []command.Operation {
	var ops []command.Operation
	for _, op := range command.Operations {
		if strings.Contains(op.Name, only) {
			ops = append(ops, op)
		}
	}
	return ops
}

func names(ops []command.Operation) string {
	var list []string
	for _, op := range ops {
		list = append(list, op.Name)
	}
	return strings.Join(list, ", ")
}

// bench is what all rounds share.
type bench struct {
	ops     []command.Operation
	program string // the worker's
	where   string // file system of the states
	states  string // their folder
	locked  bool   // the worker may lock its memory
	// warm run all operations but those that begin with a reset, which cold run: what
	// a worker's memory grows to in all rounds is seen.
	warm, cold [sides]tpm
	fresh      [sides]memory // of warm, before the first operation
}

// start starts the TPMs.
func (b *bench) start(ctx context.Context) error {
	b.locked = vtpmtest.CanLock()
	for name, pair := range map[string]*[sides]tpm{"warm": &b.warm, "cold": &b.cold} {
		keel, err := startWorker(ctx, b.program, filepath.Join(b.states, name+"-worker"), b.locked)
		if err != nil {
			return err
		}
		pair[worker] = keel
		folder := filepath.Join(b.states, name+"-swtpm")
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		theirs, err := peer.Start(ctx, folder)
		if err != nil {
			return err
		}
		pair[swtpm] = theirs
		for _, t := range pair {
			if err := powerOn(t); err != nil {
				return err
			}
		}
	}
	for i, t := range b.warm {
		var err error
		if b.fresh[i], err = memoryOf(t.Pid()); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the TPMs.
func (b *bench) stop() {
	for _, pair := range [][sides]tpm{b.warm, b.cold} {
		for _, t := range pair {
			if t != nil {
				t.Close()
			}
		}
	}
}
