package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "keel"
	maxLines = 600
	root     = "../.."
)

// listed is what "go list -json" says of a package.
type listed struct {
	ImportPath                         string
	Name                               string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// inner returns the path within the module, and whether there is one.
func inner(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// list returns the packages of the module.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Logf("%s", e.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}

// mayBeUnsafe lists the fence, and what protoc-gen-go writes: it turns
// descriptors into bytes with unsafe.
var mayBeUnsafe = []string{"hcl/sys", "paravisor/config/configpb", "diag/diagpb"}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		pkg, _ := inner(p.ImportPath)
		r := find(pkg)
		if r == nil {
			t.Errorf("%s has no row in DESIGN's table of rooms", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			in, ours := inner(imported)
			if ours && !r.allowed(in) {
				t.Errorf("%s may not import %s", p.ImportPath, imported)
			}
			if !ours && r.rank == 0 && strings.Contains(imported, ".") {
				t.Errorf("%s is of rank 0 and imports %s", p.ImportPath, imported)
			}
		}
		if slices.Contains(slices.Concat(p.Imports, p.TestImports, p.XTestImports), "unsafe") && !slices.Contains(mayBeUnsafe, pkg) {
			t.Errorf("%s imports unsafe: only hcl/sys may", p.ImportPath)
		}
	}
}

// guestPrograms matches the commands that go into the guest image.
var guestPrograms = regexp.MustCompile(`^keel/(initramfs|paravisor|vtpm|diag)/cmd/`)

// TestGuestImage keeps the build side out of the programs that run in the VM.
func TestGuestImage(t *testing.T) {
	found := 0
	for _, p := range list(t) {
		if p.Name != "main" || !guestPrograms.MatchString(p.ImportPath) {
			continue
		}
		found++
		for _, dep := range p.Deps {
			if in, ours := inner(dep); ours {
				if r := find(in); r != nil && r.rank >= rankBuild {
					t.Errorf("%s links %s, which is of the build side", p.ImportPath, dep)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no program of the guest image found")
	}
}

// TestTable checks the rules themselves.
func TestTable(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"vtl", "vtl/apic", true},
		{"vtl", "hcl/sys", true}, // a lower rank
		{"vtl/apic", "vtl", false},
		{"vtl/bus", "vtl/irq", false},
		{"vtl/bus", "hcl/abi/x86", true},
		{"vtl", "hcl/kvm", false}, // a backend
		{"paravisor", "hcl/kvm", false},
		{"paravisor/cmd/paravisor", "hcl/kvm", true},
		{"paravisor/chipset/pic", "vtl/irq", true},
		{"paravisor/chipset/pic", "vtl", false}, // narrow
		{"paravisor/chipset/pic", "diag/inspect", true},
		{"paravisor/chipset/pic", "paravisor/chipset/pit", false},
		{"paravisor/config", "paravisor/acpi", false},
		{"paravisor", "boot/igvm", false}, // build side
		{"hcl/kvm", "hcl/sys", true},
		{"hcl/kvm", "hcl/snp", false},
		{"boot", "boot/igvm", true},
		{"boot/igvm", "boot", false},
		{"", "boot/qemu", true},
		{"", "tests/guest", false},
		{"tests/guest", "initramfs", true},
		{"tests/bench", "tests/guest", true},
		{"tests/guest", "paravisor/cmd/paravisor", false},
		{"kernelcfg", "hcl/abi/x86", true},
		{"kernelcfg", "vtl", false},
		{"hcl", "hcl/unheard", false},
	}
	for _, tt := range tests {
		if got := find(tt.from).allowed(tt.to); got != tt.want {
			t.Errorf("%q imports %q: %v", tt.from, tt.to, got)
		}
	}
	for _, pkg := range []string{"internal/x", "util", "pkg/y", "cmd/z", "vtl/util", "paravisor/unheard"} {
		if find(pkg) != nil {
			t.Errorf("%s has a row", pkg)
		}
	}
}

// generated is the mark of files that nobody writes by hand.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// TestFiles bounds the length of source files.
func TestFiles(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == ".git" || base == "build" && filepath.Dir(name) == root {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".c", ".h", ".S", ".s"}, filepath.Ext(name)) {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		if n := bytes.Count(b, []byte("\n")); n > maxLines && !generated.Match(b) {
			t.Errorf("%s has %d lines, at most %d are allowed", name, n, maxLines)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files seen: %v", files, err)
	}
}

// TestReadmes wants a README in every top-level folder.
func TestReadmes(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "build" {
			continue
		}
		if s, err := os.Stat(filepath.Join(root, e.Name(), "README.md")); err != nil || s.Size() == 0 {
			t.Errorf("%s has no README.md: %v", e.Name(), err)
		}
	}
}
