package boot

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"keel/boot/handoff"
	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/boot/marker"
	"keel/tests/guest"
	"keel/tests/harness"
)

//go:embed scripts/*
var scripts embed.FS

// secretDrivers are the modules of the places where a guest hides something.
var secretDrivers = []string{"tpm_crb", "virtio_pci", "virtio_scsi", "sd_mod"}

// secretVM is a confidential VM of an owner, whose guest has secrets.
type secretVM struct {
	run   *harness.Run
	owner *diagOwner
	tap   *tap
	seed  string // of the secrets
	state string // file of the TPM's state
}

// startSecrets starts a VM and waits until its guest has hidden the secrets.
func startSecrets(t *testing.T, o *diagOwner) *secretVM {
	t.Helper()
	seed := make([]byte, 16)
	_, _ = rand.Read(seed) // never fails
	v := &secretVM{owner: o, seed: hex.EncodeToString(seed)}
	image := tool.Make(t, o.flags...)
	initrd, modules := secretPayload(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	v.state = filepath.Join(dir, "tpm")
	for _, file := range []string{disk, v.state} {
		if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v.run = tool.Start(t, "--image", image, "--isolation", "snp", "--vps", "2", "--mem", "128M", "--kernel", payload.kernels["6.1"],
		"--initrd", initrd, "--append", harness.ScriptCmdline(modules, "secrets", "seed="+v.seed), "--disk", disk+",front=virtio-scsi",
		"--tpm", "crb", "--tpm-state", v.state)
	v.run.Until(t, "hidden secrets", func() bool {
		said := guest.Parse(v.run.Console())
		for _, r := range said.Results {
			if !r.Passed {
				t.Fatalf("%+v", r)
			}
		}
		for _, p := range append(slices.Clone(marker.Hidden), marker.Console) {
			if !slices.Contains(said.Notes, "hidden "+string(p)) {
				return false
			}
		}
		return true
	})
	v.tap = newTap(t, handoff.VsockSocket(os.Getuid(), v.run.Name))
	return v
}

// secretPayload makes the initrd of the guest, and says which modules it loads.
func secretPayload(t *testing.T) (initrd string, modules []string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "secrets")
	if err := initramfs.CompileProgram(t.Context(), root, "keel/tests/boot/secrets", program); err != nil {
		t.Fatal(err)
	}
	busybox, err := kernelcfg.Busybox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := harness.Scripts(scripts)
	if err != nil {
		t.Fatal(err)
	}
	tools := initramfs.Tools{Busybox: busybox, Files: append(files, initramfs.File{Name: "bin/secrets", Path: program})}
	needed, err := kernelcfg.GuestModules(t.Context(), "6.1", secretDrivers...)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range needed {
		modules, tools.Modules = append(modules, m.Name), append(tools.Modules, m.Path)
	}
	initrd = filepath.Join(dir, "initrd")
	if err := harness.WriteInitrd(initrd, tools); err != nil {
		t.Fatal(err)
	}
	return initrd, modules
}

// tap stands between clients and the vsock socket of a VM and keeps every byte that
// crosses.
type tap struct {
	path   string // for clients
	record *os.File

	mu sync.Mutex // orders what is recorded
}

// newTap makes a tap, which goes with the test.
func newTap(t *testing.T, socket string) *tap {
	t.Helper()
	// Not t.TempDir: the path of a socket is short (unix(7)).
	dir, err := os.MkdirTemp("", "keel-tap-")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{path: filepath.Join(dir, "socket")}
	if p.record, err = os.Create(filepath.Join(dir, "record")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.join(ctx, c, socket) })
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
		p.record.Close()
		os.RemoveAll(dir)
	})
	return p
}

// join connects a client with the VM until one of them, or ctx, ends.
func (p *tap) join(ctx context.Context, client net.Conn, socket string) {
	defer client.Close()
	vm, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer vm.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, vm}, {vm, client}} {
		go func() {
			_, _ = io.Copy(way[1], io.TeeReader(way[0], p)) // an end is an end
			done <- struct{}{}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	client.Close()
	vm.Close()
}

// Write keeps bytes of one direction. The pieces of a message may stand apart when others
// speak meanwhile: calls are made one after the other.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.Write(b)
}
