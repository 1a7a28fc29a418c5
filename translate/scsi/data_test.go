package scsi

import "testing"

// ascii turns text into the hex of golden data.
func ascii(s string) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

// The golden bytes follow the tables of SPC-4 6.6 and 7.8, and SBC-3 6.6.
func TestInquiry(t *testing.T) {
	r := newRig(t, plain(), Disk)
	zeroes := func(n int) string { return ascii(string(make([]byte, n))) }
	tests := []struct{ name, cdb, want string }{
		{"standard", "12 00 00 00 ff 00", "00 00 06 12 5b 00 00 02" + ascii("KEEL    Virtual Disk    0001") + zeroes(22) + "00a0 0460 04c0" + zeroes(32)},
		{"cut", "12 00 00 00 05 00", "00 00 06 12 5b"},
		{"supported pages", "12 01 00 00 ff 00", "00 00 00 07 00 80 83 86 b0 b1 b2"},
		{"serial", "12 01 80 00 ff 00", "00 80 00 08" + ascii("KEEL0001")},
		{"extended", "12 01 86 00 ff 00", "00 86 00 3c 00 01 01 01 00 00 00 00 00 20" + zeroes(50)},
		{"characteristics", "12 01 b1 00 ff 00", "00 b1 00 3c 00 01 00 00 02" + zeroes(55)},
		{"provisioning", "12 01 b2 00 ff 00", "00 b2 00 04 00 e4 02 00"},
		{
			"limits", "12 01 b0 00 ff 00", "00 b0 00 3c 01 ff 00 08 00000000 00000080 00000000 ffffffff 00000100 00000008 80000000 0000000000200000" + zeroes(20),
		},
		{
			"identification", "12 01 83 00 ff 00", "00 83 00 4c 01 03 00 08 35dfbabeedf318bf 02 01 00 28" +
				ascii("KEEL    0102030405060708090a0b0c0d0e0f10") + "61 93 00 08 3a98e1e9748eb541 61 94 00 04 00000001",
		},
	}
	for _, tt := range tests {
		got := r.data(t, tt.cdb)
		golden(t, tt.name, got, tt.want)
	}
	other := plain()
	other.ID[15]++
	a, b := r.data(t, "12 01 83 00 ff 00"), newRig(t, other, Disk).data(t, "12 01 83 00 ff 00")
	if string(a[8:16]) == string(b[8:16]) {
		t.Error("two disks have one identifier")
	}
	wantKey(t, "page code without EVPD", r.run(t, "12 00 80 00 ff 00", nil, make([]byte, 64)), 0x052400)
	wantKey(t, "unknown page", r.run(t, "12 01 c0 00 ff 00", nil, make([]byte, 64)), 0x052400)
}

// A disk with bounds is held to them, and advertises them.
func TestLimits(t *testing.T) {
	i := plain()
	i.BlockSize, i.MaxBlocks, i.MaxZeroes, i.MaxDiscard, i.Optimal = 4096, 16, 100, 50, 1000
	r := newRig(t, i, Disk)
	r.ct.units[0].Load().disk = big{r.disk}
	got := r.data(t, "12 01 b0 00 ff 00")
	golden(t, "limits", got[:44], "00 b0 00 3c 01 10 00 01 00000010 00000010 00000000 0000c800 00000100 00000008 80000000 0000000000019000")
	wantKey(t, "READ of 17 blocks", r.run(t, "28 00 00000000 00 0011 00", nil, make([]byte, 17*4096)), 0x052400)
	wantGood(t, "READ of 16 blocks", r.run(t, "28 00 00000000 00 0010 00", nil, make([]byte, 16*4096)))
	wantKey(t, "WRITE SAME of too many blocks", r.run(t, "93 01 0000000000000000 00019001 00 00", nil, nil), 0x052400)
	wantKey(t, "COMPARE AND WRITE of 17 blocks", r.run(t, "89 00 0000000000000000 000000 11 00 00", make([]byte, 34*4096), nil), 0x052400)
}

func TestCapacity(t *testing.T) {
	r := newRig(t, plain(), Disk)
	golden(t, "READ CAPACITY(10)", r.data(t, "25 00 00000000 00 00 00 00"), "000007ff 00000200")
	golden(t, "READ CAPACITY(16)", r.data(t, "9e 10 0000000000000000 00000020 00 00"),
		"00000000000007ff 00000200 00 03 c000 00000000 00000000 00000000 00000000")
	u := r.ct.units[0].Load()
	u.disk = big{u.disk}
	golden(t, "READ CAPACITY(10) of a big disk", r.data(t, "25 00 00000000 00 00 00 00"), "ffffffff 00000200")
	golden(t, "READ CAPACITY(16) of a big disk", r.data(t, "9e 10 0000000000000000 0000000c 00 00"), "00000001ffffffff 00000200")
	wantKey(t, "LBA without PMI", r.run(t, "25 00 00000001 00 00 00 00", nil, make([]byte, 8)), 0x052400)
}

