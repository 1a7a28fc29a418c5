package scsi

import (
	"fmt"
	"testing"
)

// prout builds PERSISTENT RESERVE OUT and its parameter list.
func (r *rig) prout(t *testing.T, initiator uint8, action, kind uint8, key, sark uint64) *Command {
	t.Helper()
	list := make([]byte, prParamLength)
	be.PutUint64(list, key)
	be.PutUint64(list[8:], sark)
	return r.as(t, initiator, fmt.Sprintf("5f %02x %02x 0000 00000018 00", action, kind), list, nil)
}

const conflict = -int(StatusReservationConflict)

// TestConflictTable goes through SPC-4 table 65, SBC-3 table 11 row by row. The
// columns: write exclusive and exclusive access from any other nexus; all types for
// registrants from a registered nexus; their two kinds from one that is not.
func TestConflictTable(t *testing.T) {
	const (
		allowed = "AAAAA"
		reads   = "ACAAC"
		writes  = "CCACC"
	)
	rows := []struct{ name, cdb, want string }{
		{"INQUIRY", "12 00 00 00 60 00", allowed},
		{"LOG SENSE", "4d 00 40 00 00 0000 00ff 00", allowed},
		{"MODE SELECT(6)", "15 10 0000 00 00", writes},
		{"MODE SELECT(10)", "55 10 0000000000 0000 00", writes},
		{"MODE SENSE(6)", "1a 08 08 00 ff 00", reads},
		{"MODE SENSE(10)", "5a 08 08 00 000000 00ff 00", reads},
		{"PERSISTENT RESERVE IN", "5e 00 0000000000 00ff 00", allowed},
		{"PREVENT ALLOW MEDIUM REMOVAL, 0", "1e 00 00 00 00 00", allowed},
		{"PREVENT ALLOW MEDIUM REMOVAL, 1", "1e 00 00 00 01 00", writes},
		{"REPORT LUNS", "a0 00 00 000000 00001000 00 00", allowed},
		{"REPORT SUPPORTED OPERATION CODES", "a3 0c 00 00 0000 0000ffff 00 00", reads},
		{"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", "a3 0d 00 00 0000 0000ffff 00 00", reads},
		{"REQUEST SENSE", "03 00 00 00 ff 00", allowed},
		{"TEST UNIT READY", "00 00 00 00 00 00", allowed},
		{"COMPARE AND WRITE", "89 00 0000000000000000 000000 00 00 00", writes},
		{"READ(6)", "08 00 0000 01 00", reads},
		{"READ(10)", "28 00 00000000 00 0000 00", reads},
		{"READ(12)", "a8 00 00000000 00000000 00 00", reads},
		{"READ(16)", "88 00 0000000000000000 00000000 00 00", reads},
		{"READ CAPACITY(10)", "25 00 00000000 00 00 00 00", allowed},
		{"READ CAPACITY(16)", "9e 10 0000000000000000 00000020 00 00", allowed},
		{"START STOP UNIT, START", "1b 00 00 00 01 00", allowed},
		{"START STOP UNIT, stop", "1b 00 00 00 04 00", writes},
		{"START STOP UNIT, start again", "1b 00 00 00 01 00", allowed},
		{"SYNCHRONIZE CACHE(10)", "35 00 00000000 00 0000 00", writes},
		{"SYNCHRONIZE CACHE(16)", "91 00 0000000000000000 00000000 00 00", writes},
		{"UNMAP", "42 00 00000000 00 0000 00", writes},
		{"VERIFY(10)", "2f 00 00000000 00 0000 00", reads},
		{"VERIFY(12)", "af 00 00000000 00000000 00 00", reads},
		{"VERIFY(16)", "8f 00 0000000000000000 00000000 00 00", reads},
		{"WRITE(6)", "0a 00 0000 01 00", writes},
		{"WRITE(10)", "2a 00 00000000 00 0000 00", writes},
		{"WRITE(12)", "aa 00 00000000 00000000 00 00", writes},
		{"WRITE(16)", "8a 00 0000000000000000 00000000 00 00", writes},
		{"WRITE AND VERIFY(10)", "2e 00 00000000 00 0000 00", writes},
		{"WRITE AND VERIFY(12)", "ae 00 00000000 00000000 00 00", writes},
		{"WRITE AND VERIFY(16)", "8e 00 0000000000000000 00000000 00 00", writes},
		{"WRITE SAME(10)", "41 00 00000000 00 0001 00", writes},
		{"WRITE SAME(16)", "93 01 0000000000000000 00000001 00 00", writes},
	}
	// Nexus 1 holds it, nexus 2 is registered where "from" says so, nexus 3 is not.
	columns := []struct {
		kinds []uint8
		from  []uint8
	}{
		{[]uint8{prWriteExclusive}, []uint8{2, 3}},
		{[]uint8{prExclusiveAccess}, []uint8{2, 3}},
		{[]uint8{prWriteExclusiveRO, prExclusiveAccessRO, prWriteExclusiveAR, prExclusiveAccessAR}, []uint8{2}},
		{[]uint8{prWriteExclusiveRO, prWriteExclusiveAR}, []uint8{3}},
		{[]uint8{prExclusiveAccessRO, prExclusiveAccessAR}, []uint8{3}},
	}
	for _, kind := range []uint8{1, 3, 5, 6, 7, 8} {
		r := newRig(t, plain(), Disk)
		wantGood(t, "register", r.prout(t, 1, saRegister, 0, 0, 11))
		wantGood(t, "register", r.prout(t, 2, saRegister, 0, 0, 22))
		wantGood(t, "reserve", r.prout(t, 1, saReserve, kind, 11, 0))
		for _, row := range rows {
			for n, column := range columns {
				for _, k := range column.kinds {
					if k != kind {
						continue
					}
					for _, from := range column.from {
						got := r.as(t, from, row.cdb, make([]byte, 1024), make([]byte, 65536)).Status
						if (got == StatusReservationConflict) != (row.want[n] == 'C') {
							t.Errorf("%s, type %d, from nexus %d: status %#x, the table says %c", row.name, kind, from, got, row.want[n])
						}
						r.calm()
					}
				}
			}
			if got := r.as(t, 1, row.cdb, make([]byte, 1024), make([]byte, 65536)).Status; got != StatusGood {
				t.Errorf("%s, type %d, from the holder: status %#x", row.name, kind, got)
			}
			r.calm()
		}
	}
	for i := range operations {
		o := &operations[i]
		if o.kinds&onDisk == 0 || o.opcode == opPersistentReserveIn || o.opcode == opPersistentReserveOut {
			continue
		}
		found := false
		for _, row := range rows {
			c := cdb(t, row.cdb)
			if found = c[0] == o.opcode && (!o.service || c[1]&saMask == o.action); found {
				break
			}
		}
		if !found {
			t.Errorf("%#x/%#x is in no row", o.opcode, o.action)
		}
	}
}

