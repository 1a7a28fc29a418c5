package sys

import (
	"errors"
	"runtime/debug"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// registerFile maps a file of memory as a device's registers are mapped. Cutting
// the file short takes the pages away as the kernel does: an access raises SIGBUS.
func registerFile(tb testing.TB) (mapping []byte, cut func()) {
	tb.Helper()
	const size = 4096
	fd, err := unix.MemfdCreate("registers", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		tb.Fatal(err)
	}
	mapping, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(unix.Munmap(mapping), unix.Close(fd)); err != nil {
			tb.Error(err)
		}
	})
	return mapping, func() {
		if err := unix.Ftruncate(fd, 0); err != nil {
			tb.Error(err)
		}
	}
}

func TestRegisters(t *testing.T) {
	m, _ := registerFile(t)
	if !WriteRegister32(m, 8, 0x01020304) || !WriteRegister64(m, 16, 0x0102030405060708) {
		t.Fatal("a write failed")
	}
	if m[8] != 4 || m[11] != 1 || m[16] != 8 || m[23] != 1 {
		t.Errorf("memory holds % x, want little-endian values", m[8:24])
	}
	if m[7] != 0 || m[12] != 0 || m[24] != 0 {
		t.Error("a write went beyond its size")
	}
	if v, ok := ReadRegister32(m, 16); v != 0x05060708 || !ok {
		t.Errorf("read %#x, %v", v, ok)
	}
	if v, ok := ReadRegister64(m, 16); v != 0x0102030405060708 || !ok {
		t.Errorf("read %#x, %v", v, ok)
	}
	if v, ok := ReadRegister32(m, len(m)-4); v != 0 || !ok {
		t.Errorf("the last register reads %#x, %v", v, ok)
	}
}

// faults tells that no access to the mapping succeeds, nor ends the process.
func faults(t *testing.T, m []byte) {
	t.Helper()
	_, ok32 := ReadRegister32(m, 4)
	_, ok64 := ReadRegister64(m, 8)
	if ok32 || ok64 || WriteRegister32(m, 4, 1) || WriteRegister64(m, 8, 1) {
		t.Error("an access to nothing succeeded")
	}
}

func TestRevokedRegistersFault(t *testing.T) {
	m, cut := registerFile(t)
	cut()
	for range 3 {
		faults(t, m)
	}
}

func TestSealedRegistersFault(t *testing.T) {
	m, _ := registerFile(t)
	if err := Seal(m); err != nil {
		t.Fatal(err)
	}
	faults(t, m)
}

// TestRegistersOnVPThread accesses nothing from a thread set up as a VP's.
func TestRegistersOnVPThread(t *testing.T) {
	m, cut := registerFile(t)
	cut()
	onThread(t, func() { faults(t, m) })
}

// TestSealUnderAccess seals while other goroutines read and write: each access
// works or fails, and the process lives.
func TestSealUnderAccess(t *testing.T) {
	m, _ := registerFile(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				_, read := ReadRegister32(m, 0)
				if !read && !WriteRegister64(m, 8, 1) {
					return
				}
			}
		})
	}
	if err := Seal(m); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestRegisterAccessKeepsTheSetting(t *testing.T) {
	m, cut := registerFile(t)
	for _, want := range []bool{true, false} {
		before := debug.SetPanicOnFault(want)
		ReadRegister32(m, 0)
		if got := debug.SetPanicOnFault(before); got != want {
			t.Errorf("an access left PanicOnFault %v, want %v", got, want)
		}
	}
	cut()
	ReadRegister32(m, 0)
	if debug.SetPanicOnFault(false) {
		t.Error("a fault left PanicOnFault set")
	}
}

func TestRegisterBeyondMappingPanics(t *testing.T) {
	m, _ := registerFile(t)
	defer func() {
		if recover() == nil {
			t.Error("an access beyond the mapping was let through")
		}
	}()
	ReadRegister32(m, len(m)-3)
}

func TestRegisterAccessDoesNotAllocate(t *testing.T) {
	m, _ := registerFile(t)
	if n := testing.AllocsPerRun(100, func() {
		v, _ := ReadRegister32(m, 0)
		WriteRegister32(m, 0, v)
		w, _ := ReadRegister64(m, 8)
		WriteRegister64(m, 8, w)
	}); n != 0 {
		t.Errorf("an access allocates %v times", n)
	}
}

func TestIoctlSizedRefusesShortBuffers(t *testing.T) {
	if _, err := IoctlSized(-1, 0, make([]byte, 3)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v, want EINVAL", err)
	}
	b := make([]byte, 64)
	if _, err := IoctlSized(-1, 0, b); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
	if b[0] != 64 || b[1] != 0 {
		t.Errorf("the structure says % x, want its length", b[:4])
	}
}

// BenchmarkRegister measures what the protection adds to a store.
func BenchmarkRegister(b *testing.B) {
	m, _ := registerFile(b)
	b.Run("protected", func(b *testing.B) {
		for b.Loop() {
			WriteRegister32(m, 0, 1)
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			m[0] = 1
		}
	})
}
