package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/u-root/u-root/pkg/cpio"

	"keel/initramfs"
	"keel/paravisor/gueststate"
	supervisor "keel/paravisor/worker"
	"keel/vtpm"
	"keel/vtpm/nv"
	peer "keel/vtpm/vtpmtest/swtpm"
)

// workerPackage is the worker among the programs of the image.
const workerPackage = "keel/vtpm/cmd/pvtpm"

// errBuild says that the worker cannot be had.
var errBuild = errors.New("cannot build the TPM's worker")

// buildWorker builds the worker as the image of the module in root has it, into a folder,
// and returns its path.
func buildWorker(ctx context.Context, root, folder string) (string, error) {
	for _, p := range initramfs.Programs() {
		if p.Package != workerPackage {
			continue
		}
		p.Packed, p.Path = false, "bin/pvtpm"
		archive, err := initramfs.Build(ctx, initramfs.Options{Flavour: initramfs.Release, Root: root, Programs: []initramfs.Program{p}})
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBuild, err)
		}
		data, err := member(archive, p.Path)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBuild, err)
		}
		path := filepath.Join(folder, "pvtpm")
		// The worker's user must be able to run it.
		return path, errors.Join(os.WriteFile(path, data, 0o755), os.Chmod(folder, 0o755))
	}
	return "", fmt.Errorf("%w: the image has no %s", errBuild, workerPackage)
}

// member returns a file of a cpio archive.
func member(archive []byte, name string) ([]byte, error) {
	r := cpio.Newc.Reader(bytes.NewReader(archive))
	for {
		record, err := r.ReadRecord()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if strings.TrimPrefix(record.Name, "/") == name {
			return io.ReadAll(io.NewSectionReader(record, 0, int64(record.FileSize)))
		}
	}
}

// workerUser is the first of the two users of workers, which nothing else here has.
const workerUser = 903_000

// keelTPM is Keel's TPM, with its state sealed in a file, as the paravisor has it.
type keelTPM struct {
	*vtpm.TPM
	disk *gueststate.File
	last atomic.Pointer[supervisor.Process]
}

// startWorker starts a TPM that is as good as new, whose state goes to a folder that is
// made.
func startWorker(ctx context.Context, program, folder string, lock bool) (_ *keelTPM, err error) {
	k := &keelTPM{}
	defer func() {
		if err != nil {
			k.Close()
			err = fmt.Errorf("starting Keel's TPM: %w", err)
		}
	}()
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "state")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, gueststate.MinDisk)); err != nil {
		return nil, err
	}
	if k.disk, err = gueststate.OpenFile(path, true); err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	provider, err := gueststate.HostKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := gueststate.Open(k.disk, gueststate.Options{VM: "benchtpm", Provider: provider})
	if err != nil {
		return nil, err
	}
	state, err := nv.Open(sealed)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	processes := supervisor.New(supervisor.Config{
		Name: "pvtpm", Path: program, UserID: workerUser, Sockets: vtpm.Sockets, LockMemory: lock, Log: log,
	})
	start := func(ctx context.Context) (vtpm.Process, error) {
		p, err := processes.Start(ctx)
		if err != nil {
			return nil, err // not a nil *Process in an interface
		}
		k.last.Store(p)
		return p, nil
	}
	if k.TPM, err = vtpm.New(ctx, vtpm.Config{Store: state, Start: start, Timeout: peer.Timeout, Log: log}); err != nil {
		return nil, err
	}
	return k, state.Advance(1) // from here on commits are written
}

// Send runs a command at locality 0.
func (k *keelTPM) Send(command []byte) ([]byte, error) {
	return k.Execute(context.Background(), 0, command)
}

// Pid returns the worker's process ID.
func (k *keelTPM) Pid() int { return k.last.Load().Pid() }

// Close ends the worker.
func (k *keelTPM) Close() {
	if k.TPM != nil {
		k.TPM.Close()
	}
	if k.disk != nil {
		k.disk.Close()
	}
}
