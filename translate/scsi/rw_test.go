package scsi

import (
	"bytes"
	"fmt"
	"testing"

	"keel/translate/blk"
)

// TestReadWrite moves data with every length of CDB, on both block sizes.
func TestReadWrite(t *testing.T) {
	for _, size := range []int{512, 4096} {
		i := plain()
		i.BlockSize = uint32(size)
		r := newRig(t, i, Disk)
		tests := []struct {
			write, read string
			lba, blocks int
		}{
			{"0a 00 0010 03 00", "08 00 0010 03 00", 16, 3},
			{"0a 00 0100 00 00", "08 00 0100 00 00", 256, 256}, // 0 stands for 256
			{"2a 00 00000020 00 0002 00", "28 00 00000020 00 0002 00", 32, 2},
			{"2a 18 00000022 00 0002 00", "28 18 00000022 00 0002 00", 34, 2}, // DPO, FUA
			{"aa 00 00000030 00000004 00 00", "a8 00 00000030 00000004 00 00", 48, 4},
			{"8a 00 00000000000007fe 00000002 00 00", "88 00 00000000000007fe 00000002 00 00", 2046, 2},
			{"2e 02 00000040 00 0005 00", "28 00 00000040 00 0005 00", 64, 5},
			{"ae 00 00000050 00000005 00 00", "28 00 00000050 00 0005 00", 80, 5},
			{"8e 02 0000000000000060 00000040 00 00", "28 00 00000060 00 0040 00", 96, 64},
		}
		for n, tt := range tests {
			want := pattern(tt.blocks*size, byte(n))
			c := r.run(t, tt.write, want, nil)
			wantGood(t, tt.write, c)
			if c.Residual != 0 {
				t.Errorf("%s: residual %d", tt.write, c.Residual)
			}
			if !bytes.Equal(r.disk.Bytes()[tt.lba*size:][:len(want)], want) {
				t.Errorf("%s: wrong data on the disk", tt.write)
			}
			got := make([]byte, len(want))
			wantGood(t, tt.read, r.run(t, tt.read, nil, got))
			if !bytes.Equal(got, want) {
				t.Errorf("%s: wrong data", tt.read)
			}
		}
	}
}

func TestReadWriteRefused(t *testing.T) {
	r := newRig(t, plain(), Disk)
	buf := make([]byte, 4096)
	tests := []struct {
		name, cdb string
		want      int
	}{
		{"beyond the end", "28 00 000007ff 00 0002 00", 0x052100},
		{"far beyond the end", "88 00 ffffffffffffffff 00000001 00 00", 0x052100},
		{"overflow", "88 00 ffffffffffffffff ffffffff 00 00", 0x052100},
		{"no blocks, one past the end", "28 00 00000800 00 0000 00", 0},
		{"no blocks, further", "28 00 00000801 00 0000 00", 0x052100},
		{"no blocks", "2a 00 00000000 00 0000 00", 0},
		{"RDPROTECT", "28 20 00000000 00 0001 00", 0x052400},
		{"WRPROTECT", "8a e0 0000000000000000 00000001 00 00", 0x052400},
		{"VRPROTECT", "2f 20 00000000 00 0001 00", 0x052400},
		{"NACA", "28 00 00000000 00 0001 04", 0x052400},
		{"unknown operation code", "c1 00 00000000 00 0000 00", 0x052000},
		{"variable length", "7f 00 00000000 00 0000 00", 0x052000},
		{"unknown service action", "9e 1f 0000000000000000 00000000 00 00", 0x052400},
		{"SYNCHRONIZE CACHE beyond the end", "35 00 00000800 00 0001 00", 0x052100},
		{"SYNCHRONIZE CACHE of all", "35 00 00000000 00 0000 00", 0},
		{"SYNCHRONIZE CACHE(16)", "91 02 0000000000000000 00000800 00 00", 0},
	}
	for _, tt := range tests {
		wantKey(t, tt.name, r.run(t, tt.cdb, buf, buf), tt.want)
	}
	c := r.run(t, "28 20 00000000 00 0001 00", nil, buf)
	golden(t, "field pointer", c.Sense[:c.SenseLen], "70 00 05 00000000 0a 00000000 24 00 00 cf 0001")
	c = r.run(t, "c1", nil, nil)
	golden(t, "pointer to the operation code", c.Sense[:c.SenseLen], "70 00 05 00000000 0a 00000000 20 00 00 c0 0000")
}

