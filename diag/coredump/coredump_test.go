package coredump

import (
	"bytes"
	"crypto/rand"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// file is a sink that is a sparse file.
type file struct {
	*os.File
	first func() // called when the first bytes come
	zeros uint64
}

func (f *file) Write(b []byte) error {
	if f.first != nil {
		f.first()
		f.first = nil
	}
	_, err := f.File.Write(b)
	return err
}

func (f *file) Zeros(n uint64) error {
	f.zeros += n
	at, err := f.Seek(int64(n), io.SeekCurrent)
	return errors.Join(err, f.Truncate(at))
}

// dump writes a core of the test.
func dump(t *testing.T, first func()) (*elf.File, *file) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "core"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	to := &file{File: f, first: first}
	if err := Write(to); err != nil {
		t.Fatal(err)
	}
	core, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	return core, to
}

// address is where a byte is.
func address(t *testing.T, b *byte) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(fmt.Sprintf("%p", b), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// at reads the core's memory.
func at(t *testing.T, core *elf.File, address uint64, n int) []byte {
	t.Helper()
	for _, p := range core.Progs {
		if p.Type == elf.PT_LOAD && p.Vaddr <= address && address+uint64(n) <= p.Vaddr+p.Filesz {
			b := make([]byte, n)
			if _, err := p.ReadAt(b, int64(address-p.Vaddr)); err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	return nil
}

// TestMoment: the core has memory as it was when the dump began, and the process, which
// goes on, its own.
func TestMoment(t *testing.T) {
	marker := make([]byte, 32)
	rand.Read(marker)
	before := bytes.Clone(marker)
	shared, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(shared)
	for i := range shared {
		shared[i] = ^before[i%32]
	}
	core, f := dump(t, func() { clear(marker) })
	if core.Type != elf.ET_CORE || core.Machine != elf.EM_X86_64 || len(core.Progs) < 4 || f.zeros == 0 {
		t.Errorf("%+v, %d zeros", core.FileHeader, f.zeros)
	}
	if got := at(t, core, address(t, &marker[0]), 32); !bytes.Equal(got, before) {
		t.Errorf("%x, want %x", got, before)
	}
	if !bytes.Equal(marker, make([]byte, 32)) {
		t.Errorf("the process did not go on: %x", marker)
	}
	if got := at(t, core, address(t, &shared[0]), 32); got != nil {
		t.Errorf("shared memory is in the core: %x", got)
	}
	all, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all, shared[:64]) {
		t.Error("what is in shared memory is in the core")
	}
}

// TestNotes: the notes have the sizes that debuggers want, and the threads are there.
func TestNotes(t *testing.T) {
	entered := make(chan int)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd := int(r.Fd()) // a read of it blocks a thread
	go func() {
		runtime.LockOSThread()
		entered <- unix.Gettid()
		unix.Read(fd, make([]byte, 1))
	}()
	tid := <-entered
	for {
		where, err := os.ReadFile(filepath.Join("/proc/self/task", strconv.Itoa(tid), "syscall"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(where), "0 ") { // read
			break
		}
		runtime.Gosched()
	}
	core, _ := dump(t, nil)
	notes := map[uint32][][]byte{}
	for _, p := range core.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			size, kind := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
			if string(b[12:20]) != "CORE\x00\x00\x00\x00" {
				t.Fatalf("%q", b[12:20])
			}
			notes[kind] = append(notes[kind], b[20:20+size])
			b = b[20+(size+3)&^3:]
		}
	}
	found := false
	for _, s := range notes[ntPRStatus] {
		if len(s) != statusSize {
			t.Fatalf("%d bytes of status", len(s))
		}
		reg := func(i int) uint64 { return binary.LittleEndian.Uint64(s[statusRegs+8*i:]) }
		if binary.LittleEndian.Uint32(s[statusPID:]) == uint32(tid) {
			found = reg(regRIP) != 0 && reg(regRSP) != 0 && reg(regORAX) == unix.SYS_READ && reg(regRDI) == uint64(fd)
		}
	}
	if !found || len(notes[ntPRStatus]) < 2 || len(notes[ntPRPSInfo]) != 1 || len(notes[ntPRPSInfo][0]) != infoSize || len(notes[ntAuxv]) != 1 {
		t.Errorf("%v, %v", found, notes)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if f := notes[ntFile]; len(f) != 1 || !bytes.Contains(f[0], append([]byte(exe), 0)) {
		t.Errorf("%q", f)
	}
}

// TestSinkFails: a reader that goes away ends the dump, and nothing of it stays.
func TestSinkFails(t *testing.T) {
	for range 3 {
		if err := Write(failing{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
	var status unix.WaitStatus
	if pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("there is a child: %d, %v", pid, err)
	}
}

type failing struct{}

func (failing) Write([]byte) error { return io.ErrClosedPipe }
func (failing) Zeros(uint64) error { return io.ErrClosedPipe }

// TestBusy: one core at a time.
func TestBusy(t *testing.T) {
	dump(t, func() {
		if err := Write(failing{}); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	})
}

func TestMaps(t *testing.T) {
	const text = `00400000-00401000 r-xp 00000000 00:01 5      /bin/with space
00401000-00402000 rw-p 00001000 00:01 5      /bin/with space
00402000-00403000 rw-p 00000000 00:00 0 
00403000-00404000 ---p 00000000 00:00 0 
00404000-00405000 rw-s 00000000 00:01 9      /memfd:guest (deleted)
7f0000000000-7f0000001000 r--p 00000000 00:00 0      [vvar]
7f0000001000-7f0000002000 r--p 00000000 00:00 0      [vvar_vclock]
7f0000002000-7f0000003000 r-xp 00000000 00:00 0      [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]
`
	got, err := parseMaps(text)
	want := []area{
		{0x400000, 0x401000, pfR | pfX, 0, "/bin/with space", false},
		{0x401000, 0x402000, pfR | pfW, 0x1000, "/bin/with space", true},
		{0x402000, 0x403000, pfR | pfW, 0, "", true},
		{0x7f0000002000, 0x7f0000003000, pfR | pfX, 0, "", true},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	for _, bad := range []string{"x", "1000-1000 r--p 0 0:0 0", "1000-2000 r 0 0:0 0", "2000-1000 r--p 0 0:0 0"} {
		if _, err := parseMaps(bad); !errors.Is(err, errMaps) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := parseMaps(strings.Repeat("1000-2000 r--p 0 0:0 0\n", maxAreas+1)); !errors.Is(err, errMaps) {
		t.Error(err)
	}
}
