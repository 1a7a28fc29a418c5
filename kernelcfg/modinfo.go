package kernelcfg

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// errModinfo says that a file is no module of Linux.
var errModinfo = errors.New("no kernel module")

// modinfo is what a module says of itself in its section .modinfo: NUL-terminated
// key=value strings (Linux include/linux/moduleparam.h, include/linux/module.h).
type modinfo struct {
	name    string
	depends []string // modules that must be there before, by name
	pre     []string // softdep "pre:": better there before, by name or alias
	aliases []string // other names without wildcards
}

// readModinfo takes the section from a module.
func readModinfo(r io.ReaderAt) (modinfo, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return modinfo{}, fmt.Errorf("%w: %w", errModinfo, err)
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type == elf.SHT_NOBITS {
		return modinfo{}, fmt.Errorf("%w: no section .modinfo", errModinfo)
	}
	text, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("%w: %w", errModinfo, err)
	}
	return parseModinfo(text), nil
}

// parseModinfo reads the strings. Keys that order of loading does not depend on are
// passed over.
func parseModinfo(text []byte) modinfo {
	var m modinfo
	for entry := range bytes.SplitSeq(text, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "name":
			m.name = canonical(value)
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d = canonical(d); d != "" {
					m.depends = append(m.depends, d)
				}
			}
		case "softdep":
			m.pre = append(m.pre, softPre(value)...)
		case "alias":
			if a := canonical(value); a != "" && !strings.ContainsAny(a, "*?[ \t\n\v\f\r\u0085\u00a0") {
				m.aliases = append(m.aliases, a)
			}
		}
	}
	return m
}

// softPre returns what stands behind "pre:" in a softdep (modprobe.d(5)).
func softPre(value string) []string {
	var out []string
	pre := false
	for word := range strings.FieldsSeq(value) {
		switch {
		case word == "pre:" || word == "post:":
			pre = word == "pre:"
		case pre:
			out = append(out, canonical(word))
		}
	}
	return out
}

// canonical spells a module's name as the kernel does: - and _ are the same.
func canonical(name string) string {
	return strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
}

// moduleIndex is what one kernel package says of its modules.
type moduleIndex struct {
	files   map[string]string  // module → file in the package
	info    map[string]modinfo // module → what it says
	builtin []string           // modules and aliases that the kernel itself contains
}

// resolve returns the named modules with all that they need, each after what it
// needs. What is built into the kernel is left out.
func (x *moduleIndex) resolve(names ...string) ([]string, error) {
	var order []string
	state := map[string]bool{} // false while a module's needs are visited
	var visit func(name, by string) error
	visit = func(name, by string) (err error) {
		name, isBuiltin := x.find(name)
		if isBuiltin {
			return nil
		}
		if name == "" || x.files[name] == "" {
			return fmt.Errorf("no module %s", by)
		}
		if done, seen := state[name]; seen {
			if !done {
				return fmt.Errorf("module %s needs itself", name)
			}
			return nil
		}
		state[name] = false
		defer func() {
			if err != nil {
				delete(state, name)
			}
		}()
		// A soft dependency may name what this kernel does not have, or what needs the
		// module itself: then it is none.
		for _, soft := range x.info[name].pre {
			_ = visit(soft, soft)
		}
		for _, needed := range x.info[name].depends {
			if err := visit(needed, needed+", needed by "+name); err != nil {
				return err
			}
		}
		state[name] = true
		order = append(order, name)
		return nil
	}
	for _, name := range names {
		if err := visit(canonical(name), name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// find returns the module of a name or alias, or that the kernel contains it. The
// name of a module wins over an alias, and what is built in over a module's alias.
func (x *moduleIndex) find(name string) (module string, isBuiltin bool) {
	if x.files[name] != "" {
		return name, false
	}
	if slices.Contains(x.builtin, name) {
		return "", true
	}
	var matches []string
	for module, info := range x.info {
		if slices.Contains(info.aliases, name) {
			matches = append(matches, module)
		}
	}
	if len(matches) == 0 {
		return "", false
	}
	return slices.Min(matches), false // any would do; the same every time
}
