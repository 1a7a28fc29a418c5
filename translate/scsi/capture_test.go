package scsi

import (
	"bytes"
	"testing"

	"keel/translate/blk"
	"keel/translate/tap"
)

func TestCapture(t *testing.T) {
	r := newRig(t, plain(), Disk)
	data := pattern(1024, 3)
	ring := tap.New(1, 16)
	r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)) // before
	if !r.ct.Capture(0, ring.Tap(0)) || r.ct.Capture(1, ring.Tap(0)) || r.ct.Capture(MaxLUNs, nil) {
		t.Fatal("there is logical unit 0 and no other")
	}
	r.run(t, "2a 00 00000005 00 0002 00", data, nil)
	r.run(t, "28 00 00000005 00 0001 00", nil, make([]byte, 700))
	r.disk.Fault(9, blk.ErrMedium)
	failed := r.run(t, "28 00 00000009 00 0001 00", nil, make([]byte, 512))
	r.disk.Hold()
	_, done := r.start(t, 0, 0, "28 00 00000000 00 0001 00", nil, make([]byte, 512))
	r.ct.Capture(0, nil)
	r.disk.Release(false)
	<-done
	r.run(t, "28 00 00000000 00 0001 00", nil, make([]byte, 512)) // after
	var b tap.Batch
	ring.Take(&b)
	want := []struct {
		kind         tap.Kind
		code         string
		in, out, res uint64
		status       Status
		data         []byte
	}{
		{tap.SCSICommand, "2a 00 00000005 00 0002 00", 0, 1024, 0, 0, data[:16]},
		{tap.SCSIStatus, "", 0, 0, 0, StatusGood, nil},
		{tap.SCSICommand, "28 00 00000005 00 0001 00", 700, 0, 0, 0, nil},
		{tap.SCSIStatus, "", 512, 0, 188, StatusGood, data[:16]},
		{tap.SCSICommand, "28 00 00000009 00 0001 00", 512, 0, 0, 0, nil},
		{tap.SCSIStatus, "", 0, 0, 512, StatusCheckCondition, nil},
		{tap.SCSICommand, "28 00 00000000 00 0001 00", 512, 0, 0, 0, nil},
		{tap.SCSIStatus, "", 512, 0, 0, StatusGood, make([]byte, 16)},
	}
	if len(b.Records) != len(want) {
		t.Fatalf("%d records, want %d", len(b.Records), len(want))
	}
	for i := range want {
		w, got := &want[i], &b.Records[i]
		code := cdb(t, w.code)
		if got.Kind != w.kind || got.In != w.in || got.Out != w.out || got.Residual != w.res || Status(got.Status) != w.status ||
			!bytes.Equal(b.Data(got), w.data) || w.kind == tap.SCSICommand && !bytes.Equal(got.Bytes[:got.Length], code[:]) {
			t.Errorf("record %d: %+v with data %x", i, got, b.Data(got))
		}
		if i%2 == 1 && (got.Tag != b.Records[i-1].Tag || got.Time < b.Records[i-1].Time || !got.Ended) {
			t.Errorf("record %d does not end the command before: %+v", i, got)
		}
	}
	if s := &b.Records[5]; !bytes.Equal(s.Bytes[:s.Length], failed.Sense[:failed.SenseLen]) {
		t.Errorf("sense data %x, want %x", s.Bytes[:s.Length], failed.Sense[:failed.SenseLen])
	}
}

// TestCaptureAllocatesNothing holds the I/O path to none while somebody captures, too.
func TestCaptureAllocatesNothing(t *testing.T) {
	r := newRig(t, plain(), Disk)
	ring := tap.New(1, tap.MaxData)
	r.ct.Capture(0, ring.Tap(0))
	c := &Command{CDB: cdb(t, "28 00 00000000 00 0008 00"), In: one(make([]byte, 4096)), Done: func(*Command) {}}
	var b tap.Batch
	if n := testing.AllocsPerRun(50, func() { r.ct.Submit(c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if ring.Take(&b); len(b.Records) < 50 {
		t.Errorf("%d records", len(b.Records))
	}
}
