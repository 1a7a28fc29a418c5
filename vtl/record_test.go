package vtl

import (
	"slices"
	"testing"

	"keel/hcl"
)

// TestRingIsReadWhole lets a reader run behind a writer that is as fast as it can: every
// record is whole, in order, and every exit is either read or counted as lost.
func TestRingIsReadWhole(t *testing.T) {
	const exits = 300_000
	r, done := &ring{}, make(chan struct{})
	go func() {
		defer close(done)
		for n := range uint64(exits) {
			e := hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: uint32(n), Value: n, RIP: n}
			r.add(int64(n), &e)
		}
	}()
	var next, seen, lost uint64
	var batch []ExitRecord
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		var gone uint64
		expect := next
		batch, next, gone = r.read(0, next, batch[:0])
		lost += gone
		seen += uint64(len(batch))
		if len(batch) > ringSize {
			t.Fatalf("%d records at once", len(batch))
		}
		for i, x := range batch {
			want := expect + gone + uint64(i)
			if x.RIP != want || x.Time != int64(want) || x.Where != want || x.Value != want || x.Kind != hcl.ExitMSRWrite {
				t.Fatalf("record %d of %d is %+v", want, i, x)
			}
		}
	}
	if seen+lost != exits || seen == 0 {
		t.Errorf("%d seen, %d lost, of %d", seen, lost, exits)
	}
}

func TestRecord(t *testing.T) {
	answer := make([]byte, 2)
	exits := []hcl.Exit{
		{Kind: hcl.ExitPIO, Port: 0x20, Size: 2, Data: answer, RIP: 1},
		{Kind: hcl.ExitMMIO, GPA: 0xfec00000, Size: 4, Write: true, Data: []byte{1, 2, 3, 4}, RIP: 2},
		{Kind: hcl.ExitMSRRead, MSR: 0x1b, RIP: 3},
		{Kind: hcl.ExitMSRWrite, MSR: 0x6e0, Value: 7, RIP: 4},
		{Kind: hcl.ExitInterruptWindow, RIP: 5},
	}
	g, _, ports, _ := newFake(t, func(_ *fakeVP, turn int) (hcl.Exit, error) {
		if turn < len(exits) {
			return exits[turn], nil
		}
		return powerOff()
	})
	mapPorts(t, g, ports, &scratch{value: 0x5a})
	r := g.Record()
	run(t, g)
	got, lost := r.Read(nil)
	want := []ExitRecord{
		{Kind: hcl.ExitPIO, Size: 2, RIP: 1, Where: 0x20, Value: 0x5a},
		{Kind: hcl.ExitMMIO, Size: 4, RIP: 2, Where: 0xfec00000, Write: true, Value: 0x04030201},
		{Kind: hcl.ExitMSRRead, RIP: 3, Where: 0x1b, Value: 0xfee00900},
		{Kind: hcl.ExitMSRWrite, RIP: 4, Where: 0x6e0, Value: 7},
		{Kind: hcl.ExitInterruptWindow, RIP: 5},
		{Kind: hcl.ExitPIO, Size: 1, Where: 0x11, Write: true, Value: 1},
	}
	for i := range got {
		if got[i].Time == 0 || i > 0 && got[i].Time < got[i-1].Time {
			t.Errorf("record %d is of %d", i, got[i].Time)
		}
		got[i].Time = 0
	}
	if !slices.Equal(got, want) || lost != 0 {
		t.Errorf("%+v, %d lost; want %+v", got, lost, want)
	}
	other := g.Record()
	r.Close()
	if g.vps[0].ring.Load() == nil {
		t.Error("the ring went while somebody reads")
	}
	if late, _ := other.Read(nil); len(late) != 0 {
		t.Errorf("who comes later sees %+v", late)
	}
	other.Close()
	if g.vps[0].ring.Load() != nil {
		t.Error("the ring stays when nobody reads")
	}
}

func TestRecordingDoesNotAllocate(t *testing.T) {
	r := &ring{}
	e := pio(0x20, true, 1, []byte{1})
	if n := testing.AllocsPerRun(2*ringSize, func() { r.add(1, &e) }); n != 0 {
		t.Errorf("a record allocates %v times", n)
	}
}
