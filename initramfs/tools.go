package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// MaxTools bounds the initrd that ToolsInitrd makes, in bytes: the guest keeps it in
// memory beside its unpacked copy.
const MaxTools = 80 << 20

// ErrTools says that an initrd with tools cannot be what was asked for.
var ErrTools = errors.New("initramfs: guest tools")

// File is a file of a guest's initrd.
type File struct {
	Name string      // in the guest; a leading slash is of no meaning
	Path string      // its content, on this machine; empty where Data has it
	Data []byte      // its content
	Mode fs.FileMode // permissions; 0 stands for 0755
}

// Tools says what a guest gets that loads modules and runs a script.
type Tools struct {
	Busybox string // the statically linked busybox, on this machine
	Modules []string
	Files   []File // programs, libraries, and scripts below scripts/
}

// ToolsInitrd returns a guest initrd with busybox, kernel modules and further files,
// whose /init does what the kernel's command line says:
//
//	keel.modules=A,B   loads lib/keel/A.ko, then lib/keel/B.ko
//	keel.script=NAME   runs scripts/NAME with dash, or busybox's shell where there is
//	                   none, and powers off
//	keel.root=LUN      hands over to the ext4 file system on the SCSI disk with that LUN
//
// With neither script nor root it ends at a shell. Modules are files on this
// machine, named after the module. It reports as package tests/guest parses: a
// script that ends with 0 passes the check "script", and modules that load pass
// "modules". Errors: ErrArchive, and ErrTools when it grows beyond MaxTools.
func ToolsInitrd(t Tools) ([]byte, error) {
	var a archive
	a.system()
	if err := a.program("bin/busybox", t.Busybox); err != nil {
		return nil, err
	}
	a.add(executable("init", []byte(toolsInit)))
	a.add(cpio.StaticFile("etc/shell", guestShell, 0o644))
	a.add(cpio.Directory("newroot", 0o755))
	seen := map[string]bool{"bin/busybox": true, "init": true, "etc/shell": true}
	files := make([]File, 0, len(t.Modules)+len(t.Files))
	for _, module := range t.Modules {
		files = append(files, File{Name: path.Join(modulesDir, path.Base(module)), Path: module, Mode: 0o644})
	}
	for _, f := range append(files, t.Files...) {
		name := strings.TrimPrefix(path.Clean("/"+f.Name), "/")
		if name == "" || seen[name] {
			return nil, fmt.Errorf("%w: two files are called %q", ErrTools, f.Name)
		}
		seen[name] = true
		data := f.Data
		if f.Path != "" {
			var err error
			if data, err = os.ReadFile(f.Path); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrArchive, err)
			}
		}
		mode := uint64(f.Mode.Perm())
		if mode == 0 {
			mode = 0o755
		}
		a.add(cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | mode}))
	}
	data, err := a.bytes()
	if err == nil && len(data) > MaxTools {
		return nil, fmt.Errorf("%w: the initrd has %d bytes, more than %d", ErrTools, len(data), MaxTools)
	}
	return data, err
}

// modulesDir is where the initrd has its modules, with no folders below.
const modulesDir = "lib/keel"
