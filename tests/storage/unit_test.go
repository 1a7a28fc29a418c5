package storage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"keel/initramfs"
	"keel/kernelcfg"
)

func TestSections(t *testing.T) {
	console := strings.ReplaceAll(`boot
KEEL-STORAGE begin a
one
two
KEEL-STORAGE end a 0
between
KEEL-STORAGE begin b
KEEL-STORAGE end b 5
KEEL-STORAGE begin c
cut`, "\n", "\r\n")
	want := []Section{{"a", 0, "one\ntwo\n"}, {"b", 5, ""}}
	if got := Sections(console); !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
}

func TestEvents(t *testing.T) {
	const console = "KEEL-STORAGE event ready \r\nKEEL-STORAGE event grow 4096\r\nKEEL-STORAGE event van"
	for words, want := range map[string]bool{"ready": true, "grow": true, "grow 4096": true, "grow 4": false, "gro": false, "van": false} {
		if got := HasEvent(console, words); got != want {
			t.Errorf("event %q: %v, want %v", words, got, want)
		}
	}
}

func TestGoldenHidesIdentifiers(t *testing.T) {
	got := Golden([]Section{{"sg_vpd_0x83", 0, "serial KEEL0123456789abcdef\nNAA 3: 0x5123456789abcdef, [0x3123456789abcdef0123456789abcdef]\nKey=0x123abc\n"}})
	want := "== sg_vpd_0x83: 0\nserial KEELxxxxxxxxxxxxxxxx\nNAA 3: 0xxxxxxxxxxxxxxxxx, [0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]\nKey=0x123abc\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiffering(t *testing.T) {
	const golden = "== a: 0\n1\n== ab: 0\n2\n== c: 0\n"
	if got := Differing(golden, ""); got != golden {
		t.Errorf("%q", got)
	}
	if got, want := Differing(golden, "== ab: 3\n4\n5\n== c: 1\n"), "== a: 0\n1\n== ab: 3\n4\n5\n== c: 1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFirstDifference(t *testing.T) {
	const a = "== x: 0\n1\n== y: 0\n2\n"
	if d := firstDifference(a, a); d != "" {
		t.Errorf("equal texts differ: %s", d)
	}
	for _, b := range []string{"== x: 0\n1\n== y: 0\n3\n", "== x: 0\n1\n== y: 0\n"} {
		if d := firstDifference(a, b); !strings.Contains(d, "line 4, == y: 0") {
			t.Errorf("difference %q", d)
		}
	}
}

func TestStripeReads(t *testing.T) {
	disk := make([]byte, 3*3*4096)
	for i := range disk {
		disk[i] = byte(i/4096*16 + i%7)
	}
	parts := make([][]byte, 3)
	for c := range 9 {
		parts[c%3] = append(parts[c%3], disk[c*4096:(c+1)*4096]...)
	}
	s := Stripe{Chunk: 4096}
	for _, p := range parts {
		s.Parts = append(s.Parts, bytes.NewReader(p))
	}
	for _, r := range [][2]int{{0, len(disk)}, {1, 4096}, {4095, 2}, {8000, 20000}} {
		got := make([]byte, r[1])
		if n, err := s.ReadAt(got, int64(r[0])); err != nil || n != r[1] || !bytes.Equal(got, disk[r[0]:r[0]+r[1]]) {
			t.Errorf("at %d: %d bytes, %v", r[0], n, err)
		}
	}
	if n, err := s.ReadAt(make([]byte, 10), int64(len(disk))-5); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}

func TestCopyImageKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := CreateImage(a, 64<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(a, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("middle"), 32<<20)
	if err := errors.Join(err, f.Close(), CopyImage(b, a)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs (%v)", err)
	}
	if n, err := Allocated(b); err != nil || n > 1<<20 {
		t.Errorf("the copy takes %d bytes (%v)", n, err)
	}
}

