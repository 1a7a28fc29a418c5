package scsi

import (
	"bytes"
	"testing"
)

// TestTable checks what op cannot say by itself: maps that decode, CDB lengths that
// fit the group of the code, service actions in their place.
func TestTable(t *testing.T) {
	lengths := [8]uint8{6, 10, 10, 0, 16, 12, 0, 0} // SPC-4, table 24
	for i := range operations {
		o := &operations[i]
		if want := lengths[o.opcode>>5]; o.length != want {
			t.Errorf("%#x/%#x: %d bytes, want %d", o.opcode, o.action, o.length, want)
			continue
		}
		if o.usage[o.length-1]&controlNACA == 0 {
			t.Errorf("%#x/%#x: no control byte", o.opcode, o.action)
		}
		if o.run == nil || o.kinds == 0 || o.seconds == 0 {
			t.Errorf("%#x/%#x: incomplete", o.opcode, o.action)
		}
		c := o.usage
		u := &unit{kind: kindOf(o), disk: newDisk(), block: 512, scale: 1}
		if got, _ := u.lookup(&c); got != o {
			t.Errorf("%#x/%#x is not found by its own CDB", o.opcode, o.action)
		}
	}
}

func kindOf(o *operation) Kind {
	for k := range Kind(4) {
		if o.kinds>>k&1 != 0 {
			return k
		}
	}
	return 0
}

// TestReportOpcodes follows SPC-4 6.35.
func TestReportOpcodes(t *testing.T) {
	r := newRig(t, plain(), Disk)
	b := r.data(t, "a3 0c 00 00 0000 0000ffff 00 00")
	if n := int(be.Uint32(b)); n != len(b)-4 || n%8 != 0 {
		t.Fatalf("%d bytes announced, %d sent", n, len(b)-4)
	}
	seen := map[[2]byte]bool{}
	for d := b[4:]; len(d) > 0; d = d[8:] {
		id := [2]byte{d[0], d[3]}
		if seen[id] {
			t.Errorf("%x is listed twice", id)
		}
		seen[id] = true
		if service := d[5]&1 != 0; service != (d[0] == 0x5e || d[0] == 0x5f || d[0] == 0x9e || d[0] == 0xa3) {
			t.Errorf("%x: SERVACTV %v", id, service)
		}
	}
	for _, must := range [][2]byte{{0x00, 0}, {0x03, 0}, {0x12, 0}, {0x25, 0}, {0x28, 0}, {0x42, 0}, {0x93, 0}, {0x9e, 0x10}, {0xa0, 0}, {0xa3, 0x0c}, {0x5f, 0x05}} {
		if !seen[must] {
			t.Errorf("%x is missing", must)
		}
	}
	if seen[[2]byte{0x43, 0}] {
		t.Error("a disk lists READ TOC")
	}
	timed := r.data(t, "a3 0c 80 00 0000 0000ffff 00 00")
	if len(timed)-4 != (len(b)-4)/8*20 {
		t.Errorf("%d bytes with time-outs, %d without", len(timed), len(b))
	}
	golden(t, "TEST UNIT READY with time-outs", timed[4:24], "00 00 0000 00 02 0006 000a 00 00 00000000 0000000a")

	tests := []struct{ name, cdb, want string }{
		{"READ(10)", "a3 0c 01 28 0000 000000ff 00 00", "00 03 000a 28 f8 ffffffff 00 ffff 04"},
		{"READ(10), option 3", "a3 0c 03 28 0000 000000ff 00 00", "00 03 000a 28 f8 ffffffff 00 ffff 04"},
		{"READ(10), option 3, service action", "a3 0c 03 28 0001 000000ff 00 00", "00 01 0000"},
		{"READ CAPACITY(16)", "a3 0c 02 9e 0010 000000ff 00 00", "00 03 0010 9e 10 ffffffffffffffff ffffffff 01 04"},
		{"READ CAPACITY(16), option 3", "a3 0c 03 9e 0010 000000ff 00 00", "00 03 0010 9e 10 ffffffffffffffff ffffffff 01 04"},
		{"no such service action", "a3 0c 02 9e 0011 000000ff 00 00", "00 01 0000"},
		{"service action out of range", "a3 0c 02 9e 0110 000000ff 00 00", "00 01 0000"},
		{"no such code", "a3 0c 01 c5 0000 000000ff 00 00", "00 01 0000"},
		{"WRITE SAME(16) with time-outs", "a3 0c 81 93 0000 000000ff 00 00", "00 83 0010 93 ff ffffffffffffffff ffffffff 00 04 000a 00 00 00000000 00000078"},
	}
	for _, tt := range tests {
		golden(t, tt.name, r.data(t, tt.cdb), tt.want)
	}
	for _, code := range []string{
		"a3 0c 01 9e 0000 000000ff 00 00", // a code with service actions
		"a3 0c 02 28 0000 000000ff 00 00", // one without
		"a3 0c 04 28 0000 000000ff 00 00",
	} {
		wantKey(t, code, r.run(t, code, nil, make([]byte, 255)), 0x052400)
	}
	golden(t, "task management", r.data(t, "a3 0d 00 00 0000 000000ff 00 00"), "dc 03 00 00")
	golden(t, "extended", r.data(t, "a3 0d 80 00 0000 000000ff 00 00")[:4], "dc 03 00 0c")
}

