package kernelcfg

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keel/kernelcfg/deb"
)

func pinsOf(pins ...deb.Pin) []deb.Pin { return pins }

// TestToolPins guards against slips of the pen: paths, names and sums must agree.
func TestToolPins(t *testing.T) {
	names := map[string]string{} // by sum
	check := func(p deb.Pin, suffix string) {
		t.Helper()
		_, version, found := strings.Cut(p.Version, ":")
		if !found { // epochs are not in file names
			version = p.Version
		}
		if suffix == ".orig.tar.gz" { // the source has no Debian revision
			version = version[:strings.LastIndexByte(version, '-')]
		}
		if want := p.Name + "_" + version + suffix; filepath.Base(p.Pool) != want || !strings.HasPrefix(p.Pool, "pool/") {
			t.Errorf("%s lies at %s", p, p.Pool)
		}
		if raw, err := hex.DecodeString(p.SHA256); err != nil || len(raw) != 32 || p.Size < 1<<12 {
			t.Errorf("%s has sum %s, size %d", p, p.SHA256, p.Size)
		}
		if other, ok := names[p.SHA256]; ok && other != p.String() {
			t.Errorf("%s has the sum of %s", p, other)
		}
		names[p.SHA256] = p.String()
	}
	for _, set := range append(slices.Clone(toolSets), tpmToolSets...) {
		seen := map[string]bool{}
		for _, pins := range set.packages {
			if len(pins) == 0 || seen[pins[0].Name] {
				t.Fatalf("%s: empty or twice: %v", set.release, pins)
			}
			seen[pins[0].Name] = true
			for _, p := range pins {
				check(p, "_amd64.deb")
				if p.Name != pins[0].Name {
					t.Errorf("%s: %s stands in for %s", set.release, p, pins[0])
				}
			}
		}
	}
	for _, p := range fioSources {
		check(p, ".orig.tar.gz")
	}
	for _, p := range aioHeaders {
		check(p, "_amd64.deb")
	}
}