func TestBuffers(t *testing.T) {
	r := newRig(t, plain(), Disk)
	r.disk.Fill(pattern(4096, 0))
	// Longer than the transfer: the rest stays as it is.
	in := bytes.Repeat([]byte{0xee}, 1500)
	c := &Command{CDB: cdb(t, "28 00 00000001 00 0002 00"), Done: func(*Command) {}}
	c.In = []blk.Segment{{Data: in[:700:700], DMA: blk.NoDMA}, {Data: in[700:], DMA: blk.NoDMA}}
	r.ct.Submit(c)
	if c.Status != StatusGood || c.Residual != 476 || c.Overrun {
		t.Errorf("long buffer: status %#x, residual %d, overrun %v", c.Status, c.Residual, c.Overrun)
	}
	if !bytes.Equal(in[:1024], pattern(4096, 0)[512:1536]) || !bytes.Equal(in[1024:], bytes.Repeat([]byte{0xee}, 476)) {
		t.Error("long buffer: wrong data")
	}
	// Shorter: nothing happens.
	for _, code := range []string{"28 00 00000000 00 0002 00", "2a 00 00000000 00 0002 00", "2f 02 00000000 00 0002 00", "41 00 00000000 00 0001 00"} {
		short := bytes.Repeat([]byte{0xee}, 300)
		c := r.run(t, code, short, short)
		if !c.Overrun || c.Status != StatusCheckCondition || c.Residual != 600 {
			t.Errorf("%s: status %#x, residual %d, overrun %v", code, c.Status, c.Residual, c.Overrun)
		}
		if !bytes.Equal(short, bytes.Repeat([]byte{0xee}, 300)) || !bytes.Equal(r.disk.Bytes()[:4096], pattern(4096, 0)) {
			t.Errorf("%s: data moved", code)
		}
	}
	// A response that is longer than the buffer is cut.
	c = r.run(t, "12 00 00 00 60 00", nil, make([]byte, 10))
	if c.Status != StatusGood || !c.Overrun || c.Residual != 0 {
		t.Errorf("cut INQUIRY: status %#x, residual %d, overrun %v", c.Status, c.Residual, c.Overrun)
	}
	// The allocation length bounds it too, and that is no overrun.
	c = r.run(t, "12 00 00 00 08 00", nil, make([]byte, 96))
	if c.Status != StatusGood || c.Overrun || c.Residual != 88 {
		t.Errorf("INQUIRY of 8 bytes: status %#x, residual %d, overrun %v", c.Status, c.Residual, c.Overrun)
	}
}

// TestZeroCopy sees that segments go down as they are, cut where they are longer.
func TestZeroCopy(t *testing.T) {
	r := newRig(t, plain(), Disk)
	spy := &spy{Disk: r.disk}
	r.ct.units[0].Load().disk = spy
	data := make([]byte, 2048)
	c := &Command{CDB: cdb(t, "2a 00 00000000 00 0003 00"), Done: func(*Command) {}}
	c.Out = []blk.Segment{{Data: data[:1000:1000], DMA: 0x1000}, {Data: data[1000:], DMA: 0x8000}}
	r.ct.Submit(c)
	if got := fmt.Sprint(spy.seen); got != "[1000@0x1000 536@0x8000]" {
		t.Errorf("segments %s", got)
	}
	if &spy.first[0] != &data[0] {
		t.Error("data was copied")
	}
}

// spy notes the segments of requests.
type spy struct {
	blk.Disk
	seen  []string
	first []byte
}

func (s *spy) Submit(q int, r *blk.Request) {
	for i, g := range r.Segments {
		if i == 0 {
			s.first = g.Data
		}
		s.seen = append(s.seen, fmt.Sprintf("%d@%#x", len(g.Data), g.DMA))
	}
	s.Disk.Submit(q, r)
}

