package scsi

import (
	"bytes"
	"testing"

	"keel/translate/blk"
)

// dvdInfo is an image of 100 blocks of a disc, and a bit.
func dvdInfo() blk.Info {
	return blk.Info{Blocks: 402, BlockSize: 512, ReadOnly: true, MaxBlocks: 70, ID: [16]byte{9}}
}

// The golden bytes follow MMC-6 clauses 5 and 6.
func TestDVD(t *testing.T) {
	r := newRig(t, dvdInfo(), DVD)
	image := pattern(402*512, 5)
	r.disk.Fill(image)
	inquiry := r.data(t, "12 00 00 00 60 00")
	golden(t, "INQUIRY", inquiry[:36], "05 80 06 12 5b 00 00 02"+ascii("KEEL    Virtual DVD     0001"))
	golden(t, "pages", r.data(t, "12 01 00 00 ff 00"), "05 00 0004 00 80 83 86")
	golden(t, "READ CAPACITY", r.data(t, "25"), "00000063 00000800")
	for _, code := range []string{"28 00 0000000a 00 0003 00", "a8 00 0000000a 00000003 00 00", "28 e0 0000000a 00 0003 00"} {
		got := make([]byte, 3*2048)
		wantGood(t, code, r.run(t, code, nil, got))
		if !bytes.Equal(got, image[10*2048:13*2048]) {
			t.Errorf("%s: wrong data", code)
		}
	}
	wantKey(t, "beyond the end", r.run(t, "28 00 00000064 00 0001 00", nil, make([]byte, 2048)), 0x052100)
	got := make([]byte, 50*2048) // in pieces, since the disk takes 70 blocks at most
	wantGood(t, "more than the disk takes", r.run(t, "28 00 00000005 00 0032 00", nil, got))
	if !bytes.Equal(got, image[5*2048:55*2048]) {
		t.Error("long READ: wrong data")
	}
	wantKey(t, "WRITE(10)", r.run(t, "2a 00 00000000 00 0001 00", make([]byte, 2048), nil), 0x052000)
	wantKey(t, "READ(16)", r.run(t, "88", nil, nil), 0x052000)

	tests := []struct{ name, cdb, want string }{
		{"TOC", "43 00 00 000000 00 00ff 00", "0012 01 01 00 14 01 00 00000000 00 14 aa 00 00000064"},
		{"TOC, MSF", "43 02 00 000000 00 00ff 00", "0012 01 01 00 14 01 00 00000200 00 14 aa 00 00000319"},
		{"TOC from the lead-out", "43 00 00 000000 aa 00ff 00", "000a 01 01 00 14 aa 00 00000064"},
		{"sessions", "43 00 01 000000 00 00ff 00", "000a 01 01 00 14 01 00 00000000"},
		{"sessions, old format", "43 00 00 000000 00 00ff 40", "000a 01 01 00 14 01 00 00000000"},
		{"disc information", "51 00 00000000 00 00ff 00", "0020 0e 01 01 01 01 20 00000000 00000000 ffffffffffffffff 000000000000000000 00"},
		{"mechanism status", "bd 00 00000000 0000 00ff 00 00", "00 00 000000 00 0000"},
		{"media event, none", "4a 01 0000 10 0000 00ff 00", "0006 04 10 00 02 00 00"},
		{"no class", "4a 01 0000 02 0000 00ff 00", "0002 80 10"},
		{"one feature", "46 02 0003 000000 00ff 00", "0000000c 0000 0008 0003 03 04 29 000000"},
		{"current features from 10h on", "46 01 0010 000000 00ff 00", "00000018 0000 0008 0010 01 08 00000800 0001 00 00 001e 09 04 00000000"},
		{"capabilities", "5a 08 2a 00 000000 00ff 00", "001c 00 00 00 00 0000 2a 14 08 00 40 00 29 00 5690 0000 0080 5690 0000 0000 0000"},
	}
	for _, tt := range tests {
		golden(t, tt.name, r.data(t, tt.cdb), tt.want)
	}
	if got := r.data(t, "43 00 02 000000 00 00ff 00"); len(got) != 4+4*11 || int(be.Uint16(got)) != len(got)-2 {
		t.Errorf("full TOC: %x", got)
	}
	wantKey(t, "TOC of track 2", r.run(t, "43 00 00 000000 02 00ff 00", nil, make([]byte, 64)), 0x052400)
	wantKey(t, "unknown TOC format", r.run(t, "43 00 05 000000 00 00ff 00", nil, make([]byte, 64)), 0x052400)
	wantKey(t, "asynchronous events", r.run(t, "4a 00 0000 10 0000 00ff 00", nil, make([]byte, 64)), 0x052400)
}

// TestTray ejects, loads and locks.
func TestTray(t *testing.T) {
	r := newRig(t, dvdInfo(), DVD)
	eject, load := "1b 00 00 00 02 00", "1b 00 00 00 03 00"
	wantGood(t, "lock", r.run(t, "1e 00 00 00 01 00", nil, nil))
	wantKey(t, "locked", r.run(t, eject, nil, nil), 0x055302)
	wantGood(t, "unlock", r.run(t, "1e 00 00 00 00 00", nil, nil))
	wantGood(t, "eject", r.run(t, eject, nil, nil))
	wantKey(t, "open", r.run(t, "00", nil, nil), 0x023a02)
	wantKey(t, "open", r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 2048)), 0x023a02)
	golden(t, "event", r.data(t, "4a 01 0000 10 0000 00ff 00"), "0006 04 10 03 01 00 00")
	golden(t, "no profile", r.data(t, "46 02 0000 000000 0008 00"), "00000010 0000 0000")
	wantGood(t, "load", r.run(t, load, nil, nil))
	golden(t, "event", r.data(t, "4a 01 0000 10 0000 00ff 00"), "0006 04 10 02 02 00 00")
	wantKey(t, "medium changed", r.run(t, "00", nil, nil), 0x062800)
	wantGood(t, "ready", r.run(t, "00", nil, nil))
	wantGood(t, "load again", r.run(t, load, nil, nil))
	wantGood(t, "nothing happened", r.run(t, "00", nil, nil))

	// The image goes away: the drive stays, empty.
	r.takeEvents()
	r.disk.Remove()
	if e := r.takeEvents(); len(e) != 1 || e[0].Kind != MediumChanged {
		t.Errorf("events %v", e)
	}
	wantKey(t, "empty", r.run(t, "00", nil, nil), 0x023a00)
	golden(t, "event", r.data(t, "4a 01 0000 10 0000 00ff 00"), "0006 04 10 03 00 00 00")
}

func TestProfile(t *testing.T) {
	i := dvdInfo()
	r := newRig(t, i, DVD)
	r.ct.units[0].Load().disk = big{r.disk}
	golden(t, "DVD-ROM", r.data(t, "46 02 001f 000000 00ff 00"), "00000008 0000 0010 001f 01 00")
}
