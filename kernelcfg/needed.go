package kernelcfg

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// libraryDirs are where Debian's loader looks on amd64, within an unpacked tree; in the
// last one for systemd's programs, which say so.
var libraryDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib", "usr/lib/x86_64-linux-gnu/systemd"}

// closure returns the programs of a tree together with every library and program
// interpreter that they need, directly or not (ELF gABI, DT_NEEDED and PT_INTERP).
// Files are named as the guest's loader asks for them, programs without the usr/ of
// a merged system, and given with their content's path on this machine; links are
// followed within the tree. A library that is given is taken from its path instead,
// and what it needs is not looked for.
func closure(tree string, programs []string, given map[string]string) ([]GuestFile, error) {
	files := map[string]string{}
	var todo []string
	for _, p := range programs {
		todo = append(todo, strings.TrimPrefix(p, "usr/"))
	}
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if files[name] != "" {
			continue
		}
		file, err := locate(tree, name)
		if err != nil {
			return nil, err
		}
		files[name] = file
		needed, interpreter, err := elfNeeds(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if interpreter != "" {
			todo = append(todo, strings.TrimPrefix(interpreter, "/"))
		}
		for _, library := range needed {
			if file := given[library]; file != "" {
				files[path.Join(libraryDirs[0], library)] = file
				continue
			}
			found, err := findLibrary(tree, library)
			if err != nil {
				return nil, fmt.Errorf("%w, needed by %s", err, name)
			}
			todo = append(todo, found)
		}
	}
	out := make([]GuestFile, 0, len(files))
	for name, file := range files {
		out = append(out, GuestFile{Name: name, Path: file})
	}
	slices.SortFunc(out, func(a, b GuestFile) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// findLibrary returns the name within the tree that the loader finds a library by.
func findLibrary(tree, library string) (string, error) {
	for _, dir := range libraryDirs {
		name := path.Join(dir, library)
		if _, err := follow(tree, name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("no library %s", library)
}

// elfNeeds returns what a file asks the loader for. What is no ELF file needs
// nothing: scripts are for the shell that the guest has.
func elfNeeds(file string) (needed []string, interpreter string, err error) {
	raw, err := os.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer raw.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := raw.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	if string(magic) != elf.ELFMAG {
		return nil, "", nil
	}
	f, err := elf.NewFile(raw)
	if err != nil {
		return nil, "", err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(text, 0); err != nil {
			return nil, "", err
		}
		interpreter = strings.TrimRight(string(text), "\x00")
	}
	needed, err = f.ImportedLibraries()
	return needed, interpreter, err
}

// locate is follow for a system on which /bin, /lib and the like may be links into
// /usr that belong to none of the packages.
func locate(tree, name string) (string, error) {
	file, err := follow(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		if merged, err := follow(tree, path.Join("usr", name)); err == nil {
			return merged, nil
		}
	}
	return file, err
}

// follow resolves the symbolic links of a name within the tree; absolute targets
// start at its top, and none leads out of it.
func follow(tree, name string) (string, error) {
	const maxLinks = 40 // as the kernel's own limit
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(filepath.Join(tree, next))
		if err != nil {
			// No link, or nothing at all, which the end tells.
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many links", name)
		}
		if !path.IsAbs(target) {
			target = path.Join(at, target)
		}
		rest = append(strings.Split(path.Clean(target)[1:], "/"), rest...)
		at = "/"
	}
	file := filepath.Join(tree, at)
	st, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file", name)
	}
	return file, nil
}