// TestReportLUNs follows SPC-4 6.33, also where there is no LUN 0.
func TestReportLUNs(t *testing.T) {
	r := newRig(t, plain(), Disk)
	for _, lun := range []uint16{63, 5} {
		if err := r.ct.Add(lun, Disk, newDisk()); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "all", r.data(t, "a0 00 00 000000 00001000 00 00"), "00000018 00000000 0000000000000000 0005000000000000 003f000000000000")
	golden(t, "well known", r.data(t, "a0 00 01 000000 00001000 00 00"), "00000008 00000000 c101000000000000")
	golden(t, "both, cut", r.data(t, "a0 00 02 000000 00000010 00 00"), "00000020 00000000 0000000000000000")
	wantKey(t, "unknown selection", r.run(t, "a0 00 10 000000 00001000 00 00", nil, make([]byte, 64)), 0x052400)
	if err := r.ct.Remove(0); err != nil {
		t.Fatal(err)
	}
	golden(t, "through an absent LUN 0", r.data(t, "a0 00 00 000000 00001000 00 00"), "00000010 00000000 0005000000000000 003f000000000000")
	if got := r.data(t, "12 00 00 00 60 00"); got[0] != 0x7f {
		t.Errorf("INQUIRY of an absent LUN: %x", got[:1])
	}
	golden(t, "REQUEST SENSE of an absent LUN", r.data(t, "03 00 00 00 ff 00"), "70 00 05 00000000 0a 00000000 25 00 00 000000")
	wantKey(t, "READ from an absent LUN", r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)), 0x052500)
	wantKey(t, "TEST UNIT READY of an absent LUN", r.run(t, "00", nil, nil), 0x052500)
	if n := len(r.ct.LUNs()); n != 2 {
		t.Errorf("%d LUNs", n)
	}

	in := make([]byte, 96)
	c, done := r.start(t, 0, ReportLUNs, "12 00 00 00 60 00", nil, in)
	<-done
	wantGood(t, "INQUIRY of the well known LUN", c)
	if in[0] != 0x1e {
		t.Errorf("peripheral %#x", in[0])
	}
	c, done = r.start(t, 0, ReportLUNs, "28 00 00000000 00 0001 00", nil, in)
	<-done
	wantKey(t, "READ from the well known LUN", c, 0x052000)
	c, done = r.start(t, 0, 64, "00", nil, nil)
	<-done
	wantKey(t, "LUN out of range", c, 0x052500)
	c, done = r.start(t, MaxInitiators, 5, "00", nil, nil)
	<-done
	wantKey(t, "initiator out of range", c, 0x044400)
}

func TestRequestSense(t *testing.T) {
	r := newRig(t, plain(), Disk)
	golden(t, "nothing", r.data(t, "03 00 00 00 ff 00"), "70 00 00 00000000 0a 00000000 00 00 00 000000")
	golden(t, "nothing, descriptors", r.data(t, "03 01 00 00 ff 00"), "72 00 00 00 00000000")
	r.ct.units[0].Load().attend(0, attentionCapacity)
	got := r.data(t, "03 00 00 00 ff 00")
	if !bytes.Equal(got[2:3], []byte{6}) || !bytes.Equal(got[12:14], []byte{0x2a, 9}) {
		t.Errorf("unit attention: %x", got)
	}
	wantGood(t, "it is cleared", r.run(t, "00", nil, nil))
}
