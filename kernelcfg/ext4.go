package kernelcfg

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// rootfsLabel is the file system's label, which fstab in rootfs.sh names.
const rootfsLabel = "keel-root"

// tarToExt4 writes an ext4 file system of size bytes with the content of an archive
// to image. Owners, modes and devices are those of the archive although no step
// needs root: mke2fs copies a plain tree, and debugfs then sets what that could not hold.
func tarToExt4(ctx context.Context, archive io.Reader, work, image string, size int64) error {
	tree, script := filepath.Join(work, "tree"), filepath.Join(work, "debugfs")
	f, err := os.Create(script)
	if err != nil {
		return err
	}
	fix := bufio.NewWriter(f)
	err = unpackPlain(archive, tree, fix)
	if err := errors.Join(err, fix.Flush(), f.Close()); err != nil {
		return err
	}
	disk, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(disk.Truncate(size), disk.Close()); err != nil {
		return err
	}
	// Debian keeps these beside its daemons, where a user's PATH may not lead.
	mke2fs, err := sbin("mke2fs")
	if err != nil {
		return err
	}
	debugfs, err := sbin("debugfs")
	if err != nil {
		return err
	}
	// A small journal, and tables written now: the guest should not do it during a test.
	if err := runTool(ctx, work, nil, mke2fs, "-q", "-F", "-t", "ext4", "-L", rootfsLabel, "-b", "4096", "-m", "0",
		"-J", "size=16", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", "-d", tree, image); err != nil {
		return err
	}
	return runDebugfs(ctx, debugfs, script, image)
}

// runDebugfs applies a script. debugfs goes on after an error and exits with 0, so
// what it says is read: it echoes each request and is silent about those that went well.
func runDebugfs(ctx context.Context, debugfs, script, image string) error {
	out, err := exec.CommandContext(ctx, debugfs, "-w", "-f", script, image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, out)
	}
	first := true
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		banner := first && strings.HasPrefix(line, "debugfs ") // its version
		first = false
		if line != "" && !banner && !strings.HasPrefix(line, "debugfs: ") && line != "Allocated inode:" && !strings.HasPrefix(line, "Allocated inode: ") {
			return fmt.Errorf("debugfs: %s", line)
		}
	}
	return nil
}

// sbin finds a program in PATH or in /usr/sbin and /sbin.
func sbin(program string) (string, error) {
	found, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			found, err = exec.LookPath(filepath.Join(dir, program))
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w (apt package e2fsprogs)", err)
	}
	return found, nil
}

// unpackPlain unpacks an archive as files, folders and links of the calling user,
// and writes the debugfs requests that restore owners, modes and devices.
func unpackPlain(archive io.Reader, tree string, fix io.Writer) error {
	// No link may redirect what comes later.
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(archive); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		// debugfs takes names in quotes and knows no escapes.
		if strings.ContainsAny(name, "\"\n") {
			return fmt.Errorf("name %q cannot be had", name)
		}
		if err := unpackMember(root, h, name, tr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := restore(fix, h, name); err != nil {
			return err
		}
	}
}

// unpackMember makes what a plain user can make of a member; devices come with
// restore.
func unpackMember(root *os.Root, h *tar.Header, name string, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		return root.Chtimes(name, h.ModTime, h.ModTime)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil
	}
	return fmt.Errorf("type %q is not known", h.Typeflag)
}

// Types of an inode's mode (ext4: Linux fs/ext4, i_mode; the values of stat(2)).
var inodeType = map[byte]int64{
	tar.TypeReg: 0o100000, tar.TypeDir: 0o040000, tar.TypeSymlink: 0o120000,
	tar.TypeChar: 0o020000, tar.TypeBlock: 0o060000, tar.TypeFifo: 0o010000,
}

// restore writes the requests for one member (debugfs(8): mknod, set_inode_field).
func restore(fix io.Writer, h *tar.Header, name string) error {
	if h.Typeflag == tar.TypeLink { // it shares the inode of an earlier member
		return nil
	}
	var err error
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(fix, format+"\n", args...)
		}
	}
	// mknod makes its node in the working folder.
	switch h.Typeflag {
	case tar.TypeChar:
		say("cd \"/%s\"", path.Dir(name))
		say("mknod \"%s\" c %d %d", path.Base(name), h.Devmajor, h.Devminor)
		say("cd /")
	case tar.TypeBlock:
		say("cd \"/%s\"", path.Dir(name))
		say("mknod \"%s\" b %d %d", path.Base(name), h.Devmajor, h.Devminor)
		say("cd /")
	case tar.TypeFifo:
		say("cd \"/%s\"", path.Dir(name))
		say("mknod \"%s\" p", path.Base(name))
		say("cd /")
	}
	say("sif \"/%s\" uid %d", name, h.Uid)
	say("sif \"/%s\" gid %d", name, h.Gid)
	say("sif \"/%s\" mode 0%o", name, inodeType[h.Typeflag]|h.Mode&0o7777)
	return err
}
