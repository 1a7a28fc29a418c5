package tis

import (
	"bytes"
	"testing"

	"keel/vtl/irq"
	"keel/vtpm/front/fronttest"
)

// A read of any width at any offset is made of the bytes there, but for the FIFO.
func TestReadWidths(t *testing.T) {
	for _, s := range []state{idle, ready, reception, execution, completion} {
		b := newBench()
		b.enter(s)
		b.setAccess8(2, 0x02)
		bytewise := make([]byte, Size)
		touches := func(i, n int) bool {
			return i&0xfff < 0x28 && i&0xfff+n > 0x24 || i&0xfff < 0xc0 && i&0xfff+n > 0x80
		}
		for i := range bytewise {
			if !touches(i, 1) {
				bytewise[i] = byte(b.ReadMMIO(uint64(i), 1))
			}
		}
		for _, size := range []int{2, 4, 8} {
			for i := range Size - size + 1 {
				if touches(i, size) {
					continue
				}
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

// The stream takes and gives as many bytes as an access has in the FIFO, in order.
func TestFIFOWidths(t *testing.T) {
	command := fronttest.Command(3, 64)
	want := fronttest.Answer(0, command)
	for _, c := range []struct {
		name  string
		reg   uint64
		size  int
		bytes int // in the FIFO
		skip  int // bytes of the access before it
	}{
		{"byte", 0x24, 1, 1, 0},
		{"word", 0x24, 2, 2, 0},
		{"dword", 0x24, 4, 4, 0},
		{"upper word", 0x26, 2, 2, 0},
		{"last byte", 0x27, 1, 1, 0},
		{"beyond its end", 0x24, 8, 4, 0},
		{"from below", 0x20, 8, 4, 4},
		{"unaligned from below", 0x22, 4, 2, 2},
		{"XDATA byte", 0x80, 1, 1, 0},
		{"XDATA dword", 0x80, 4, 4, 0},
		{"XDATA qword", 0x80, 8, 8, 0},
		{"XDATA qword further up", 0xb8, 8, 8, 0},
		{"XDATA to its end", 0xbc, 8, 4, 0},
	} {
		b := newBench()
		b.enter(ready)
		for sent := 0; sent < len(command); sent += c.bytes {
			var v uint64
			for j := range min(c.bytes, len(command)-sent) {
				v |= uint64(command[sent+j]) << (8 * (j + c.skip))
			}
			b.WriteMMIO(at(0, c.reg), c.size, v)
		}
		b.setSTS(0, 0x20)
		if r, ok := b.tpm.Oldest(); !ok || !bytes.Equal(r.Command, command) {
			t.Errorf("%s: the TPM got %x", c.name, r.Command)
			continue
		}
		b.tpm.Deliver(nil)
		var got []byte
		for len(got) < len(want) {
			v := b.ReadMMIO(at(0, c.reg), c.size) >> (8 * c.skip)
			for j := range c.bytes {
				got = append(got, byte(v>>(8*j)))
			}
		}
		if !bytes.Equal(got[:len(want)], want) {
			t.Errorf("%s: response %x, want %x", c.name, got, want)
		}
	}
}

// Registers take their bits with a byte, with more, or not at all.
func TestRegisterWidths(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset uint64
		size   int
		value  uint64
		active bool
	}{
		{"byte", 0x00, 1, 0x02, true},
		{"word", 0x00, 2, 0xff02, true},
		{"dword", 0x00, 4, 0x02, true},
		{"qword", 0x00, 8, 0x02, true},
		{"second byte", 0x01, 1, 0x02, false},
	} {
		b := newBench()
		b.WriteMMIO(c.offset, c.size, c.value)
		if got := b.access(0) == 0xa1; got != c.active {
			t.Errorf("%s: active %v", c.name, got)
		}
	}
	// The burst count and the cancel bit are bytes of STS too.
	b := newBench()
	b.enter(ready)
	if lo, hi := b.ReadMMIO(0x19, 1), b.ReadMMIO(0x1a, 1); lo != 0xff || hi != 0 {
		t.Errorf("burst count reads %#x, %#x", lo, hi)
	}
	b.enter(execution)
	b.WriteMMIO(0x1b, 1, 1)
	if b.tpm.Cancels() != 1 {
		t.Error("commandCancel as a byte does not cancel")
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench()
	b.enter(completion)
	var sum uint64
	if n := testing.AllocsPerRun(50, func() {
		for l := range uint64(5) {
			for reg := uint64(0); reg < 0xc0; reg += 4 {
				sum += b.ReadMMIO(at(l, reg), 8)
				if reg != 0x14 && reg != 0x18 { // eight bytes that reach tpmGo
					b.WriteMMIO(at(l, reg), 8, sum)
				}
			}
		}
		b.setAccess8(0, 0x20)
		b.setAccess8(0, 0x02)
		b.setSTS(0, 0x40)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// linux sends a command as Linux' tpm_tis does, and returns the response, or false when
// the TPM was seized meanwhile.
func linux(d *TIS, l uint64, command []byte, wait func()) ([]byte, bool) {
	read := func(reg uint64, size int) uint32 { return uint32(d.ReadMMIO(at(l, reg), size)) }
	write := func(reg uint64, v uint8) { d.WriteMMIO(at(l, reg), 1, uint64(v)) }
	active := func() bool { return read(0x00, 1)&0xa0 == 0xa0 }
	for write(0x00, 0x02); !active(); wait() {
		if read(0x00, 1)&0x10 != 0 { // seized as soon as it was granted
			write(0x00, 0x12)
		}
	}
	gone := func() bool {
		if active() {
			return false
		}
		write(0x00, 0x10)
		return true
	}
	write(0x18, 0x40)
	for read(0x18, 1)&0x40 == 0 {
		if gone() {
			return nil, false
		}
		wait()
	}
	for sent := 0; sent < len(command); {
		burst := int(read(0x18, 4) >> 8 & 0xffff)
		if gone() {
			return nil, false
		}
		for ; burst > 0 && sent < len(command); burst-- {
			write(0x24, command[sent])
			sent++
		}
	}
	write(0x18, 0x20)
	var response []byte
	for len(response) < len(command)+11 {
		for read(0x18, 1)&0x90 != 0x90 {
			if gone() {
				return nil, false
			}
			wait()
		}
		for burst := int(read(0x18, 4) >> 8 & 0xffff); burst > 0 && len(response) < len(command)+11; burst-- {
			response = append(response, byte(read(0x24, 1)))
		}
	}
	left := read(0x18, 1)&0x10 != 0
	if gone() {
		return nil, false
	}
	if left {
		response = append(response, 0xee)
	}
	write(0x18, 0x40)
	write(0x00, 0x20)
	return response, true
}

func TestConcurrentLocalities(t *testing.T) {
	tpm := &fronttest.Echo{}
	d := New(tpm, irq.NewSystemClock())
	fronttest.Contend(t, tpm, fronttest.Driver{
		Send:    func(l uint64, command []byte, wait func()) ([]byte, bool) { return linux(d, l, command, wait) },
		Seize:   func(l uint64) { d.WriteMMIO(at(l, 0x00), 1, 0x08) },
		Release: func(l uint64) { d.WriteMMIO(at(l, 0x00), 1, 0x20) },
	})
	if s := d.Stats(); s.Commands < 40 || s.Malformed != 0 {
		t.Errorf("%+v", s)
	}
}
