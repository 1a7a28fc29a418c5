package kernelcfg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/kernelcfg/deb"
)

// fakeMake stands for the kernel's build system: it grants the recorded release
// configuration and compiles one object. $(1) shapes the bzImage.
const fakeMake = `
allnoconfig:
	grep -qE '^CONFIG_(KVM_AMD|MSHV_VTL)=y' $(KCONFIG_ALLCONFIG)
	cp config.recorded $(O)/.config
bzImage:
	@echo "  CC      init/main.o"
	@test "$$KBUILD_BUILD_TIMESTAMP" = 1970-01-01 -a -z "$$KCFLAGS"
	mkdir -p $(O)/arch/x86/boot
	IMAGE
	touch $(O)/System.map
drivers/hv/:
	@echo "  CC      drivers/hv/vmbus.o"
%/:
	@true
`

// put writes a file and its folders.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// packageOf wraps a tree into a .deb and returns its bytes.
func packageOf(t *testing.T, tree string) []byte {
	t.Helper()
	put(t, filepath.Join(tree, "DEBIAN/control"), "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
	file := filepath.Join(t.TempDir(), "x.deb")
	command(t, "dpkg-deb", "-Znone", "-b", tree, file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fakeSource makes a linux-source package whose Makefile runs imageStep.
func fakeSource(t *testing.T, imageStep string, config Config) []byte {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "linux-source-9.9")
	put(t, filepath.Join(src, "Makefile"), strings.Replace(fakeMake, "IMAGE", imageStep, 1))
	put(t, filepath.Join(src, "config.recorded"), config.String())
	put(t, filepath.Join(src, "drivers/gpu/big.c"), "left out")
	put(t, filepath.Join(src, "drivers/gpu/Kconfig"), "kept")
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "usr/src"), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-cJf", filepath.Join(tree, "usr/src/linux-source-9.9.tar.xz"), "-C", dir, "linux-source-9.9")
	return packageOf(t, tree)
}

// fakeCache returns a package cache over a mirror that carries body as pool/x.deb,
// and the pin of body.
func fakeCache(t *testing.T, name string, body []byte, log *bytes.Buffer) (*deb.Cache, deb.Pin) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian/pool/x.deb" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	t.Cleanup(server.Close)
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/apt/sources.list"), "deb "+server.URL+"/debian trixie main\n")
	sum := sha256.Sum256(body)
	pin := deb.Pin{Name: name, Version: "1", Pool: "pool/x.deb", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(body))}
	return &deb.Cache{Dir: filepath.Join(root, "cache/deb"), Root: root, Progress: log, Client: server.Client()}, pin
}

// fakeBuilder prefers a source that the mirror has dropped, before the fake one.
func fakeBuilder(t *testing.T, imageStep string, config Config) (*builder, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	cache, pin := fakeCache(t, "linux-source-9.9", fakeSource(t, imageStep, config), log)
	gone := deb.Pin{Name: "linux-source-10", Version: "2", Pool: "pool/gone.deb", SHA256: strings.Repeat("0", 64), Size: 1}
	return &builder{packages: cache, dir: filepath.Join(t.TempDir(), "kernel"), sources: []deb.Pin{gone, pin}, progress: log}, log
}

func TestBuildThenCached(t *testing.T) {
	t.Setenv("KCFLAGS", "-DHOSTILE")
	b, log := fakeBuilder(t, "@echo image > $(O)/arch/x86/boot/bzImage", recorded(t, Release))
	image, err := b.build(context.Background(), Release, whole)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"bzImage": "image\n", "config": recorded(t, Release).String(), "System.map": ""} {
		if got, err := os.ReadFile(filepath.Join(filepath.Dir(image), file)); err != nil || string(got) != want {
			t.Errorf("%s: %v, %d bytes", file, err, len(got))
		}
	}
	for _, want := range []string{"WARNING: the mirror dropped linux-source-10 2", "unpacking linux-source-9.9 1", "kernel release: done, 1 objects"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in:\n%s", want, log)
		}
	}
	left, _ := filepath.Glob(filepath.Join(b.dir, "build-*"))
	big, _ := filepath.Glob(filepath.Join(b.dir, "source-*/drivers/gpu/big.c"))
	kept, _ := filepath.Glob(filepath.Join(b.dir, "source-*/drivers/gpu/Kconfig"))
	if len(left) > 0 || len(big) > 0 || len(kept) != 1 {
		t.Errorf("left %q, unneeded %q, kept %q", left, big, kept)
	}
	log.Reset()
	if again, err := b.build(context.Background(), Release, whole); err != nil || again != image || strings.Contains(log.String(), "objects") {
		t.Errorf("second build: %q, %v\n%s", again, err, log)
	}
}

// TestTry: the image step fails, for what a flavour has of its own needs no image.
func TestTry(t *testing.T) {
	b, log := fakeBuilder(t, "@false", recorded(t, HyperV))
	path, err := b.build(t.Context(), HyperV, own)
	if err != nil || !strings.Contains(log.String(), "kernel hyperv: done, 1 objects") {
		t.Fatalf("%v\n%s", err, log)
	}
	log.Reset()
	if again, err := b.build(t.Context(), HyperV, own); err != nil || again != path || strings.Contains(log.String(), "objects") {
		t.Errorf("second try: %q, %v\n%s", again, err, log)
	}
	if image, err := b.build(t.Context(), HyperV, whole); !errors.Is(err, ErrBuild) {
		t.Errorf("a try stands for a build: %q, %v", image, err)
	}
	if _, err := Try(t.Context(), Release); !errors.Is(err, ErrFlavour) {
		t.Errorf("release: %v", err)
	}
}