func TestCleanExt4(t *testing.T) {
	super := func(state uint16, incompat uint32, mounts uint16) []byte {
		b := make([]byte, superblockAt+superblockBytes)
		s := b[superblockAt:]
		binary.LittleEndian.PutUint16(s[offMagic:], magicExt)
		binary.LittleEndian.PutUint16(s[offState:], state)
		binary.LittleEndian.PutUint16(s[offMountCount:], mounts)
		binary.LittleEndian.PutUint32(s[offIncompat:], incompat)
		return b
	}
	for name, tt := range map[string]struct {
		image []byte
		clean bool
	}{
		"clean":         {super(1, 0x2c2, 1), true},
		"needs replay":  {super(1, 0x2c6, 1), false},
		"mounted":       {super(0, 0x2c2, 1), false},
		"errors":        {super(3, 0x2c2, 1), false},
		"never mounted": {super(1, 0x2c2, 0), false},
		"zeros":         {make([]byte, 4096), false},
		"short":         {nil, false},
	} {
		err := CleanExt4(bytes.NewReader(tt.image))
		if (err == nil) != tt.clean || err != nil && !errors.Is(err, ErrNotClean) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestISO(t *testing.T) {
	data := bytes.Repeat([]byte("disc"), 1000)
	disc := ISO(data)
	if len(disc)%isoSector != 0 || len(disc) != (isoFile+2)*isoSector {
		t.Errorf("the disc has %d bytes", len(disc))
	}
	// As a reader finds the file: volume descriptor, root directory, third record.
	pvd := disc[isoPVD*isoSector:]
	rootRecord := pvd[156:]
	dir := disc[binary.LittleEndian.Uint32(rootRecord[2:])*isoSector:]
	dir = dir[dir[0]:]
	dir = dir[dir[0]:]
	at, size := binary.LittleEndian.Uint32(dir[2:])*isoSector, binary.LittleEndian.Uint32(dir[10:])
	if name := string(dir[33 : 33+int(dir[32])]); string(pvd[1:6]) != "CD001" || name != "KEEL.BIN;1" || !bytes.Equal(disc[at:at+size], data) {
		t.Errorf("file %q with %d bytes at %d", name, size, at)
	}
}

func TestScriptsAreShell(t *testing.T) {
	files, err := Scripts()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, path.Base(f.Name))
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = bytes.NewReader(f.Data)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", f.Name, err, out)
		}
		if f.Name != "scripts/common.sh" && f.Name != "scripts/lib.sh" && !bytes.Contains(f.Data, []byte("\nset -eu\n. /scripts/lib.sh\n")) {
			t.Errorf("%s goes on after errors", f.Name)
		}
	}
	want := []string{"common.sh", ScriptAbsent, ScriptBlocks4K, ScriptDiscard, ScriptDurable, ScriptDVD, ScriptFaults, ScriptFileSystem, ScriptHotplug, "lib.sh", ScriptLoad, ScriptPattern, ScriptSG, ScriptVerify}
	if !slices.Equal(names, want) {
		t.Errorf("scripts %q, want %q", names, want)
	}
}

// TestInitrds lists what guests get, and checks that all of it can run there.
func TestInitrds(t *testing.T) {
	for kernel, g := range guests {
		t.Run(kernel, func(t *testing.T) {
			files := unpack(t, g.Tools)
			for _, name := range []string{
				"init", "bin/busybox", "bin/dash", "bin/durable", "bin/fio", "sbin/mkfs.ext4", "sbin/e2fsck", "sbin/mkfs.xfs", "sbin/xfs_repair",
				"sbin/blkdiscard", "sbin/fstrim", "bin/mount", "bin/sg_inq", "bin/sg_vpd", "bin/sg_readcap", "bin/sg_opcodes",
				"bin/sg_persist", "bin/sg_unmap", "bin/sg_write_same", "scripts/lib.sh", "scripts/verify",
			} {
				if files[name].Mode&0o111 == 0 {
					t.Errorf("no program %s", name)
				}
			}
			for _, front := range Fronts() {
				checkOrder(t, g.Modules(front), files)
			}
			checkLibraries(t, files)
			info, err := os.Stat(g.Tools)
			if err != nil || info.Size() > initramfs.MaxTools {
				t.Errorf("the initrd has %d bytes (%v)", info.Size(), err)
			}
			boot, err := os.Stat(g.Boot)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("initrds of %.1f and %.1f MiB", float64(info.Size())/(1<<20), float64(boot.Size())/(1<<20))
		})
	}
}