// TestReserveOut walks through the service actions (SPC-4, 5.13).
func TestReserveOut(t *testing.T) {
	r := newRig(t, plain(), Disk)
	step := func(name string, initiator, action, kind uint8, key1, key2 uint64, want int) {
		t.Helper()
		wantKey(t, name, r.prout(t, initiator, action, kind, key1, key2), want)
	}
	attention := func(name string, initiator uint8, want int) {
		t.Helper()
		wantKey(t, name, r.as(t, initiator, "00", nil, nil), want)
	}
	keys := func(want string) {
		t.Helper()
		golden(t, "keys", r.data(t, "5e 00 0000000000 00ff 00"), want)
	}
	reservation := func(want string) {
		t.Helper()
		golden(t, "reservation", r.data(t, "5e 01 0000000000 00ff 00"), want)
	}
	keys("00000000 00000000")
	step("reserve unregistered", 1, saReserve, 1, 0, 0, conflict)
	step("register with a key that is none", 1, saRegister, 0, 5, 11, conflict)
	step("register nothing", 1, saRegister, 0, 0, 0, 0)
	step("register", 1, saRegister, 0, 0, 11, 0)
	step("register and ignore", 2, saRegisterIgnore, 0, 99, 22, 0)
	step("register", 3, saRegister, 0, 0, 22, 0)
	keys("00000003 00000018 000000000000000b 0000000000000016 0000000000000016")
	step("change with the wrong key", 1, saRegister, 0, 12, 13, conflict)
	step("change", 1, saRegister, 0, 11, 13, 0)
	step("change back", 1, saRegisterIgnore, 0, 0, 11, 0)

	step("unknown type", 1, saReserve, 2, 11, 0, 0x052400)
	step("unknown scope", 1, saReserve, 0x11, 11, 0, 0x052400)
	step("wrong key", 1, saReserve, 5, 12, 0, conflict)
	step("reserve", 1, saReserve, 5, 11, 0, 0)
	step("reserve again", 1, saReserve, 5, 11, 0, 0)
	step("reserve with another type", 1, saReserve, 6, 11, 0, conflict)
	step("reserve what is reserved", 2, saReserve, 5, 22, 0, conflict)
	reservation("00000005 00000010 000000000000000b 00000000 00 05 0000")
	step("release by another", 2, saRelease, 5, 22, 0, 0)
	reservation("00000005 00000010 000000000000000b 00000000 00 05 0000")
	step("release of the wrong type", 1, saRelease, 6, 11, 0, 0x052604)
	step("release", 1, saRelease, 5, 11, 0, 0)
	attention("registrants hear of it", 2, 0x062a04)
	attention("who released does not", 1, 0)
	attention("strangers do not", 4, 0)
	r.calm()
	reservation("00000005 00000000")

	// Unregistering ends the reservation.
	step("reserve", 1, saReserve, 6, 11, 0, 0)
	step("unregister", 1, saRegister, 0, 11, 0, 0)
	attention("registrants hear of it", 3, 0x062a04)
	r.calm()
	reservation("00000006 00000000")

	// All registrants hold it, until the last one has gone.
	step("register", 1, saRegister, 0, 0, 11, 0)
	step("reserve for all", 1, saReserve, 7, 11, 0, 0)
	step("another holder", 2, saReserve, 7, 22, 0, 0)
	reservation("00000007 00000010 0000000000000000 00000000 00 07 0000")
	step("unregister the first", 1, saRegister, 0, 11, 0, 0)
	reservation("00000008 00000010 0000000000000000 00000000 00 07 0000")
	step("preempt all registrants", 2, saPreempt, 3, 22, 0, 0)
	reservation("00000009 00000010 0000000000000016 00000000 00 03 0000")
	keys("00000009 00000008 0000000000000016")
	attention("nexus 3 lost its registration", 3, 0x062a05)
	r.calm()

	// PREEMPT of the holder, and of a registration.
	step("register", 1, saRegister, 0, 0, 11, 0)
	step("register", 3, saRegister, 0, 0, 33, 0)
	step("preempt nobody", 1, saPreempt, 1, 11, 77, conflict)
	step("preempt key 0", 1, saPreempt, 1, 11, 0, 0x052600)
	step("preempt a registration", 1, saPreempt, 1, 11, 33, 0)
	attention("it is told", 3, 0x062a05)
	reservation("0000000c 00000010 0000000000000016 00000000 00 03 0000")
	step("preempt the holder", 1, saPreempt, 1, 11, 22, 0)
	attention("it is told", 2, 0x062a05)
	reservation("0000000d 00000010 000000000000000b 00000000 00 01 0000")
	step("register", 2, saRegister, 0, 0, 22, 0)
	step("clear by a stranger", 3, saClear, 0, 0, 0, conflict)
	step("clear", 2, saClear, 0, 22, 0, 0)
	attention("the holder is told", 1, 0x062a03)
	keys("0000000f 00000000")
	reservation("0000000f 00000000")
}

