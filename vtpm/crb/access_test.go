package crb

import (
	"bytes"
	"testing"

	"keel/vtl/irq"
	"keel/vtpm/front/fronttest"
)

// A read of any width at any offset is made of the bytes there.
func TestReadWidths(t *testing.T) {
	for _, s := range []state{idle, ready, reception, execution, completion} {
		b := newBench()
		b.enter(s)
		b.write32(2, 0x08, 1)
		bytewise := make([]byte, Size)
		for i := range bytewise {
			bytewise[i] = byte(b.ReadMMIO(uint64(i), 1))
		}
		for _, size := range []int{2, 4, 8} {
			for i := range Size - size + 1 {
				v := b.ReadMMIO(uint64(i), size)
				for j := range size {
					if byte(v>>(8*j)) != bytewise[i+j] {
						t.Fatalf("state %d: read of %d bytes at %#x is %#x, bytes %x", s, size, i, v, bytewise[i:i+size])
					}
				}
			}
		}
	}
}

// Writes of any width and alignment leave the same command.
func TestDataWidths(t *testing.T) {
	command := fronttest.Command(3, 64)
	for _, size := range []int{1, 2, 4, 8} {
		b := newBench()
		b.enter(ready)
		for i := 0; i < len(command); i += size {
			var v uint64
			for j := range size {
				v |= uint64(command[i+j]) << (8 * j)
			}
			b.WriteMMIO(at(0, 0x80)+uint64(i), size, v)
		}
		if got := b.buffer(0, 64); !bytes.Equal(got, command) {
			t.Errorf("%d bytes at a time: %x", size, got)
		}
	}
	// The last bytes of the buffer, and accesses over its two ends.
	b := newBench()
	b.enter(ready)
	b.WriteMMIO(at(0, 0xff8), 8, 0x8877665544332211)
	b.WriteMMIO(at(0, 0xffe), 4, 0xffffffff) // two bytes in locality 1's page
	b.WriteMMIO(at(0, 0x7c), 8, 0xddccbbaa_ffffffff)
	if got := b.buffer(0, 3968); !bytes.Equal(got[:4], []byte{0xaa, 0xbb, 0xcc, 0xdd}) ||
		!bytes.Equal(got[3960:], []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff, 0xff}) {
		t.Errorf("%x … %x", got[:8], got[3956:])
	}
	if b.read32(1, 0x0c) != 0 {
		t.Error("it reached locality 1")
	}
}

// Registers take their bits with a byte, a word, two registers at a time, or not at all.
func TestRegisterWidths(t *testing.T) {
	for _, c := range []struct {
		name    string
		offset  uint64
		size    int
		value   uint64
		granted bool
	}{
		{"byte", 0x08, 1, 1, true},
		{"word", 0x08, 2, 1, true},
		{"dword", 0x08, 4, 1, true},
		{"with LOC_STS", 0x08, 8, 0xffffffff_00000001, true},
		{"from below", 0x06, 4, 0x0001_0000, true},
		{"second byte", 0x09, 1, 1, false},
		{"upper bytes", 0x0a, 2, 1, false},
		{"from above", 0x09, 4, 1, false},
		{"LOC_STS alone", 0x0c, 4, 1, false},
	} {
		b := newBench()
		b.WriteMMIO(c.offset, c.size, c.value)
		if got := b.read32(0, 0x0c) == 1; got != c.granted {
			t.Errorf("%s: granted %v", c.name, got)
		}
	}
	b := newBench()
	b.enter(reception)
	b.WriteMMIO(0x48, 8, 1<<32) // cancel 0, start 1
	if got := b.see(); got != "execution" {
		t.Errorf("start in the upper half of eight bytes leads to %s", got)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench()
	b.enter(reception)
	var sum uint64
	if n := testing.AllocsPerRun(50, func() {
		for l := range uint64(5) {
			for reg := uint64(0); reg < 0xa0; reg += 4 {
				sum += b.ReadMMIO(at(l, reg), 8)
				if reg != 0x48 { // the eight bytes that reach Start
					b.WriteMMIO(at(l, reg), 8, sum&^(1<<32)&^1)
				}
			}
		}
		b.write32(0, 0x08, 1)
		b.write32(0, 0x40, 1)
		b.write32(0, 0x40, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// linux sends a command as Linux' tpm_crb does, and returns the response, or false when
// the TPM was seized meanwhile.
func linux(b *CRB, l uint64, command []byte, wait func()) ([]byte, bool) {
	read := func(reg uint64) uint32 { return uint32(b.ReadMMIO(at(l, reg), 4)) }
	write := func(reg uint64, v uint32) { b.WriteMMIO(at(l, reg), 4, uint64(v)) }
	granted := func() bool { return read(0x0c) == 1 }
	for write(0x08, 1); !granted(); wait() {
		if read(0x0c) == 2 { // seized as soon as it was granted
			write(0x08, 1)
		}
	}
	write(0x40, 1)
	for i, v := range command {
		b.WriteMMIO(at(l, 0x80)+uint64(i), 1, uint64(v))
	}
	write(0x48, 0)
	write(0x4c, 1)
	for read(0x4c) == 1 {
		wait()
	}
	response := make([]byte, len(command)+11)
	for i := range response {
		response[i] = byte(b.ReadMMIO(at(l, 0x80)+uint64(i), 1))
	}
	if !granted() {
		return nil, false
	}
	write(0x40, 2)
	write(0x08, 2)
	return response, true
}

func TestConcurrentLocalities(t *testing.T) {
	tpm := &fronttest.Echo{}
	d := New(Base, tpm, irq.NewSystemClock())
	fronttest.Contend(t, tpm, fronttest.Driver{
		Send:    func(l uint64, command []byte, wait func()) ([]byte, bool) { return linux(d, l, command, wait) },
		Seize:   func(l uint64) { d.WriteMMIO(at(l, 0x08), 4, 4) },
		Release: func(l uint64) { d.WriteMMIO(at(l, 0x08), 4, 2) },
	})
	if s := d.Stats(); s.Commands < 40 || s.Malformed != 0 {
		t.Errorf("%+v", s)
	}
}