func TestModeSense(t *testing.T) {
	r := newRig(t, plain(), Disk)
	zeroes := func(n int) string { return ascii(string(make([]byte, n))) }
	caching, control := "08 12 04"+zeroes(17), "0a 0a 00 10 0000 0000 ffff 0000"
	extension := "4a 01 001c 0000 20" + zeroes(25)
	recovery, exceptions := "01 0a"+zeroes(10), "1c 0a 08"+zeroes(9)
	tests := []struct{ name, cdb, want string }{
		{"caching", "1a 08 08 00 ff 00", "17 00 10 00" + caching},
		{"with block descriptor", "1a 00 08 00 ff 00", "1f 00 10 08 00000800 00000200" + caching},
		{"long descriptor", "5a 10 08 00 000000 00ff 00", "002a 00 10 01 00 0010 0000000000000800 00000000 00000200" + caching},
		{"changeable caching", "1a 08 48 00 ff 00", "17 00 10 00 08 12 04" + zeroes(17)},
		{"changeable control", "1a 08 4a 00 ff 00", "0f 00 10 00 0a 0a 04 00 08" + zeroes(7)},
		{"default caching", "1a 08 88 00 ff 00", "17 00 10 00" + caching},
		{"all pages", "1a 08 3f 00 ff 00", "3b 00 10 00" + recovery + caching + control + exceptions},
		{"all pages and subpages", "1a 08 3f ff ff 00", "5b 00 10 00" + recovery + caching + control + extension + exceptions},
		{"control and its subpages", "5a 08 0a ff 000000 00ff 00", "0032 00 10 00 00 0000" + control + extension},
		{"cut", "1a 08 3f 00 04 00", "3b 00 10 00"},
	}
	for _, tt := range tests {
		golden(t, tt.name, r.data(t, tt.cdb), tt.want)
	}
	wantKey(t, "saved values", r.run(t, "1a 08 c8 00 ff 00", nil, make([]byte, 64)), 0x053900)
	wantKey(t, "unknown page", r.run(t, "1a 08 19 00 ff 00", nil, make([]byte, 64)), 0x052400)
	wantKey(t, "unknown subpage", r.run(t, "1a 08 0a 05 ff 00", nil, make([]byte, 64)), 0x052400)

	i := plain()
	i.Volatile, i.ReadOnly = false, true
	ro := newRig(t, i, Disk)
	golden(t, "read-only, no cache", ro.data(t, "1a 08 08 00 ff 00"), "17 00 90 00 08 12 00"+zeroes(17))
	golden(t, "nothing to change", ro.data(t, "1a 08 48 00 ff 00"), "17 00 90 00 08 12 00"+zeroes(17))
}

func TestModeSelect(t *testing.T) {
	r := newRig(t, plain(), Disk)
	list := func(s string) []byte { return raw(t, s) }
	off := list("00 00 00 00 08 12 00" + ascii(string(make([]byte, 17))))
	wantGood(t, "cache off", r.run(t, "15 10 0000 18 00", off, nil))
	if got := r.data(t, "1a 08 08 00 ff 00"); got[6] != 0 {
		t.Errorf("WCE is still set: %x", got)
	}
	wantKey(t, "the other nexus hears of it", r.as(t, 1, "00 00 00 00 00 00", nil, nil), 0x062a01)
	wantGood(t, "and only once", r.as(t, 1, "00 00 00 00 00 00", nil, nil))
	wantGood(t, "not who did it", r.run(t, "00 00 00 00 00 00", nil, nil))

	// Descriptor sense data and software write protection.
	wantGood(t, "control", r.run(t, "55 10 0000000000 0014 00", list("0000000000000000 0a 0a 04 10 08 00 0000 ffff 0000"), nil))
	c := r.run(t, "2a 00 00000000 00 0001 00", make([]byte, 512), nil)
	wantKey(t, "software write protect", c, 0x072702)
	golden(t, "descriptor sense", c.Sense[:c.SenseLen], "72 07 27 02 00 00 00 00")
	c = r.run(t, "28 20 00000000 00 0001 00", nil, make([]byte, 512))
	golden(t, "descriptor sense with field pointer", c.Sense[:c.SenseLen], "72 05 24 00 00 00 00 08 02 06 00 00 cf 00 01 00")
	if got := r.data(t, "1a 08 0a 00 ff 00"); got[2]&deviceWP == 0 {
		t.Errorf("WP is not set: %x", got)
	}

	tests := []struct {
		name, cdb, list string
		want            int
	}{
		{"nothing", "15 10 0000 00 00", "", 0},
		{"no page format", "15 00 0000 04 00", "00000000", 0x052400},
		{"save pages", "15 11 0000 04 00", "00000000", 0x052400},
		{"short header", "15 10 0000 03 00", "000000", 0x051a00},
		{"half a page", "15 10 0000 08 00", "00000000 0812 0000", 0x051a00},
		{"wrong page length", "15 10 0000 18 00", "00000000 0811" + ascii(string(make([]byte, 18))), 0x052600},
		{"bit that cannot change", "15 10 0000 18 00", "00000000 0812 01" + ascii(string(make([]byte, 17))), 0x052600},
		{"unknown page", "15 10 0000 06 00", "00000000 1900", 0x052600},
		{"another block size", "15 10 0000 0c 00", "00000008 00000000 00001000", 0x052600},
		{"the same block size", "15 10 0000 0c 00", "00000008 00000000 00000200", 0},
		{"missing data", "15 10 0000 18 00", "00000000", 0x0b4b00},
	}
	for _, tt := range tests {
		wantKey(t, tt.name, r.run(t, tt.cdb, raw(t, tt.list), nil), tt.want)
	}
}

func TestLogSense(t *testing.T) {
	r := newRig(t, plain(), Disk)
	golden(t, "pages", r.data(t, "4d 00 40 00 00 0000 00ff 00"), "00 00 0002 00 2f")
	golden(t, "pages and subpages", r.data(t, "4d 00 40 ff 00 0000 00ff 00"), "40 ff 0006 0000 00ff 2f00")
	golden(t, "exceptions", r.data(t, "4d 00 6f 00 00 0000 00ff 00"), "2f 00 0008 0000 03 04 00 00 ff 00")
	wantKey(t, "unknown page", r.run(t, "4d 00 4d 00 00 0000 00ff 00", nil, make([]byte, 64)), 0x052400)
	wantKey(t, "unknown subpage", r.run(t, "4d 00 6f 01 00 0000 00ff 00", nil, make([]byte, 64)), 0x052400)
}
