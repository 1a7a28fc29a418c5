package blk_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// request makes a request of one block that tells its end on the channel.
func request(op blk.Op, lba uint64, data []byte) (*blk.Request, chan error) {
	done := make(chan error, 1)
	return &blk.Request{
		Op: op, LBA: lba, Blocks: 1, Segments: []blk.Segment{{Data: data, DMA: blk.NoDMA}},
		Done: func(r *blk.Request) { done <- r.Err },
	}, done
}

var small = blk.Info{Blocks: 8, BlockSize: 512}

func TestSlotExchangesTheDevice(t *testing.T) {
	old, young := blktest.New(small), blktest.New(blk.Info{Blocks: 16, BlockSize: 512})
	s := blk.NewSlot(old, false)
	var events []blk.Event
	s.Watch(func(e blk.Event) { events = append(events, e) })
	if err := s.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte{7}, 512)
	write, written := request(blk.OpWrite, 3, want)
	s.Submit(0, write)
	select {
	case err := <-written:
		t.Fatalf("a request ended without a device: %v", err)
	default:
	}
	old.Remove() // of no concern any more
	s.Replace(young)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 512)
	read, done := request(blk.OpRead, 3, got)
	s.Submit(0, read)
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %v, %v", got[0], err)
	}
	if s.Info().Blocks != 16 || len(events) != 1 || events[0] != blk.EventResized {
		t.Errorf("%d blocks, events %v", s.Info().Blocks, events)
	}
}

func TestSlotStartsAgainWhatTheDeviceLost(t *testing.T) {
	old, young := blktest.New(small), blktest.New(small)
	s := blk.NewSlot(old, false)
	old.Hold()
	flush, flushed := request(blk.OpFlush, 0, nil)
	s.Submit(0, flush)
	held := make(chan error, 1)
	go func() { held <- s.Hold(t.Context()) }()
	// Hold has taken the device out once a new request waits.
	time.Sleep(10 * time.Millisecond)
	old.Remove() // the device gives the request back
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-flushed:
		t.Fatalf("the request ended: %v", err)
	default:
	}
	s.Replace(young)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}

func TestSlotHoldGivesUp(t *testing.T) {
	d := blktest.New(small)
	s := blk.NewSlot(d, false)
	d.Hold()
	flush, flushed := request(blk.OpFlush, 0, nil)
	s.Submit(0, flush)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := s.Hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Hold: %v", err)
	}
	s.Remove()
	d.Release(false)
	if err := <-flushed; err != nil {
		t.Errorf("what the device had done ended as %v", err)
	}
	late, ended := request(blk.OpFlush, 0, nil)
	s.Submit(0, late)
	if err := <-ended; !errors.Is(err, blk.ErrRemoved) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSlotCancelsWhatWaits(t *testing.T) {
	s := blk.NewSlot(blktest.New(small), false)
	if err := s.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, done := request(blk.OpRead, 0, make([]byte, 512))
	s.Submit(0, r)
	s.Cancel(r)
	if err := <-done; !errors.Is(err, blk.ErrAborted) {
		t.Errorf("%v", err)
	}
}

func TestSlotRefusesWrites(t *testing.T) {
	s := blk.NewSlot(blktest.New(small), true)
	if !s.Info().ReadOnly {
		t.Error("it does not say that it is read-only")
	}
	for op, want := range map[blk.Op]error{blk.OpWrite: blk.ErrProtected, blk.OpDiscard: blk.ErrProtected, blk.OpWriteZeroes: blk.ErrProtected, blk.OpRead: nil} {
		r, done := request(op, 0, make([]byte, 512))
		s.Submit(0, r)
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", op, err, want)
		}
	}
}

func TestSlotDoesNotAllocate(t *testing.T) {
	s := blk.NewSlot(blktest.New(small), false)
	r := &blk.Request{Op: blk.OpFlush, Done: func(*blk.Request) {}}
	if n := testing.AllocsPerRun(100, func() { s.Submit(0, r) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