func TestBuildFailures(t *testing.T) {
	wrong := recorded(t, Release)
	wrong["MODULES"] = "y"
	for _, tc := range []struct {
		name, step string
		config     Config
		want       error
		text       string
	}{
		{"compiler fails", "@echo the cause; false", recorded(t, Release), ErrBuild, "the cause"},
		{"too large", "@truncate -s 4194305 $(O)/arch/x86/boot/bzImage", recorded(t, Release), ErrBuild, "4194305"},
		{"no image", "@true", recorded(t, Release), ErrBuild, "bzImage"},
		{"wrong configuration", "@touch $(O)/arch/x86/boot/bzImage", wrong, ErrConfig, "CONFIG_MODULES is y"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _ := fakeBuilder(t, tc.step, tc.config)
			stale := filepath.Join(b.dir, "build-killed/x")
			put(t, stale, "")
			_, err := b.build(context.Background(), Release, whole)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(b.dir, "build-*")); len(left) > 0 {
				t.Errorf("left %q", left)
			}
			if done, _ := filepath.Glob(filepath.Join(b.dir, "release-*")); len(done) > 0 {
				t.Errorf("kept a failed build: %q", done)
			}
		})
	}
}

func TestBuildCancelled(t *testing.T) {
	b, _ := fakeBuilder(t, "@sleep 60", recorded(t, Release))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := b.build(ctx, Release, whole); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "build-*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestPlaceDependsOnEverything(t *testing.T) {
	b := &builder{dir: "/d"}
	base := b.place(Release, Sources[0], Config{"A": "y"}, "gcc 1")
	for what, other := range map[string]string{
		"flavour":  b.place(Debug, Sources[0], Config{"A": "y"}, "gcc 1"),
		"source":   b.place(Release, Sources[1], Config{"A": "y"}, "gcc 1"),
		"config":   b.place(Release, Sources[0], Config{"A": "n"}, "gcc 1"),
		"compiler": b.place(Release, Sources[0], Config{"A": "y"}, "gcc 2"),
	} {
		if other == base {
			t.Errorf("same folder for another %s", what)
		}
	}
	if again := b.place(Release, Sources[0], Config{"A": "y"}, "gcc 1"); again != base {
		t.Errorf("%s, then %s", base, again)
	}
}

func TestToolchainNamesPackages(t *testing.T) {
	_, err := toolchainWith(context.Background(), func(program string) (string, error) {
		if program == "flex" || program == "xz" {
			return "", exec.ErrNotFound
		}
		return program, nil
	})
	if !errors.Is(err, ErrTools) || !strings.Contains(err.Error(), "apt-get install flex xz-utils") {
		t.Errorf("got %v", err)
	}
}

func TestTakeFile(t *testing.T) {
	tree := t.TempDir()
	put(t, filepath.Join(tree, "boot/vmlinuz-6.1.0-1-cloud-amd64"), "kernel")
	var log bytes.Buffer
	cache, pin := fakeCache(t, "linux-image-6.1.0-1-cloud-amd64-unsigned", packageOf(t, tree), &log)
	ctx := context.Background()
	path, err := takeFile(ctx, cache, []deb.Pin{pin}, vmlinuz, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "kernel" {
		t.Errorf("%q, %v", b, err)
	}
	// Later calls need neither the mirror nor the package.
	if err := os.RemoveAll(cache.Dir); err != nil {
		t.Fatal(err)
	}
	cache.Root = t.TempDir()
	if again, err := takeFile(ctx, cache, []deb.Pin{pin}, vmlinuz, 0o644); err != nil || again != path {
		t.Errorf("%q, %v", again, err)
	}
	if _, err := GuestKernel(ctx, "2.4"); !errors.Is(err, ErrGuest) || !strings.Contains(err.Error(), "5.10, 6.1") {
		t.Errorf("got %v", err)
	}
}

// TestPins guards against slips of the pen: paths, names and sums must agree.
func TestPins(t *testing.T) {
	lists := map[string][]deb.Pin{"source": Sources, "busybox": busyboxes}
	maps.Copy(lists, guests)
	seen := map[string]bool{}
	for list, pins := range lists {
		for _, p := range pins {
			_, version, _ := strings.Cut(":"+p.Version, ":")
			if _, after, ok := strings.Cut(version, ":"); ok { // epochs are not in file names
				version = after
			}
			base := strings.SplitN(filepath.Base(p.Pool), "_", 3)
			if len(base) != 3 || base[0] != p.Name || base[1] != version || !strings.HasSuffix(base[2], ".deb") {
				t.Errorf("%s: %s lies at %s", list, p, p.Pool)
			}
			if raw, err := hex.DecodeString(p.SHA256); err != nil || len(raw) != 32 || p.Size < 1<<16 || seen[p.SHA256] {
				t.Errorf("%s: %s has sum %s, size %d", list, p, p.SHA256, p.Size)
			}
			seen[p.SHA256] = true
		}
	}
}
