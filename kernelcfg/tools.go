package kernelcfg

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"keel/kernelcfg/deb"
)

// GuestFile is a file for a guest's root file system.
type GuestFile struct {
	Name string // in the guest, without leading slash
	Path string // its content, on this machine
}

// toolPrograms are the programs that guests get, by base name; those that end in *
// are prefixes. A program that a package set has under several paths is taken once.
// dash is there because busybox's shell prefers its own applets, whatever PATH says.
var toolPrograms = []string{
	"dash",
	"mke2fs", "mkfs.ext4", "e2fsck", "fsck.ext4", "dumpe2fs", "resize2fs",
	"mkfs.xfs", "xfs_repair",
	"blkdiscard", "blockdev", "fstrim", "flock", "mount", "umount",
	"sg_*",
}

// toolsRecipe stands for what shapes an unpacked tree beside the pins. Raise it when
// unpackTools changes.
const toolsRecipe = "2"

// GuestTools returns Debian's tools for disks and file systems with the libraries
// that they need, fetching them when needed: mkfs.ext4, e2fsck, mkfs.xfs,
// xfs_repair, blkdiscard, fstrim, mount, the sg_* programs, a shell, and fio, which is
// built when the cache lacks it (see GuestFio). Programs lie in bin and sbin.
// Errors: ErrGuest, and those of GuestFio.
func GuestTools(ctx context.Context) ([]GuestFile, error) {
	cache, err := deb.Default()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	files, err := takeTools(ctx, cache, diskTools)
	if err != nil {
		return nil, fmt.Errorf("%w: tools: %w", ErrGuest, err)
	}
	fio, err := GuestFio(ctx)
	if err != nil {
		return nil, err
	}
	return append(files, GuestFile{Name: "bin/fio", Path: fio}), nil
}

// toolKit is what one kind of guest gets.
type toolKit struct {
	programs []string  // as toolPrograms has them
	opened   []string  // libraries that programs open by themselves, by the name that they ask for
	folders  []string  // whose files guests get, without what lies in folders of theirs
	sets     []toolSet // in order of preference
	// given are libraries that come from elsewhere: the path on this machine by name.
	given map[string]string
}

// diskTools are the tools of GuestTools.
var diskTools = toolKit{programs: toolPrograms, sets: toolSets}

// takeTools returns the tools of the first set that the mirrors have whole.
func takeTools(ctx context.Context, cache *deb.Cache, kit toolKit) ([]GuestFile, error) {
	var dropped error
	for i, set := range kit.sets {
		tree, err := toolTree(ctx, cache, kit, set)
		if err == nil {
			wanted, err := findPrograms(tree, kit.programs)
			if err != nil {
				return nil, err
			}
			for _, library := range kit.opened {
				name, err := findLibrary(tree, library)
				if err != nil {
					return nil, err
				}
				wanted = append(wanted, name)
			}
			files, err := closure(tree, wanted, kit.given)
			if err != nil {
				return nil, err
			}
			more, err := inFolders(tree, kit.folders)
			return append(files, more...), err
		}
		if !errors.Is(err, deb.ErrDropped) {
			return nil, err
		}
		dropped = err
		if i+1 < len(kit.sets) {
			fmt.Fprintf(cache.Progress, "keel: WARNING: %v; taking the tools of %s. Update the pins.\n", err, kit.sets[i+1].release)
		}
	}
	return nil, dropped
}

// toolTree returns the folder with a set's unpacked programs and libraries.
func toolTree(ctx context.Context, cache *deb.Cache, kit toolKit, set toolSet) (string, error) {
	place := func(pins []deb.Pin) string {
		h := sha256.New()
		fmt.Fprintln(h, toolsRecipe, kit.programs, kit.folders)
		for _, p := range pins {
			fmt.Fprintln(h, p.SHA256)
		}
		return filepath.Join(filepath.Dir(cache.Dir), "guest", "tools-"+hex.EncodeToString(h.Sum(nil))[:16])
	}
	// With the preferred pins unpacked, neither mirror nor packages are needed.
	var preferred []deb.Pin
	for _, pins := range set.packages {
		preferred = append(preferred, pins[0])
	}
	if tree := place(preferred); isDir(tree) {
		return tree, nil
	}
	var packages []string
	var chosen []deb.Pin
	for _, pins := range set.packages {
		pkg, pin, err := cache.FirstAvailable(ctx, pins...)
		if err != nil {
			return "", err
		}
		packages, chosen = append(packages, pkg), append(chosen, pin)
	}
	tree := place(chosen)
	unlock, err := deb.Lock(tree+".lock", cache.Progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(tree) {
		return tree, nil
	}
	part := tree + ".part" // with the lock held, an existing one is a dead process's
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	for _, pkg := range packages {
		if err := unpackTools(pkg, part, kit); err != nil {
			return "", errors.Join(err, os.RemoveAll(part))
		}
	}
	return tree, os.Rename(part, tree) // only a complete tree gets its name
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// unpackTools takes the wanted programs and folders and all shared libraries of a
// package, with the links between them.
func unpackTools(pkg, tree string, kit toolKit) error {
	return deb.Walk(pkg, func(h *tar.Header, r io.Reader) error {
		if !isProgram(h.Name, kit.programs) && !isLibrary(h.Name) && !slices.Contains(kit.folders, path.Dir(h.Name)) {
			return nil
		}
		dst := filepath.Join(tree, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeReg:
			return deb.WriteFile(dst, r, 0o755)
		case tar.TypeSymlink:
			if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
				return err
			}
			return os.Symlink(h.Linkname, dst)
		case tar.TypeLink:
			return fmt.Errorf("%s: hard links are not expected", h.Name)
		}
		return nil
	})
}

// programDirs are where packages have programs.
var programDirs = []string{"bin", "sbin", "usr/bin", "usr/sbin", "lib/systemd"}

// isProgram tells a program that one of the patterns names.
func isProgram(name string, programs []string) bool {
	if !slices.Contains(programDirs, path.Dir(name)) {
		return false
	}
	for _, p := range programs {
		if ok, _ := path.Match(p, path.Base(name)); ok { // the patterns are ours
			return true
		}
	}
	return false
}

// isLibrary tells a shared library or the program interpreter.
func isLibrary(name string) bool {
	dir, base := path.Split(name)
	switch strings.TrimPrefix(dir, "usr/") {
	case "lib/x86_64-linux-gnu/", "lib/x86_64-linux-gnu/systemd/", "lib64/":
		return strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
	}
	return false
}

// findPrograms lists the programs of an unpacked tree, and complains when one of
// them is not there.
func findPrograms(tree string, programs []string) ([]string, error) {
	var out []string
	found := map[string]bool{}
	for _, dir := range programDirs {
		entries, err := os.ReadDir(filepath.Join(tree, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			out = append(out, path.Join(dir, e.Name()))
			for _, p := range programs {
				if ok, _ := path.Match(p, e.Name()); ok {
					found[p] = true
				}
			}
		}
	}
	for _, p := range programs {
		if !found[p] {
			return nil, fmt.Errorf("the packages have no %s", p)
		}
	}
	return out, nil
}

// inFolders lists the files of folders of an unpacked tree, named without the usr/ of a
// merged system. Links are left out.
func inFolders(tree string, folders []string) ([]GuestFile, error) {
	var out []GuestFile
	for _, dir := range folders {
		entries, err := os.ReadDir(filepath.Join(tree, dir))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				name := path.Join(dir, e.Name())
				out = append(out, GuestFile{Name: strings.TrimPrefix(name, "usr/"), Path: filepath.Join(tree, name)})
			}
		}
	}
	return out, nil
}
