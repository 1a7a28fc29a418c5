package scsi

import (
	"bytes"
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// rig is a controller with a disk at LUN 0, whose power on everybody has heard of.
type rig struct {
	ct   *Controller
	disk *blktest.Disk

	mu     sync.Mutex
	events []Event
}

// plain is a disk of 512-byte blocks that can do everything.
func plain() blk.Info {
	return blk.Info{
		Blocks: 2048, BlockSize: 512, PhysicalSize: 4096, Optimal: 128, Volatile: true, Discard: true, DiscardUnit: 8,
		MaxRanges: 4, DiscardZeroes: true, WriteZeroes: true, ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Serial: "KEEL0001",
	}
}

func newRig(tb testing.TB, info blk.Info, kind Kind) *rig {
	tb.Helper()
	r := &rig{disk: blktest.New(info)}
	r.ct = New(func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
	if err := r.ct.Add(0, kind, r.disk); err != nil {
		tb.Fatal(err)
	}
	r.calm()
	r.takeEvents()
	return r
}

func (r *rig) takeEvents() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.events
	r.events = nil
	return e
}

// calm clears all unit attentions.
func (r *rig) calm() {
	for u := range r.ct.each() {
		for i := range u.attentions {
			u.attentions[i].Store(0)
		}
	}
}

func cdb(tb testing.TB, s string) (b [CDBSize]byte) {
	tb.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	copy(b[:], raw)
	return b
}

// one makes a single segment.
func one(b []byte) []blk.Segment {
	if b == nil {
		return nil
	}
	return []blk.Segment{{Data: b, DMA: blk.NoDMA}}
}

// start submits a command of a nexus and returns it with the channel on which its
// end is told.
func (r *rig) start(tb testing.TB, initiator uint8, lun uint16, code string, out, in []byte) (*Command, chan struct{}) {
	tb.Helper()
	done := make(chan struct{})
	c := &Command{CDB: cdb(tb, code), LUN: lun, Initiator: initiator, Out: one(out), In: one(in), Done: func(*Command) { close(done) }}
	r.ct.Submit(c)
	return c, done
}

// as runs a command of a nexus.
func (r *rig) as(tb testing.TB, initiator uint8, code string, out, in []byte) *Command {
	tb.Helper()
	c, done := r.start(tb, initiator, 0, code, out, in)
	<-done
	return c
}

// run runs a command of nexus 0.
func (r *rig) run(tb testing.TB, code string, out, in []byte) *Command {
	tb.Helper()
	return r.as(tb, 0, code, out, in)
}

// data runs a command that must succeed and returns what it sent.
func (r *rig) data(tb testing.TB, code string) []byte {
	tb.Helper()
	in := make([]byte, 8192)
	c := r.run(tb, code, nil, in)
	if c.Status != StatusGood {
		tb.Fatalf("%s: status %#x, sense %x", code, c.Status, c.Sense[:c.SenseLen])
	}
	return in[:uint64(len(in))-c.Residual]
}

// key returns sense key and code in one number: 0x052400.
func key(c *Command) int {
	if c.Status != StatusCheckCondition {
		return -int(c.Status)
	}
	if c.Sense[0]&0x7f >= 0x72 {
		return int(c.Sense[1]&15)<<16 | int(c.Sense[2])<<8 | int(c.Sense[3])
	}
	return int(c.Sense[2]&15)<<16 | int(c.Sense[12])<<8 | int(c.Sense[13])
}

func wantKey(tb testing.TB, name string, c *Command, want int) {
	tb.Helper()
	if got := key(c); got != want {
		tb.Errorf("%s: got %06x, want %06x; sense %x", name, got, want, c.Sense[:c.SenseLen])
	}
}

func wantGood(tb testing.TB, name string, c *Command) {
	tb.Helper()
	wantKey(tb, name, c, 0)
}

func golden(tb testing.TB, name string, got []byte, want string) {
	tb.Helper()
	raw, err := hex.DecodeString(strings.Join(strings.Fields(want), ""))
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(got, raw) {
		tb.Errorf("%s:\n got %x\nwant %x", name, got, raw)
	}
}

// pattern returns n bytes that differ from each other's neighbors.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*7 ^ seed
	}
	return b
}
