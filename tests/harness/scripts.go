package harness

import (
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keel/initramfs"
	"keel/tests/guest"
)

// commonScript is what all scripts of guests may read.
//
//go:embed common.sh
var commonScript []byte

// Scripts returns the scripts in the folder "scripts" of a package, and common.sh, as
// files of a guest's initrd (see initramfs.ToolsInitrd).
func Scripts(pkg fs.FS) ([]initramfs.File, error) {
	entries, err := fs.ReadDir(pkg, "scripts")
	if err != nil {
		return nil, err
	}
	files := []initramfs.File{{Name: "scripts/common.sh", Data: commonScript}}
	for _, e := range entries {
		name := path.Join("scripts", e.Name())
		data, err := fs.ReadFile(pkg, name)
		if err != nil {
			return nil, err
		}
		files = append(files, initramfs.File{Name: name, Data: data})
	}
	return files, nil
}

// ScriptCmdline returns the kernel parameters that load modules and run a script with
// parameters of its own, each "name=value" without the prefix keel.
func ScriptCmdline(modules []string, script string, params ...string) string {
	words := []string{"console=ttyS0 quiet panic=-1"}
	if len(modules) > 0 {
		words = append(words, "modules="+strings.Join(modules, ","))
	}
	return strings.Join(append(append(words, "script="+script), params...), " keel.")
}

// WriteInitrd makes an initrd with tools and writes it.
func WriteInitrd(path string, t initramfs.Tools) error {
	data, err := initramfs.ToolsInitrd(t)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return os.WriteFile(path, data, 0o600)
}

// Judge checks what a script that came to its end has said, and returns it: checks must
// have passed.
func (r *Run) Judge(t *testing.T, checks ...string) guest.Transcript {
	t.Helper()
	for _, fault := range r.Faults() {
		t.Errorf("a stray access to memory: %s", fault)
	}
	console := r.Console()
	said := guest.Parse(console)
	if err := said.Check(append([]string{"script"}, checks...)...); err != nil {
		t.Errorf("%v\n%s", err, console)
	}
	return said
}

// KillVM ends the virtual machine of a run at once.
func (r *Run) KillVM(t *testing.T) {
	t.Helper()
	killed := 0
	for _, pid := range r.Processes() {
		exe, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(pid), "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(exe), "qemu-system") {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 1 {
		t.Fatalf("%d processes of QEMU, want 1", killed)
	}
}