// unpack returns the records of an archive by name.
func unpack(t *testing.T, path string) map[string]cpio.Record {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]cpio.Record{}
	for _, r := range list {
		files[r.Name] = r
	}
	return files
}

// checkOrder checks against the modules themselves that each comes after those that
// it depends on.
func checkOrder(t *testing.T, order []string, files map[string]cpio.Record) {
	t.Helper()
	loaded := map[string]bool{}
	for _, name := range order {
		r, ok := files["lib/keel/"+name+".ko"]
		if !ok {
			t.Errorf("no module %s", name)
			continue
		}
		module, err := elf.NewFile(r.ReaderAt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := module.Section(".modinfo").Data()
		if err != nil {
			t.Fatal(err)
		}
		for entry := range strings.SplitSeq(string(info), "\x00") {
			needs, ok := strings.CutPrefix(entry, "depends=")
			for d := range strings.SplitSeq(needs, ",") {
				if ok && d != "" && !loaded[strings.ReplaceAll(d, "-", "_")] {
					t.Errorf("%s comes before %s in %q", name, d, order)
				}
			}
		}
		loaded[name] = true
	}
}

// checkLibraries checks that every library and interpreter that a file of the
// initrd asks for is in the initrd.
func checkLibraries(t *testing.T, files map[string]cpio.Record) {
	t.Helper()
	for name, r := range files {
		if r.Mode&cpio.S_IFMT != cpio.S_IFREG || path.Ext(name) == ".ko" {
			continue
		}
		f, err := elf.NewFile(r.ReaderAt)
		if err != nil {
			continue // a script
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, library := range needed {
			if _, ok := files["lib/x86_64-linux-gnu/"+library]; ok {
				continue
			}
			if _, ok := files["usr/lib/x86_64-linux-gnu/"+library]; !ok {
				t.Errorf("%s needs %s", name, library)
			}
		}
		for _, p := range f.Progs {
			if p.Type != elf.PT_INTERP {
				continue
			}
			text, err := io.ReadAll(p.Open())
			interpreter := strings.Trim(string(text), "/\x00")
			if _, ok := files[interpreter]; err != nil || !ok {
				t.Errorf("%s needs %s (%v)", name, interpreter, err)
			}
		}
	}
}

// TestToolsRun runs the guest's programs here, with the guest's loader and nothing
// but the guest's libraries.
func TestToolsRun(t *testing.T) {
	tools, err := kernelcfg.GuestTools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	for _, f := range tools {
		dst := filepath.Join(tree, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(dst), 0o755), os.Symlink(f.Path, dst)); err != nil {
			t.Fatal(err)
		}
	}
	libraries := filepath.Join(tree, "lib/x86_64-linux-gnu") + ":" + filepath.Join(tree, "usr/lib/x86_64-linux-gnu")
	for program, flag := range map[string]string{
		"sbin/mkfs.ext4": "-V", "sbin/e2fsck": "-V", "sbin/mkfs.xfs": "-V", "sbin/xfs_repair": "-V", "sbin/fstrim": "-V",
		"sbin/blkdiscard": "-V", "bin/mount": "-V", "bin/sg_inq": "-V", "bin/sg_persist": "-V",
	} {
		out, err := exec.Command(filepath.Join(tree, "lib64/ld-linux-x86-64.so.2"), "--inhibit-cache", "--library-path", libraries,
			filepath.Join(tree, program), flag).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", program, err, out)
		}
	}
	out, err := exec.Command(filepath.Join(tree, "bin/fio"), "--enghelp").CombinedOutput()
	for _, engine := range []string{"libaio", "io_uring", "psync"} {
		if err != nil || !strings.Contains(string(out), engine) {
			t.Errorf("fio has no engine %s (%v)", engine, err)
		}
	}
}
