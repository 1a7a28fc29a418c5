package pcitest

import (
	"math"
	"sync/atomic"
	"testing"

	"keel/hcl/pci"
)

const (
	ones32 = math.MaxUint32
	ones64 = math.MaxUint64
)

// registers maps the registers that the test may look at.
func (f *Function) registers(t *testing.T) pci.Registers {
	t.Helper()
	r, err := f.Registers(f.BAR)
	if err != nil {
		t.Fatalf("Registers(%d): %v", f.BAR, err)
	}
	return r
}

func checkRegisters(t *testing.T, f *Function) {
	t.Helper()
	r := f.registers(t)
	size := r.Size()
	if size < 8 {
		t.Fatalf("%d bytes of registers", size)
	}
	if again := f.registers(t); again.Size() != size {
		t.Errorf("first %d bytes of registers, then %d", size, again.Size())
	}
	// Within: any value will do, but the function must live.
	_, _ = r.Read32(0), r.Read64(0)
	_, _ = r.Read32(size/2&^7), r.Read64(size/2&^7)
	outside := []int{-8, size &^ 7, size&^7 + 8, 2 * (size &^ 7), math.MaxInt &^ 7, math.MinInt}
	for _, at := range outside {
		if at < 0 || at >= size {
			if v := r.Read32(at); v != ones32 {
				t.Errorf("Read32(%#x) beyond %#x is %#x, want ones", at, size, v)
			}
			r.Write32(at, 0)
		}
		if at < 0 || at > size-8 {
			if v := r.Read64(at); v != ones64 {
				t.Errorf("Read64(%#x) beyond %#x is %#x, want ones", at, size, v)
			}
			r.Write64(at, 0)
		}
	}
	if n := testing.AllocsPerRun(10, func() { r.Read32(0) }); n != 0 {
		t.Errorf("Read32 allocates %v times", n)
	}
}

func checkNoRegisters(t *testing.T, f *Function) {
	t.Helper()
	for _, bar := range []int{-1, 6, 7, math.MaxInt, math.MinInt} {
		if r, err := f.Registers(bar); err == nil || r != nil {
			t.Errorf("Registers(%d) = %v, %v, want an error alone", bar, r, err)
		}
	}
}

func checkBuffers(t *testing.T, f *Function) {
	t.Helper()
	type used struct{ start, end uint64 }
	var all []used
	for _, size := range []int{1, 64, pageSize, pageSize + 1, 16 * pageSize, 512 * 1024} {
		b, err := f.Allocate(size)
		if err != nil {
			t.Fatalf("Allocate(%d): %v", size, err)
		}
		n := len(b.Bytes)
		switch {
		case n < size || n%pageSize != 0:
			t.Fatalf("Allocate(%d) gave %d bytes", size, n)
		case len(b.Words)*4 != n:
			t.Fatalf("Allocate(%d) gave %d bytes and %d words", size, n, len(b.Words))
		case b.DMA%pageSize != 0 || b.DMA+uint64(n) < b.DMA:
			t.Fatalf("Allocate(%d) lies at %#x", size, b.DMA)
		}
		u := used{b.DMA, b.DMA + uint64(n)}
		for _, o := range all {
			if u.start < o.end && o.start < u.end {
				t.Fatalf("%#x-%#x and %#x-%#x overlap", u.start, u.end, o.start, o.end)
			}
		}
		all = append(all, u)
		checkViews(t, b)
	}
}

// checkViews tells whether both views are of the same memory, all zero at first.
func checkViews(t *testing.T, b pci.Buffer) {
	t.Helper()
	for i, v := range b.Bytes {
		if v != 0 {
			t.Fatalf("byte %d of a new buffer is %#x", i, v)
		}
	}
	last := len(b.Words) - 1
	copy(b.Bytes[4*last:], []byte{1, 2, 3, 4})
	if v := atomic.LoadUint32(&b.Words[last]); v != 0x04030201 {
		t.Errorf("bytes 1 2 3 4 read as word %#x", v)
	}
	atomic.StoreUint32(&b.Words[0], 0xa0b0c0d0)
	if got := [4]byte(b.Bytes); got != [4]byte{0xd0, 0xc0, 0xb0, 0xa0} {
		t.Errorf("word 0xa0b0c0d0 reads as bytes % x", got)
	}
}

func checkNoBuffers(t *testing.T, f *Function) {
	t.Helper()
	for _, size := range []int{0, -1, math.MinInt, 1 << 50, math.MaxInt} {
		if b, err := f.Allocate(size); err == nil {
			t.Errorf("Allocate(%d) gave %d bytes, want an error", size, len(b.Bytes))
		}
	}
	if _, err := f.Allocate(1); err != nil {
		t.Errorf("after that, Allocate(1): %v", err)
	}
}
