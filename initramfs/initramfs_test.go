package initramfs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"keel/boot/handoff"
	"keel/diag/owner"
)

const root = ".." // the module's folder

// build builds an initramfs that nothing of an earlier build could make equal.
func build(t *testing.T, flavour Flavour, cache string) []byte {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	out := filepath.Join(t.TempDir(), "out")
	data, err := Build(t.Context(), Options{Flavour: flavour, Root: root, Out: out, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	if written, err := os.ReadFile(out); err != nil || !bytes.Equal(written, data) {
		t.Errorf("the file holds other bytes than Build returned (%v)", err)
	}
	return data
}

func records(t *testing.T, data []byte) map[string]cpio.Record {
	t.Helper()
	list, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]cpio.Record{}
	for _, r := range list {
		named[r.Name] = r
	}
	if len(named) != len(list) {
		t.Errorf("%d records have %d names", len(list), len(named))
	}
	return named
}

// TestReleaseHoldsKeelOnly leaves it to "make identical" to compare two builds.
func TestReleaseHoldsKeelOnly(t *testing.T) {
	data := build(t, Release, "")
	files := records(t, data)
	var got []string
	for name := range files {
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{"bin", "bin/paravisor", "bin/pvtpm.gz", "dev", "dev/console", "dev/null", "etc", "etc/keel", "init", "proc", "sys", "tmp"}
	if !slices.Equal(got, want) {
		t.Errorf("the archive holds %v, want %v", got, want)
	}
	for _, p := range Programs() {
		r := files[p.Path]
		data := content(t, r)
		if sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), p.Path); !strings.Contains(string(content(t, files[handoff.FileManifest])), sum) {
			t.Errorf("the manifest lacks %q", sum)
		}
		if p.Packed {
			data = unpacked(t, data)
		}
		program, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", p.Path, err)
			continue
		}
		if program.Machine != elf.EM_X86_64 || slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is no static x86-64 program", p.Path)
		}
		if r.Mode != cpio.S_IFREG|0o755 || r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s has metadata %+v", p.Path, r.Info)
		}
	}
	if c := files["dev/console"]; c.Mode != cpio.S_IFCHR|0o600 || c.Rmajor != 5 || c.Rminor != 1 {
		t.Errorf("dev/console is %+v", c.Info)
	}
}

// TestDebugHoldsAShell also builds u-root's commands from nothing twice when KEEL_SOAK is
// set, which takes minutes.
func TestDebugHoldsAShell(t *testing.T) {
	data := build(t, Debug, "")
	if os.Getenv("KEEL_SOAK") != "" {
		for range 2 {
			if !bytes.Equal(data, build(t, Debug, t.TempDir())) {
				t.Error("two builds of the same tree differ")
			}
		}
	}
	debug := records(t, data)
	for name, r := range records(t, build(t, Release, "")) {
		if d, ok := debug[name]; !ok || !bytes.Equal(content(t, d), content(t, r)) {
			t.Errorf("%s of the release archive is not in the debug archive", name)
		}
	}
	for link, target := range map[string]string{"bin/sh": "../bbin/gosh", "bbin/gosh": "bb", "bbin/ls": "bb", "bbin/dmesg": "bb"} {
		if got := string(content(t, debug[link])); got != target {
			t.Errorf("%s points to %q, want %q", link, got, target)
		}
	}
	for _, name := range useless {
		if _, ok := debug["bbin/"+name]; ok {
			t.Errorf("the debug archive holds %s", name)
		}
	}
}

func unpacked(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func content(t *testing.T, r cpio.Record) []byte {
	t.Helper()
	if r.ReaderAt == nil {
		return nil
	}
	data, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBuildErrors(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		want error
	}{
		{"flavour", Options{Flavour: "rescue", Root: root}, ErrFlavour},
		{"package", Options{Flavour: Release, Root: root, Programs: []Program{{Package: "keel/nothing", Path: "init"}}}, ErrCompile},
		{"output", Options{Flavour: Release, Root: root, Programs: []Program{}, Out: "/nonexistent/out"}, ErrArchive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Build(t.Context(), tt.opts); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestArchiveAddsParentsOnce(t *testing.T) {
	var a archive
	a.add(cpio.StaticFile("/usr/share/a", "1", 0o644), cpio.StaticFile("usr/share/b", "2", 0o644), cpio.Directory("usr", 0o700))
	var got []string
	for _, r := range a.records {
		got = append(got, r.Name)
	}
	if want := []string{"usr", "usr/share", "usr/share/a", "usr/share/b"}; !slices.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
}

func TestGuestInitrds(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := BusyboxInitrd(program)
	if err != nil {
		t.Fatal(err)
	}
	// The file's own metadata must not show.
	if err := errors.Join(os.Chmod(program, 0o700), os.Chtimes(program, time.Time{}, time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	second, err := BusyboxInitrd(program)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two initrds of the same busybox differ (%v)", err)
	}
	files := records(t, first)
	if got := string(content(t, files["bin/busybox"])); got != "program" {
		t.Errorf("busybox is %q", got)
	}
	if files["init"].Mode != cpio.S_IFREG|0o755 {
		t.Errorf("init is %+v", files["init"].Info)
	}
	initrd, err := ProgramInitrd(program)
	if err != nil || string(content(t, records(t, initrd)["init"])) != "program" {
		t.Errorf("the program is not /init (%v)", err)
	}
	_, err = ProgramInitrd(filepath.Join(t.TempDir(), "missing"))
	if !errors.Is(err, ErrArchive) {
		t.Errorf("error %v, want %v", err, ErrArchive)
	}
}

func TestCachedBuildsDamagedFilesAgain(t *testing.T) {
	dir, builds := t.TempDir(), 0
	get := func(key string) {
		t.Helper()
		data, err := cached(dir, t.TempDir(), key, func(out string) error {
			builds++
			return os.WriteFile(out, []byte("data of "+key), 0o600)
		})
		if err != nil || string(data) != "data of "+key {
			t.Fatalf("got %q, %v", data, err)
		}
	}
	get("a")
	get("a")
	get("b")
	if builds != 2 {
		t.Errorf("%d builds for two keys", builds)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("the cache holds %v (%v)", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1]++
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get("a")
	get("b")
	if builds != 4 {
		t.Errorf("%d builds, want 4: damaged files were used", builds)
	}
}

// TestOwner: the manifest names the owner's keys, and nobody's where there is none.
func TestOwner(t *testing.T) {
	k := owner.Keys{Signer: make([]byte, 32)}
	for _, keys := range []owner.Keys{{}, k} {
		data, err := Build(t.Context(), Options{Flavour: Release, Root: root, Programs: []Program{}, Owner: keys})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(content(t, records(t, data)[handoff.FileManifest])); got != keys.Manifest() {
			t.Errorf("the manifest is %q", got)
		}
	}
}
