package virtioscsi

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/virtio/virtiotest"
)

// FuzzRequest sends requests of anybody's making, in buffers cut anywhere, to the
// request and control queues of a controller over the real target. Each request
// comes back once, with no more bytes than it had room for, and what lies behind
// its room stays as it was.
func FuzzRequest(f *testing.F) {
	header := func(cdb ...byte) []byte {
		return append([]byte{1, 0, 0x40, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, append(cdb, make([]byte, 32-len(cdb))...)...)
	}
	f.Add(uint8(2), header(0x12, 0, 0, 0, 36, 0), uint16(108+36), uint8(0))
	f.Add(uint8(2), append(header(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), make([]byte, 512)...), uint16(108), uint8(3))
	f.Add(uint8(2), header(0x28, 0, 0, 0, 0, 0, 0, 0, 2), uint16(108+1024), uint8(7))
	f.Add(uint8(2), header(0x28, 0, 0, 0, 0, 0, 0, 0, 2), uint16(100), uint8(0))
	f.Add(uint8(0), []byte{0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, uint16(1), uint8(1))
	f.Add(uint8(0), []byte{2, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, 16, 0, 0, 0}, uint16(5), uint8(0))
	f.Fuzz(func(t *testing.T, queue uint8, readable []byte, writable uint16, cuts uint8) {
		b, _, _ := newReal(t, 1)
		b.start(allFeatures)
		b.settle(lun1(0))
		ring := b.requests[0]
		if queue == 0 {
			ring = b.control
		}
		readable = readable[:min(len(readable), 1<<16)]
		out, v := b.buffer(max(len(readable), 1))
		copy(v, readable)
		out.Size = uint32(len(readable))
		in, w := b.buffer(int(writable) + 64)
		for i := range w {
			w[i] = 0xcc
		}
		in.Size = uint32(writable)
		_, ok := ring.Add(split(out, cuts), split(in, cuts>>4))
		if !ok {
			t.Fatal("no room")
		}
		ring.Kick()
		_, n, used := ring.Poll()
		if !used || n > uint32(writable) {
			t.Fatalf("used %v, %d of %d bytes", used, n, writable)
		}
		for i, x := range w[writable:] {
			if x != 0xcc {
				t.Fatalf("byte %d behind the buffer was written", i)
			}
		}
		if queue != 0 && n >= 108 {
			if s := binary.LittleEndian.Uint32(w); s > 96 || w[11] > byte(respFailure) {
				t.Fatalf("sense length %d, response %d", s, w[11])
			}
		}
		if _, _, again := ring.Poll(); again {
			t.Fatal("it came back twice")
		}
		if s := b.controller.Stats().Virtio; s.Broken != 0 {
			t.Fatalf("%v", s.Cause)
		}
	})
}

// split cuts a buffer into up to 16 pieces.
func split(buf virtiotest.Buffer, pieces uint8) (list []virtiotest.Buffer) {
	size := max(buf.Size/uint32(pieces&0xf+1), 1)
	for len(list) < int(pieces&0xf) && buf.Size > size {
		list = append(list, virtiotest.Buffer{GPA: buf.GPA, Size: size})
		buf.GPA, buf.Size = buf.GPA+x86.GPA(size), buf.Size-size
	}
	return append(list, buf)
}
