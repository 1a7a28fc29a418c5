package virtio

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
	"keel/translate/virtio/virtiotest"
	"keel/vtl/guestmem"
)

// scribbler checks every segment that it is given, reads what is readable and
// overwrites what is writable.
type scribbler struct {
	echo
	tb     testing.TB
	memory *guestmem.Memory
	chains int
}

func (s *scribbler) Available(q *Queue) {
	for c := q.Next(); c != nil; c = q.Next() {
		s.chains++
		if len(c.Readable)+len(c.Writable) > 16+MaxIndirect {
			s.tb.Fatalf("chain of %d segments", len(c.Readable)+len(c.Writable))
		}
		if c.ReadableBytes+c.WritableBytes > maxBytes {
			s.tb.Fatalf("chain of %d bytes", c.ReadableBytes+c.WritableBytes)
		}
		s.check(c.Readable, c.ReadableBytes)
		s.check(c.Writable, c.WritableBytes)
		budget := 1 << 14 // of bytes, lest a run takes for ever
		for _, w := range c.Writable {
			n := min(len(w.Data), budget)
			for i := range n {
				w.Data[i] ^= 0x5a
			}
			budget -= n
		}
		c.Complete(uint32(c.WritableBytes))
	}
}

func (s *scribbler) check(list []blk.Segment, bytes uint64) {
	for _, g := range list {
		view, err := s.memory.Slice(x86.GPA(g.DMA), len(g.Data))
		if err != nil || len(g.Data) == 0 || &view[0] != &g.Data[0] {
			s.tb.Fatalf("segment of %d bytes at %#x: %v", len(g.Data), g.DMA, err)
		}
		bytes -= uint64(len(g.Data))
	}
	if bytes != 0 {
		s.tb.Fatalf("segments and their length differ by %d", int64(bytes))
	}
}

// FuzzQueue gives the device a descriptor table, an indirect table and an
// available ring of anybody's making. Whatever they say, segments are guest RAM,
// work is bounded, and the device either uses what was offered or stops.
func FuzzQueue(f *testing.F) {
	add := func(flags uint8, avail []uint16, descs ...desc) {
		var b []byte
		for _, a := range avail {
			b = binary.LittleEndian.AppendUint16(b, a)
		}
		for len(b) < 32 {
			b = append(b, 0)
		}
		for _, d := range descs {
			b = binary.LittleEndian.AppendUint64(b, uint64(d.at))
			b = binary.LittleEndian.AppendUint32(b, d.length)
			b = binary.LittleEndian.AppendUint16(b, d.flags)
			b = binary.LittleEndian.AppendUint16(b, d.next)
		}
		f.Add(flags, uint16(len(avail)), b)
	}
	add(0, []uint16{0}, desc{data, 16, next, 1}, desc{data, 16, write, 0})
	add(1, []uint16{0}, desc{0x20000, 32, indirect, 0}, desc{data, 16, next, 1}, desc{data, 16, write, 0})
	add(3, []uint16{0, 0, 1}, desc{data, 16, next, 0}, desc{1 << 33, 16, write, 0})
	add(2, []uint16{0}, desc{ringBase, 512, write, 0}) // the ring itself
	add(1, []uint16{0}, desc{0x20000, 16, indirect, 0}, desc{0x20000, 16, write | next, 0})
	f.Fuzz(func(t *testing.T, flags uint8, index uint16, bytes []byte) {
		s := &scribbler{tb: t}
		b := newBench(t, func(c *Config) {
			c.Handler, c.DirectDMA, s.memory = s, true, c.Memory
			c.Queues = []uint16{16}
		})
		features := plain
		if flags&1 != 0 {
			features |= uint64(FeatureIndirect)
		}
		if flags&2 != 0 {
			features |= uint64(FeatureEventIndex)
		}
		b.Negotiate(features)
		r := b.AddRing(0, 16, features&^uint64(FeatureIndirect))
		b.Run()
		// The first 32 bytes are the available ring, the rest are descriptors,
		// both of the queue and of an indirect table.
		n := copy(r.Avail[4:36], bytes)
		copy(r.Desc, bytes[n:])
		copy(b.View(0x20000, 4096), bytes[n:])
		binary.LittleEndian.PutUint16(r.Avail[2:], index)
		b.Notify(0)
		used := binary.LittleEndian.Uint16(r.Used[2:])
		stats := b.device.Stats()
		if s.chains > 16 || stats.Broken > 1 {
			t.Fatalf("%d chains, %+v", s.chains, stats)
		}
		if stats.Broken == 0 && index <= 16 && s.chains < int(index) && b.device.Stats().Queues[0].HandedOver == 0 && !scribbled(bytes) {
			t.Fatalf("%d of %d chains taken, used index %d", s.chains, index, used)
		}
		if (b.Status()&0x40 != 0) != (stats.Broken != 0) {
			t.Fatalf("status %#x, %+v", b.Status(), stats)
		}
	})
}

// scribbled tells whether a descriptor is writable: then the chains may overwrite
// the rings themselves.
func scribbled(bytes []byte) bool {
	for i := 32 + descFlags; i+1 < len(bytes); i += 16 {
		if bytes[i]&(flagWrite|flagIndirect) != 0 {
			return true
		}
	}
	return false
}

// FuzzConfig plays accesses to all BARs, to configuration space, and
// notifications. The device always comes back from a reset.
func FuzzConfig(f *testing.F) {
	f.Add([]byte{0, 0x14, 0, 0, 1, 0, 0, 0, 0, 0x14, 0, 0, 3, 0, 0, 0, 0, 0x08, 0, 2, 1, 0, 0, 0, 0, 0x0c, 0, 2, 1, 0, 0, 0, 0, 0x14, 0, 0, 11, 0, 0, 0})
	f.Add([]byte{0, 0x1c, 0, 1, 1, 0, 0, 0, 0, 0, 0x30, 1, 0, 0, 0, 0, 3, 0x54, 0, 2, 0xff, 0, 0, 0})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		b := newBench(t)
		b.Negotiate(allFlags)
		fn := b.device.PCI()
		for n := 0; len(bytes) >= 8 && n < 512; n, bytes = n+1, bytes[8:] {
			offset := uint64(bytes[1]) | uint64(bytes[2])<<8
			size := 1 << (bytes[3] & 3)
			value := uint64(binary.LittleEndian.Uint32(bytes[4:]))
			bar, length := fn.BAR(int(bytes[0]>>3&1) * 2)
			offset %= length - 7
			switch bytes[0] & 7 {
			case 0:
				bar.WriteMMIO(offset, size, value)
			case 1:
				bar.WriteMMIO(offset, size, value<<32|value)
			case 2:
				bar.ReadMMIO(offset, size)
			case 3:
				fn.WriteConfig(uint16(offset&0xff), min(size, 4), uint32(value))
			case 4:
				fn.ReadConfig(uint16(offset&0xfff), min(size, 4))
			case 5:
				b.device.Stats()
			case 6:
				bar.WriteMMIO(offset&0x3f, size, value) // the common structure
			case 7:
				b.device.Queue(int(offset) % 2).Kick()
			}
		}
		b.device.Reset()
		b.Driver = virtiotest.New(t, fn, b.memory, ringBase)
		r := b.start(t, 8, plain)
		r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
		r.Kick()
		if _, _, ok := r.Poll(); !ok || b.Common(0x12, 2) != 2 {
			t.Errorf("the device does not work after a reset: %+v", b.device.Stats())
		}
	})
}