func TestFollow(t *testing.T) {
	tree := t.TempDir()
	put(t, filepath.Join(tree, "usr/lib/a.so.1.2"), "library")
	for name, target := range map[string]string{
		"lib": "usr/lib", "usr/lib/a.so.1": "a.so.1.2", "abs": "/lib/a.so.1", "out": "../../../../usr/lib/a.so.1", "loop": "loop", "dangling": "none",
	} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, good := range map[string]bool{
		"usr/lib/a.so.1.2": true, "lib/a.so.1": true, "abs": true, "out": true, "../usr/lib/a.so.1": true,
		"loop": false, "dangling": false, "usr/lib": false, "none": false,
	} {
		got, err := follow(tree, name)
		if (err == nil) != good || good && got != filepath.Join(tree, "usr/lib/a.so.1.2") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestClosure follows a program of this machine, which needs a library and a loader.
func TestClosure(t *testing.T) {
	program, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Fatal(err)
	}
	needed, interpreter, err := elfNeeds(program)
	if err != nil || len(needed) == 0 || interpreter == "" {
		t.Fatalf("%s needs %q and %q (%v)", program, needed, interpreter, err)
	}
	tree := t.TempDir()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(tree, "usr/bin/program"), string(data))
	if _, err := closure(tree, []string{"usr/bin/program"}, nil); err == nil || !strings.Contains(err.Error(), "needed by bin/program") {
		t.Errorf("error %v", err)
	}
	want := []string{strings.TrimPrefix(interpreter, "/"), "bin/program"}
	put(t, filepath.Join(tree, "usr", want[0]), "no ELF") // a merged system's
	for _, library := range needed {
		put(t, filepath.Join(tree, "usr/lib/x86_64-linux-gnu", library), "no ELF")
		want = append(want, "usr/lib/x86_64-linux-gnu/"+library)
	}
	files, err := closure(tree, []string{"usr/bin/program"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTakeTools prefers a set that the mirror has dropped.
func TestTakeTools(t *testing.T) {
	tree := t.TempDir()
	for _, p := range toolPrograms {
		put(t, filepath.Join(tree, "usr/bin", strings.ReplaceAll(p, "*", "inq")), "#!/bin/dash")
	}
	put(t, filepath.Join(tree, "usr/bin/unwanted"), "")
	put(t, filepath.Join(tree, "usr/lib/x86_64-linux-gnu/libx.so.1"), "")
	put(t, filepath.Join(tree, "usr/share/doc/x/copyright"), "")
	var log bytes.Buffer
	cache, pin := fakeCache(t, "tools", packageOf(t, tree), &log)
	gone := pin
	gone.SHA256, gone.Pool = strings.Repeat("0", 64), "pool/gone.deb"
	sets := []toolSet{{"newer", [][]deb.Pin{{pin}, {gone}}}, {"older", [][]deb.Pin{{gone, pin}}}}
	files, err := takeTools(t.Context(), cache, toolKit{programs: toolPrograms, sets: sets})
	if err != nil || len(files) != len(toolPrograms) {
		t.Fatalf("%v, %v", files, err)
	}
	if !strings.Contains(log.String(), "taking the tools of older") {
		t.Errorf("no warning in:\n%s", &log)
	}
	if err := os.RemoveAll(cache.Dir); err != nil {
		t.Fatal(err)
	}
	cache.Root = t.TempDir()
	if again, err := takeTools(t.Context(), cache, toolKit{programs: toolPrograms, sets: []toolSet{{"older", [][]deb.Pin{{pin}}}}}); err != nil || !slices.Equal(again, files) {
		t.Errorf("%v, %v", again, err)
	}
}

func TestTakeToolsNamesWhatIsMissing(t *testing.T) {
	tree := t.TempDir()
	put(t, filepath.Join(tree, "usr/bin/sg_inq"), "")
	cache, pin := fakeCache(t, "tools", packageOf(t, tree), &bytes.Buffer{})
	if _, err := takeTools(t.Context(), cache, toolKit{programs: toolPrograms, sets: []toolSet{{"x", [][]deb.Pin{{pin}}}}}); err == nil || !strings.Contains(err.Error(), "have no dash") {
		t.Errorf("error %v", err)
	}
}

// TestTarToExt4 makes a file system and looks at what it holds with debugfs.
func TestTarToExt4(t *testing.T) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, m := range []struct {
		h    tar.Header
		data string
	}{
		{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""},
		{tar.Header{Typeflag: tar.TypeDir, Name: "./tmp/", Mode: 0o1777, Uid: 0, Gid: 0}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "./tmp/su", Mode: 0o4755, Uid: 0, Gid: 42}, "program"},
		{tar.Header{Typeflag: tar.TypeLink, Name: "./tmp/link", Linkname: "./tmp/su"}, ""},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "./sbin", Linkname: "tmp/su", Mode: 0o777, Uid: 7}, ""},
		{tar.Header{Typeflag: tar.TypeChar, Name: "./tmp/console", Mode: 0o600, Devmajor: 5, Devminor: 1}, ""},
	} {
		m.h.Size = int64(len(m.data))
		if err := w.WriteHeader(&m.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := tarToExt4(t.Context(), &archive, dir, image, 64<<20); err != nil {
		t.Fatal(err)
	}
	debugfs, err := sbin("debugfs")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request string) string {
		out, err := exec.Command(debugfs, "-R", request, image).CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for request, want := range map[string][]string{
		"stat /tmp":         {"Type: directory", "Mode:  01777"},
		"stat /tmp/su":      {"Type: regular", "Mode:  04755", "User:     0   Group:    42", "Links: 2"},
		"stat /sbin":        {"Type: symlink", "User:     7", `Fast link dest: "tmp/su"`},
		"stat /tmp/console": {"Type: character special", "Mode:  0600", "05:01"},
		"cat /tmp/link":     {"program"},
	} {
		got := ask(request)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in:\n%s", request, w, got)
			}
		}
	}
	fsck, err := sbin("e2fsck")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, "-f", "-n", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	// debugfs reports what it cannot do and goes on; that must not pass.
	script := filepath.Join(dir, "bad")
	put(t, script, "sif \"/none\" uid 1\n")
	if err := runDebugfs(t.Context(), debugfs, script, image); err == nil {
		t.Error("a request for a file that does not exist passed")
	}
}

func TestUnpackPlainRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"quote":       {Typeflag: tar.TypeReg, Name: `a"b`},
		"line feed":   {Typeflag: tar.TypeReg, Name: "a\nb"},
		"escape":      {Typeflag: tar.TypeReg, Name: "link/x"},
		"odd type":    {Typeflag: tar.TypeCont, Name: "x"},
		"outer links": {Typeflag: tar.TypeLink, Name: "x", Linkname: "link/y"},
	} {
		t.Run(name, func(t *testing.T) {
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			first := tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/tmp"}
			if err := errors.Join(w.WriteHeader(&first), w.WriteHeader(&h), w.Close()); err != nil {
				t.Fatal(err)
			}
			if err := unpackPlain(&archive, filepath.Join(t.TempDir(), "tree"), &bytes.Buffer{}); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

func TestRootFSArgs(t *testing.T) {
	args := rootfsArgs([]deb.Mirror{{URI: "http://main.example/debian"}, {URI: "http://sec.example/debian-security", Security: true}}, "/out.tar")
	for _, want := range []string{
		"--variant=minbase", "--include=systemd-sysv,udev,e2fsprogs", "bookworm", "/out.tar",
		"deb [signed-by=" + keyring + "] http://main.example/debian bookworm main",
		"deb [signed-by=" + keyring + "] http://sec.example/debian-security bookworm-security main",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no %q in %q", want, args)
		}
	}
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(rootfsHook)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("rootfs.sh: %v: %s", err, out)
	}
}
