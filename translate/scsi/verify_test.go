package scsi

import (
	"bytes"
	"testing"

	"keel/translate/blk"
)

func TestVerify(t *testing.T) {
	r := newRig(t, plain(), Disk)
	want := pattern(600*512, 3) // more than a buffer
	r.disk.Fill(want)
	for _, code := range []string{"2f 02 00000000 00 0258 00", "af 02 00000000 00000258 00 00", "8f 02 0000000000000000 00000258 00 00"} {
		c := r.run(t, code, want, nil)
		wantGood(t, code, c)
		if c.Residual != 0 {
			t.Errorf("%s: residual %d", code, c.Residual)
		}
		other := bytes.Clone(want)
		other[300*512+7]++
		c = r.run(t, code, other, nil)
		wantKey(t, code, c, 0x0e1d00)
		golden(t, "offset", c.Sense[:7], "f0 00 0e 00025807")
	}
	wantGood(t, "without data", r.run(t, "2f 00 00000000 00 0258 00", nil, nil))
	wantKey(t, "BYTCHK 2", r.run(t, "2f 04 00000000 00 0001 00", want, nil), 0x052400)
	wantKey(t, "BYTCHK 3", r.run(t, "2f 06 00000000 00 0001 00", want, nil), 0x052400)
	wantKey(t, "WRITE AND VERIFY with BYTCHK 2", r.run(t, "2e 04 00000000 00 0001 00", want, nil), 0x052400)
	wantGood(t, "no blocks", r.run(t, "2f 02 00000000 00 0000 00", nil, nil))
}

func TestWriteSame(t *testing.T) {
	for _, zeroes := range []bool{true, false} {
		i := plain()
		i.WriteZeroes, i.MaxZeroes, i.MaxBlocks = zeroes, 100, 64
		r := newRig(t, i, Disk)
		r.disk.Fill(pattern(2048*512, 1))
		block := pattern(512, 50)
		c := r.run(t, "41 00 00000010 00 0190 00", append(block, 1, 2, 3), nil)
		wantGood(t, "pattern", c)
		if c.Residual != 3 {
			t.Errorf("residual %d", c.Residual)
		}
		got := r.disk.Bytes()
		if !bytes.Equal(got[16*512:416*512], bytes.Repeat(block, 400)) {
			t.Error("pattern is not on the disk")
		}
		if !bytes.Equal(got[:16*512], pattern(2048*512, 1)[:16*512]) || !bytes.Equal(got[416*512:], pattern(2048*512, 1)[416*512:]) {
			t.Error("other blocks changed")
		}
		r.disk.Log()
		wantGood(t, "zeroes", r.run(t, "93 00 0000000000000020 0000012c 00 00", make([]byte, 512), nil))
		wantGood(t, "NDOB", r.run(t, "93 01 0000000000000200 0000012c 00 00", nil, nil))
		got = r.disk.Bytes()
		if !bytes.Equal(got[32*512:332*512], make([]byte, 300*512)) || !bytes.Equal(got[512*512:812*512], make([]byte, 300*512)) {
			t.Error("no zeroes on the disk")
		}
		want := map[bool]map[blk.Op]int{true: {blk.OpWriteZeroes: 6}, false: {blk.OpWrite: 10}}[zeroes]
		have := map[blk.Op]int{}
		for _, op := range r.disk.Log() {
			have[op]++
		}
		for op, n := range want {
			if have[op] != n || len(have) != 1 {
				t.Errorf("requests %v, want %v", have, want)
			}
		}
		unmap := 0
		if !zeroes {
			unmap = 0x052400
		}
		wantKey(t, "UNMAP", r.run(t, "93 09 0000000000000000 00000001 00 00", nil, nil), unmap)
		wantKey(t, "ANCHOR", r.run(t, "93 10 0000000000000000 00000001 00 00", block, nil), 0x052400)
		wantKey(t, "LBDATA", r.run(t, "41 02 00000000 00 0001 00", block, nil), 0x052400)
		wantKey(t, "no blocks", r.run(t, "41 00 00000000 00 0000 00", block, nil), 0x052400)
		wantKey(t, "beyond the end", r.run(t, "41 00 000007ff 00 0002 00", block, nil), 0x052100)
	}
}

