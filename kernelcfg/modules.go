package kernelcfg

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"keel/kernelcfg/deb"
)

// Module is one loadable module of a guest kernel.
type Module struct {
	Name string // as the kernel spells it, for example virtio_scsi
	Path string // its .ko file in the user's cache
}

// maxModule bounds the size of a module file, in bytes; the largest of a cloud
// kernel has 5 MB.
const maxModule = 64 << 20

// GuestModules returns the named modules of the guest kernel that GuestKernel gives
// for the same name, with all that they depend on, in an order in which they can be
// loaded. Names may be aliases without wildcards. Modules that are built into the
// kernel are left out, so the result may be shorter than the list of names. The
// error is ErrGuest.
func GuestModules(ctx context.Context, kernel string, names ...string) ([]Module, error) {
	pins, ok := guests[kernel]
	if !ok {
		return nil, fmt.Errorf("%w: no kernel %q; there are %s", ErrGuest, kernel, strings.Join(GuestKernels(), ", "))
	}
	cache, err := deb.Default()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	modules, err := takeModules(ctx, cache, pins, names)
	if err != nil {
		return nil, fmt.Errorf("%w: kernel %s: %w", ErrGuest, kernel, err)
	}
	return modules, nil
}

// takeModules is GuestModules over a given cache. Index and modules lie in the
// folder of their kernel (see takeFile).
func takeModules(ctx context.Context, cache *deb.Cache, pins []deb.Pin, names []string) ([]Module, error) {
	kernelDir := func(p deb.Pin) string { return filepath.Join(filepath.Dir(cache.Dir), "guest", p.SHA256[:16]) }
	// Once everything wanted is taken out, the package itself is not needed.
	dir := filepath.Join(kernelDir(pins[0]), "modules")
	if modules, err := present(dir, names); err == nil {
		return modules, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pkg, pin, err := cache.FirstAvailable(ctx, pins...)
	if err != nil {
		return nil, err
	}
	if pin != pins[0] {
		// GuestKernel prefers what it took out earlier, and would not fit.
		kernel := filepath.Join(kernelDir(pins[0]), filepath.Base(vmlinuz(pins[0])))
		if _, err := os.Stat(kernel); err == nil {
			return nil, fmt.Errorf("the mirror dropped the modules of %s: remove %s", pins[0], kernel)
		}
		dir = filepath.Join(kernelDir(pin), "modules")
	}
	unlock, err := deb.Lock(filepath.Join(kernelDir(pin), "modules.lock"), cache.Progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	index, err := loadIndex(dir)
	if err != nil {
		if index, err = indexPackage(pkg); err != nil {
			return nil, err
		}
		if err := index.save(dir); err != nil {
			return nil, err
		}
	}
	wanted, err := index.resolve(names...)
	if err != nil {
		return nil, err
	}
	if err := extractModules(pkg, dir, index, wanted); err != nil {
		return nil, err
	}
	return present(dir, names)
}

// present returns what takeModules must, if all of it is in dir already. The error
// is fs.ErrNotExist when something is missing.
func present(dir string, names []string) ([]Module, error) {
	index, err := loadIndex(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	order, err := index.resolve(names...)
	if err != nil {
		return nil, err
	}
	modules := make([]Module, len(order))
	for i, name := range order {
		modules[i] = Module{Name: name, Path: filepath.Join(dir, name+".ko")}
		if _, err := os.Stat(modules[i].Path); err != nil {
			return nil, err
		}
	}
	return modules, nil
}

// indexPackage reads every module of a kernel package. The package has no
// modules.dep: depmod makes that where it is installed.
func indexPackage(pkg string) (*moduleIndex, error) {
	x := &moduleIndex{files: map[string]string{}, info: map[string]modinfo{}}
	err := deb.Walk(pkg, func(h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(h.Name, "lib/modules/") && !strings.HasPrefix(h.Name, "usr/lib/modules/") {
			return nil
		}
		base := path.Base(h.Name)
		if path.Ext(base) != ".ko" && base != "modules.builtin" && base != "modules.builtin.modinfo" {
			return nil
		}
		if h.Size > maxModule {
			return fmt.Errorf("%s has %d bytes", h.Name, h.Size)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		switch base {
		case "modules.builtin":
			for file := range strings.Lines(string(data)) {
				x.builtin = append(x.builtin, moduleName(strings.TrimSpace(file)))
			}
		case "modules.builtin.modinfo":
			x.builtin = append(x.builtin, builtinAliases(data)...)
		default:
			info, err := readModinfo(bytes.NewReader(data))
			if err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			name := moduleName(base)
			x.files[name], x.info[name] = h.Name, info
		}
		return nil
	})
	if err == nil && len(x.files) == 0 {
		err = errors.New("the package has no modules")
	}
	return x, err
}

// moduleName returns the name of a module's file.
func moduleName(file string) string { return canonical(strings.TrimSuffix(path.Base(file), ".ko")) }

// builtinAliases reads the aliases of built-in modules: NUL-terminated strings
// module.alias=name (Linux Documentation/kbuild/kbuild.rst, modules.builtin.modinfo).
func builtinAliases(data []byte) []string {
	var out []string
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		if strings.HasSuffix(key, ".alias") && value != "" && !strings.ContainsAny(value, "*?[ ") {
			out = append(out, canonical(value))
		}
	}
	return out
}

// extractModules takes those of the wanted modules that dir lacks from the package.
func extractModules(pkg, dir string, x *moduleIndex, wanted []string) error {
	missing := map[string]string{} // file in the package → module
	for _, name := range wanted {
		if _, err := os.Stat(filepath.Join(dir, name+".ko")); err != nil {
			missing[x.files[name]] = name
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return deb.Walk(pkg, func(h *tar.Header, r io.Reader) error {
		name, ok := missing[h.Name]
		if !ok || h.Typeflag != tar.TypeReg {
			return nil
		}
		return deb.WriteFile(filepath.Join(dir, name+".ko"), r, 0o644)
	})
}

// storedIndex is moduleIndex as a file. Raise the version when indexing changes.
type storedIndex struct {
	Version int
	Files   map[string]string
	Depends map[string][]string
	Pre     map[string][]string
	Aliases map[string][]string
	Builtin []string
}

const indexVersion = 1

// save writes the index into dir.
func (x *moduleIndex) save(dir string) error {
	s := storedIndex{
		Version: indexVersion, Files: x.files, Builtin: x.builtin,
		Depends: map[string][]string{}, Pre: map[string][]string{}, Aliases: map[string][]string{},
	}
	for name, m := range x.info {
		s.Depends[name], s.Pre[name], s.Aliases[name] = m.depends, m.pre, m.aliases
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return deb.WriteFile(filepath.Join(dir, "index.json"), bytes.NewReader(data), 0o644)
}

// loadIndex reads what save wrote.
func loadIndex(dir string) (*moduleIndex, error) {
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var s storedIndex
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != indexVersion {
		return nil, fmt.Errorf("the index has version %d", s.Version)
	}
	x := &moduleIndex{files: s.Files, info: map[string]modinfo{}, builtin: s.Builtin}
	for name := range s.Files {
		x.info[name] = modinfo{name: name, depends: s.Depends[name], pre: s.Pre[name], aliases: s.Aliases[name]}
	}
	return x, nil
}
