package tap_test

import (
	"bytes"
	"sync"
	"testing"

	"keel/translate/blk"
	"keel/translate/tap"
)

func segments(parts ...string) (s []blk.Segment) {
	for _, p := range parts {
		s = append(s, blk.Segment{Data: []byte(p), DMA: blk.NoDMA})
	}
	return s
}

func TestRecordsComeInOrderWithTheirData(t *testing.T) {
	r := tap.New(2, 5)
	first, second := r.Tap(0), r.Tap(1)
	a, b := tap.Record{Kind: tap.SCSICommand, LUN: 7}, tap.Record{Kind: tap.SCSICommand, Length: 1, Bytes: [64]byte{9}}
	if !first.Command(&a, segments("ab", "", "cdef")) || !second.Command(&b, nil) {
		t.Fatal("no room in an empty ring")
	}
	second.End(&tap.Record{Kind: tap.SCSIStatus, Tag: b.Tag}, segments("xyz"), 2)
	var batch tap.Batch
	r.Take(&batch)
	if len(batch.Records) != 3 {
		t.Fatalf("%d records", len(batch.Records))
	}
	for i, want := range []struct {
		source uint16
		tag    uint32
		data   string
	}{{0, a.Tag, "abcde"}, {1, b.Tag, ""}, {1, b.Tag, "xy"}} {
		got := &batch.Records[i]
		if got.Source != want.source || got.Tag != want.tag || string(batch.Data(got)) != want.data {
			t.Errorf("record %d: %+v with data %q", i, got, batch.Data(got))
		}
	}
	if a.Tag == b.Tag || batch.Records[0].LUN != 7 || batch.Records[1].Bytes[0] != 9 {
		t.Errorf("%+v", batch.Records[:2])
	}
	r.Take(&batch)
	if len(batch.Records) != 0 || batch.Counts[0].Seen != 1 || batch.Counts[1].Seen != 2 {
		t.Errorf("then %d records, %+v", len(batch.Records), batch.Counts)
	}
}

func TestWhatHasNoRoomIsLostAndCounted(t *testing.T) {
	for name, x := range map[string]struct {
		snap int
		data []blk.Segment
	}{
		"records": {0, nil},
		"data":    {tap.MaxData, segments(string(bytes.Repeat([]byte{1}, 2*tap.MaxData)))},
	} {
		t.Run(name, func(t *testing.T) {
			r := tap.New(1, x.snap)
			source, put, kept := r.Tap(0), 5000, 0
			for range put {
				if source.Command(&tap.Record{}, x.data) {
					kept++
				}
			}
			select {
			case <-r.Ready():
			default:
				t.Error("nobody told the reader")
			}
			var b tap.Batch
			r.Take(&b)
			if len(b.Records) != kept || kept == 0 || kept > put/2 || b.Counts[0].Seen != uint64(put) || b.Counts[0].Lost != uint64(put-kept) {
				t.Errorf("kept %d, took %d of %d, %+v", kept, len(b.Records), put, b.Counts)
			}
			if !source.Command(&tap.Record{}, x.data) {
				t.Error("there is no room after the reader came")
			}
			r.Close()
			if source.Command(&tap.Record{}, x.data) {
				t.Error("a closed ring takes records")
			}
		})
	}
}

// TestReaderAndWriters has the race detector look at them.
func TestReaderAndWriters(t *testing.T) {
	r := tap.New(4, 16)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 2000 {
				r.Tap(i).Command(&tap.Record{}, segments("0123456789"))
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	var b tap.Batch
	taken, lost := 0, uint64(0)
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		case <-r.Ready():
		}
		r.Take(&b)
		for i := range b.Records {
			if string(b.Data(&b.Records[i])) != "0123456789" {
				t.Fatal("a record has the data of another one")
			}
		}
		taken += len(b.Records)
	}
	for _, c := range b.Counts {
		lost += c.Lost
	}
	if taken+int(lost) != 8000 {
		t.Errorf("took %d and lost %d of 8000", taken, lost)
	}
}

func TestNoAllocations(t *testing.T) {
	r := tap.New(1, 16)
	source, data := r.Tap(0), segments("0123456789", "0123456789")
	var b tap.Batch
	r.Take(&b)
	if n := testing.AllocsPerRun(200, func() {
		c := tap.Record{Kind: tap.SCSICommand, Length: 16}
		source.Command(&c, data)
		source.End(&tap.Record{Tag: c.Tag}, data, 8)
		r.Take(&b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