func TestReserveParameters(t *testing.T) {
	r := newRig(t, plain(), Disk)
	list := make([]byte, 24)
	wantKey(t, "wrong length", r.run(t, "5f 00 00 0000 00000017 00", list, nil), 0x051a00)
	wantKey(t, "missing data", r.run(t, "5f 00 00 0000 00000018 00", list[:20], nil), 0x0b4b00)
	for _, flag := range []byte{prParamAPTPL, prParamAllTargets, prParamSpecIPT} {
		list[20] = flag
		wantKey(t, "flag", r.run(t, "5f 00 00 0000 00000018 00", list, nil), 0x052600)
	}
	wantKey(t, "unknown service action", r.run(t, "5f 09 00 0000 00000018 00", list, nil), 0x052400)
	wantKey(t, "unknown service action", r.run(t, "5e 09 0000000000 00ff 00", nil, list), 0x052400)
	golden(t, "capabilities", r.data(t, "5e 02 0000000000 00ff 00"), "0008 00 80 ea01 0000")
}

func TestReadFullStatus(t *testing.T) {
	r := newRig(t, plain(), Disk)
	wantGood(t, "register", r.prout(t, 0, saRegister, 0, 0, 1))
	wantGood(t, "register", r.prout(t, 9, saRegister, 0, 0, 2))
	wantGood(t, "reserve", r.prout(t, 9, saReserve, 3, 2, 0))
	b := r.data(t, "5e 03 0000000000 00ff 00")
	if len(b) != 8+2*48 {
		t.Fatalf("%d bytes: %x", len(b), b)
	}
	golden(t, "not the holder", b[8:36], "0000000000000001 00000000 00 00 00000000 0001 00000018 06 000000")
	golden(t, "the holder", b[56:84], "0000000000000002 00000000 01 03 00000000 0001 00000018 06 000000")
}

// TestPreemptAndAbort ends the commands of who was preempted first.
func TestPreemptAndAbort(t *testing.T) {
	r := newRig(t, plain(), Disk)
	wantGood(t, "register", r.prout(t, 1, saRegister, 0, 0, 11))
	wantGood(t, "register", r.prout(t, 2, saRegister, 0, 0, 22))
	r.disk.Hold()
	victim, victimDone := r.start(t, 2, 0, "2a 00 00000000 00 0001 00", make([]byte, 512), nil)
	other, otherDone := r.start(t, 3, 0, "2a 00 00000008 00 0001 00", make([]byte, 512), nil)
	wantGood(t, "preempt and abort", r.prout(t, 1, saPreemptAbort, 1, 11, 22))
	<-victimDone
	if victim.Ending != Aborted {
		t.Errorf("ending %d", victim.Ending)
	}
	if ended(otherDone) {
		t.Error("another nexus's command was aborted")
	}
	r.disk.Release(false)
	<-otherDone
	wantGood(t, "other", other)
}