func TestUnmap(t *testing.T) {
	i := plain()
	i.MaxRanges, i.MaxDiscard = 2, 50
	r := newRig(t, i, Disk)
	r.disk.Fill(pattern(2048*512, 1))
	want := pattern(2048*512, 1)
	list := raw(t, "004e 0040 00000000"+
		"0000000000000008 00000010 00000000"+ // 8 to 24
		"0000000000000100 00000078 00000000"+ // 120 blocks: three pieces
		"0000000000000300 00000000 00000000"+ // none
		"0000000000000400 00000001 00000000")
	r.disk.Log()
	wantGood(t, "UNMAP", r.run(t, "42 00 00000000 00 0048 00", list, nil))
	clear(want[8*512 : 24*512])
	clear(want[256*512 : 376*512])
	clear(want[1024*512 : 1025*512])
	if !bytes.Equal(r.disk.Bytes(), want) {
		t.Error("wrong blocks were discarded")
	}
	if n := len(r.disk.Log()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	tests := []struct {
		name, cdb, list string
		want            int
	}{
		{"nothing", "42 00 00000000 00 0000 00", "", 0},
		{"header only", "42 00 00000000 00 0008 00", "0006 0000 00000000", 0},
		{"short header", "42 00 00000000 00 0007 00", "0006 0000 000000", 0x051a00},
		{"ANCHOR", "42 01 00000000 00 0008 00", "0006 0000 00000000", 0x052400},
		{"beyond the end", "42 00 00000000 00 0018 00", "0016 0010 00000000 00000000000007ff 00000002 00000000", 0x052100},
		{"overflow", "42 00 00000000 00 0018 00", "0016 0010 00000000 ffffffffffffffff ffffffff 00000000", 0x052100},
		{"too many descriptors", "42 00 00000000 00 0018 00", "0016 1010 00000000 0000000000000000 00000001 00000000", 0x052600},
		{"missing data", "42 00 00000000 00 0018 00", "0016 0010 00000000", 0x0b4b00},
	}
	for _, tt := range tests {
		wantKey(t, tt.name, r.run(t, tt.cdb, raw(t, tt.list), nil), tt.want)
	}
	// One descriptor out of range: none takes effect.
	r.disk.Fill(pattern(2048*512, 1))
	wantKey(t, "second is wrong", r.run(t, "42 00 00000000 00 0028 00", raw(t, "0026 0020 00000000 0000000000000000 00000008 00000000 0000000000000800 00000001 00000000"), nil), 0x052100)
	if !bytes.Equal(r.disk.Bytes(), pattern(2048*512, 1)) {
		t.Error("a refused UNMAP discarded blocks")
	}
	i.Discard = false
	none := newRig(t, i, Disk)
	wantKey(t, "not supported", none.run(t, "42 00 00000000 00 0008 00", raw(t, "0006 0000 00000000"), nil), 0x052000)
}

func TestCompareAndWrite(t *testing.T) {
	r := newRig(t, plain(), Disk)
	old, fresh := pattern(1024, 1), pattern(1024, 2)
	r.disk.Fill(append(make([]byte, 5*512), old...))
	code := "89 00 0000000000000005 000000 02 00 00"
	c := r.run(t, code, append(bytes.Clone(old), fresh...), nil)
	wantGood(t, "equal", c)
	if c.Residual != 0 || !bytes.Equal(r.disk.Bytes()[5*512:7*512], fresh) {
		t.Errorf("not written; residual %d", c.Residual)
	}
	c = r.run(t, code, append(bytes.Clone(old), old...), nil)
	wantKey(t, "different", c, 0x0e1d00)
	golden(t, "offset", c.Sense[:7], "f0 00 0e 00000000")
	almost := bytes.Clone(fresh)
	almost[1000]++
	c = r.run(t, code, append(almost, old...), nil)
	golden(t, "offset", c.Sense[:7], "f0 00 0e 000003e8")
	if !bytes.Equal(r.disk.Bytes()[5*512:7*512], fresh) {
		t.Error("written in spite of a difference")
	}
	wantGood(t, "no blocks", r.run(t, "89 00 0000000000000005 000000 00 00 00", nil, nil))
	if c := r.run(t, code, make([]byte, 1024), nil); !c.Overrun {
		t.Error("half of the data was enough")
	}
}