func TestDurability(t *testing.T) {
	r := newRig(t, plain(), Disk)
	data := pattern(512, 9)
	stable := func() bool { return bytes.Equal(r.disk.Stable()[:512], data) }
	wantGood(t, "write", r.run(t, "2a 00 00000000 00 0001 00", data, nil))
	if stable() {
		t.Fatal("a plain write is stable at once: the test proves nothing")
	}
	wantGood(t, "flush", r.run(t, "35 00 00000000 00 0000 00", nil, nil))
	if !stable() {
		t.Error("SYNCHRONIZE CACHE did not flush")
	}
	tests := []struct{ name, cdb string }{
		{"FUA", "2a 08 00000000 00 0001 00"},
		{"WRITE AND VERIFY", "2e 00 00000000 00 0001 00"},
		{"WRITE SAME without a cache", "41 00 00000000 00 0001 00"},
		{"WRITE without a cache", "2a 00 00000000 00 0001 00"},
		{"WRITE(6) without a cache", "0a 00 0000 01 00"},
	}
	for n, tt := range tests {
		if n == 2 {
			off := append([]byte{0, 0, 0, 0, 8, 0x12}, make([]byte, 18)...)
			wantGood(t, "cache off", r.run(t, "15 10 0000 18 00", off, nil))
		}
		data = pattern(512, byte(n+20))
		wantGood(t, tt.name, r.run(t, tt.cdb, data, nil))
		if !stable() {
			t.Errorf("%s: not stable", tt.name)
		}
	}
	// A read with FUA brings what is cached to the medium first.
	r = newRig(t, plain(), Disk)
	wantGood(t, "write", r.run(t, "2a 00 00000000 00 0001 00", data, nil))
	wantGood(t, "read", r.run(t, "28 08 00000000 00 0001 00", nil, make([]byte, 512)))
	if !stable() {
		t.Error("READ with FUA left the data in the cache")
	}
	// Turning the cache off and stopping flush as well.
	data = pattern(512, 77)
	wantGood(t, "write", r.run(t, "2a 00 00000000 00 0001 00", data, nil))
	wantGood(t, "stop", r.run(t, "1b 00 00 00 00 00", nil, nil))
	if !stable() {
		t.Error("START STOP UNIT did not flush")
	}
	wantKey(t, "stopped", r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)), 0x020402)
	wantKey(t, "stopped", r.run(t, "00", nil, nil), 0x020402)
	wantGood(t, "start", r.run(t, "1b 00 00 00 01 00", nil, nil))
	wantGood(t, "ready", r.run(t, "00", nil, nil))
}

func TestReadOnly(t *testing.T) {
	i := plain()
	i.ReadOnly = true
	r := newRig(t, i, Disk)
	out := make([]byte, 4096)
	for _, code := range []string{
		"0a 00 0000 01 00", "2a 00 00000000 00 0001 00", "aa 00 00000000 00000001 00 00", "8a 00 0000000000000000 00000001 00 00",
		"2e 00 00000000 00 0001 00", "41 00 00000000 00 0001 00", "93 01 0000000000000000 00000001 00 00",
		"42 00 00000000 00 0018 00", "89 00 0000000000000000 000000 01 00 00",
	} {
		wantKey(t, code, r.run(t, code, out, nil), 0x072700)
	}
	wantGood(t, "read", r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)))
}

func TestDiskErrors(t *testing.T) {
	tests := []struct {
		err         error
		read, write int
	}{
		{blk.ErrMedium, 0x031100, 0x030c00},
		{blk.ErrProtected, 0x072700, 0x072700},
		{blk.ErrRange, 0x052100, 0x052100},
		{blk.ErrMiscompare, 0x0e1d00, 0x0e1d00},
		{blk.ErrFull, 0x072707, 0x072707},
		{blk.ErrAborted, 0x0b4400, 0x0b4400},
		{blk.ErrDevice, 0x044400, 0x044400},
		{blk.ErrRemoved, 0x052500, 0x052500},
		{fmt.Errorf("unheard of"), 0x044400, 0x044400},
	}
	r := newRig(t, plain(), Disk)
	buf := make([]byte, 1024)
	for _, tt := range tests {
		r.disk.Fault(5, tt.err)
		wantKey(t, "read: "+tt.err.Error(), r.run(t, "28 00 00000004 00 0002 00", nil, buf), tt.read)
		wantKey(t, "write: "+tt.err.Error(), r.run(t, "2a 00 00000004 00 0002 00", buf, nil), tt.write)
	}
	r.disk.Fault(5, blk.ErrMedium)
	c := r.run(t, "28 00 00000004 00 0002 00", nil, buf)
	if c.Sense[0] != 0x70 || c.Residual != 1024 {
		t.Errorf("the block is not known: sense %x, residual %d", c.Sense[:c.SenseLen], c.Residual)
	}
	c = r.run(t, "28 00 00000005 00 0001 00", nil, buf)
	golden(t, "INFORMATION", c.Sense[:c.SenseLen], "f0 00 03 00000005 0a 00000000 11 00 00 000000")
	wantKey(t, "VERIFY of a bad block", r.run(t, "2f 00 00000000 00 0010 00", nil, nil), 0x031100)
}
