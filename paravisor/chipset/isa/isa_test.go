package isa

import (
	"math"
	"testing"
)

func TestWideAccessIsConsecutiveBytes(t *testing.T) {
	regs := [8]uint8{0x10, 0x11, 0x12, 0x13, 0x14}
	read := func(o uint16) uint8 { return regs[o] }
	for _, c := range []struct {
		offset uint16
		size   int
		want   uint32
	}{
		{0, 1, 0x10}, {1, 2, 0x1211}, {0, 4, 0x13121110},
	} {
		if got := Read(c.offset, c.size, read); got != c.want {
			t.Errorf("Read(%d, %d) = %#x, want %#x", c.offset, c.size, got, c.want)
		}
	}
	Write(2, 4, 0xa4a3a2a1, func(o uint16, v uint8) { regs[o] = v })
	if want := [8]uint8{0x10, 0x11, 0xa1, 0xa2, 0xa3, 0xa4}; regs != want {
		t.Errorf("after Write: %x, want %x", regs, want)
	}
}

func TestTicksAndNanosAreInverse(t *testing.T) {
	for _, f := range []Hz{1, 1193182, 3579545, 1843200} {
		for _, k := range []uint64{0, 1, 2, 17, 65535, 65536, 1193182, 1 << 31, 1 << 40} {
			at := f.Nanos(k)
			if at == math.MaxInt64 {
				continue
			}
			if got := f.Ticks(at); got != k {
				t.Errorf("%d Hz: Ticks(Nanos(%d)) = %d", f, k, got)
			}
			if k > 0 && f.Ticks(at-1) != k-1 {
				t.Errorf("%d Hz: tick %d comes before Nanos says", f, k)
			}
		}
	}
}

func TestTicksBounds(t *testing.T) {
	if got := Hz(1000).Ticks(-5); got != 0 {
		t.Errorf("negative time gives %d ticks", got)
	}
	if got := Hz(1).Nanos(math.MaxUint64); got != math.MaxInt64 {
		t.Errorf("Nanos beyond the clock = %d", got)
	}
	// A century at the PM timer's frequency still divides exactly.
	century := int64(100*365*86400) * nanosPerSecond
	if got := Hz(3579545).Ticks(century); got != 100*365*86400*3579545 {
		t.Errorf("a century has %d ticks", got)
	}
}
