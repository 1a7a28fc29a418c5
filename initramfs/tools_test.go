package initramfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

// binaries makes files that stand for programs.
func binaries(t *testing.T, names ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestToolsInitrd(t *testing.T) {
	p := binaries(t, "busybox", "sd_mod.ko", "fio")
	tools := Tools{
		Busybox: p[0], Modules: p[1:2],
		Files: []File{{Name: "/usr/bin/fio", Path: p[2]}, {Name: "scripts/x", Data: []byte("echo"), Mode: 0o644}},
	}
	data, err := ToolsInitrd(tools)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ToolsInitrd(tools)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("two initrds of the same files differ (%v)", err)
	}
	files := records(t, data)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"bin", "bin/busybox", "dev", "dev/console", "dev/null", "etc", "etc/shell", "init", "lib", "lib/keel", "lib/keel/sd_mod.ko",
		"newroot", "proc", "scripts", "scripts/x", "sys", "tmp", "usr", "usr/bin", "usr/bin/fio",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the archive holds %q, want %q", names, want)
	}
	for name, mode := range map[string]uint64{"init": 0o755, "usr/bin/fio": 0o755, "scripts/x": 0o644, "lib/keel/sd_mod.ko": 0o644} {
		if files[name].Mode != cpio.S_IFREG|mode {
			t.Errorf("%s has mode %o", name, files[name].Mode)
		}
	}
	if got := string(content(t, files["usr/bin/fio"])); got != "content of fio" {
		t.Errorf("fio is %q", got)
	}
}

func TestToolsInitrdRefuses(t *testing.T) {
	p := binaries(t, "busybox")
	for name, tt := range map[string]struct {
		tools Tools
		want  error
	}{
		"no busybox":  {Tools{Busybox: "/nonexistent"}, ErrArchive},
		"no module":   {Tools{Busybox: p[0], Modules: []string{"/nonexistent.ko"}}, ErrArchive},
		"twice":       {Tools{Busybox: p[0], Files: []File{{Name: "a", Data: []byte("1")}, {Name: "/a", Data: []byte("2")}}}, ErrTools},
		"in the way":  {Tools{Busybox: p[0], Files: []File{{Name: "init"}}}, ErrTools},
		"no name":     {Tools{Busybox: p[0], Files: []File{{Name: "/"}}}, ErrTools},
		"too large":   {Tools{Busybox: p[0], Files: []File{{Name: "a", Data: make([]byte, MaxTools)}}}, ErrTools},
		"same module": {Tools{Busybox: p[0], Modules: []string{p[0], p[0]}}, ErrTools},
	} {
		if _, err := ToolsInitrd(tt.tools); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", name, err, tt.want)
		}
	}
}

// TestToolsInitIsShell has a shell read /init without running it.
func TestToolsInitIsShell(t *testing.T) {
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(toolsInit)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, param := range []string{"keel.modules=", "keel.script=", "keel.root="} {
		if !strings.Contains(toolsInit, param+"*)") {
			t.Errorf("/init does not know %s", param)
		}
	}
}

func TestCompileProgram(t *testing.T) {
	if err := CompileProgram(t.Context(), root, "keel/nothing", filepath.Join(t.TempDir(), "x")); !errors.Is(err, ErrCompile) {
		t.Errorf("error %v, want %v", err, ErrCompile)
	}
}
