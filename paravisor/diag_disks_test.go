package paravisor

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"keel/diag/inspect"
	"keel/diag/pcapng"
	"keel/diag/server"
	"keel/paravisor/config"
	"keel/translate/blk"
	"keel/translate/scsi"
)

// stripeRig is a disk on one controller, and one on two.
func stripeRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	for i, serial := range []string{"root", "a", "b"} {
		r.bays.plug(t, fmt.Sprintf("0000:0%d:00.0", i), serial, 1024)
	}
	if err := r.addAll([]config.Disk{one("root", 0), {Serials: []string{"a", "b"}, LUN: 5, Chunk: 4096}}); err != nil {
		t.Fatal(err)
	}
	for _, lun := range []uint16{0, 5} {
		r.scsi(t, lun, [scsi.CDBSize]byte{}, 0) // the power-on is told first
	}
	return r
}

// scsi runs a command that sends so many bytes to the guest.
func (r *rig) scsi(t *testing.T, lun uint16, cdb [scsi.CDBSize]byte, in int) {
	t.Helper()
	done := make(chan struct{})
	c := &scsi.Command{LUN: lun, CDB: cdb, Done: func(*scsi.Command) { close(done) }}
	if in > 0 {
		c.In = []blk.Segment{{Data: make([]byte, in), DMA: blk.NoDMA}}
	}
	r.target.Submit(c)
	<-done
}

// read16K is READ(10) of 32 blocks from block 0 on.
var read16K = [scsi.CDBSize]byte{0x28, 8: 32}

func TestInspectDisks(t *testing.T) {
	r := stripeRig(t)
	r.scsi(t, 5, read16K, 16384)
	for path, want := range map[string]any{
		"virtio-scsi.0/blocks":                  uint64(1024),
		"virtio-scsi.0/guest/reads":             uint64(0),
		"virtio-scsi.5/blocks":                  uint64(2048),
		"virtio-scsi.5/chunk":                   uint64(4096),
		"virtio-scsi.5/read_only":               false,
		"virtio-scsi.5/guest/reads":             uint64(1),
		"virtio-scsi.5/guest/others":            uint64(1),
		"virtio-scsi.5/guest/failed":            uint64(1),
		"virtio-scsi.5/guest/read_bytes":        uint64(16384),
		"virtio-scsi.5/members/0/serial":        "a",
		"virtio-scsi.5/members/1/serial":        "b",
		"virtio-scsi.5/members/0/read_bytes":    uint64(8192),
		"virtio-scsi.5/members/1/read_bytes":    uint64(8192),
		"virtio-scsi.5/members/1/written_bytes": uint64(0),
	} {
		if f, err := inspect.Look(r.disks, path, 1); err != nil || f.Value != want {
			t.Errorf("%s is %v, want %v; %v", path, f.Value, want, err)
		}
	}
	// What a guest asks for is private; a host counts what reaches its controllers.
	all, err := inspect.Look(r.disks, "", 16)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := all.Redact(inspect.Public)
	disk := public.Fields[1]
	for _, f := range disk.Fields {
		switch {
		case f.Name == "guest" && (len(f.Fields) != 0 || !f.Withheld):
			t.Errorf("the guest's commands are public: %+v", f)
		case f.Name == "members" && (len(f.Fields) != 2 || f.Fields[0].Withheld):
			t.Errorf("the members are not: %+v", f)
		}
	}
	d := one("root", 0)
	if err := r.remove(&d); err != nil {
		t.Fatal(err)
	}
	if f, err := inspect.Look(r.disks, "virtio-scsi.0", 1); err == nil {
		t.Errorf("a disk that is gone: %+v", f)
	}
}

func TestInspectProcess(t *testing.T) {
	all, err := inspect.Look(process{}, "", 1)
	if err != nil || len(all.Fields) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, f := range all.Fields {
		if n, _ := f.Value.(uint64); n == 0 {
			t.Errorf("%s is %v", f.Name, f.Value)
		}
	}
}

// file is a capture that its client has taken.
type file struct {
	blocks []pcapng.Block
	last   server.Piece
}

func (f *file) take(t *testing.T, p server.Piece) {
	t.Helper()
	blocks, err := pcapng.Split(p.PCAPNG)
	if err != nil {
		t.Error(err)
	}
	for _, b := range blocks {
		f.blocks = append(f.blocks, pcapng.Block{Kind: b.Kind, Body: append([]byte(nil), b.Body...)})
	}
	f.last = p
}

// packets returns how many packets each interface has.
func (f *file) packets() (n [5]int) {
	for _, b := range f.blocks {
		if b.Kind == pcapng.BlockPacket {
			n[b.Body[0]]++
		}
	}
	return n
}

// started runs a capture and returns when it has begun; end ends it and returns its error.
func (r *rig) started(t *testing.T, disk string, send func(server.Piece) error) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		ended <- r.capture(ctx, disk, 0, func(p server.Piece) error {
			if first {
				close(began) // its head has come: the taps are in place
				first = false
			}
			return send(p)
		})
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatal(err)
	}
	return func() error {
		cancel()
		return <-ended
	}
}

func TestCapture(t *testing.T) {
	r := stripeRig(t)
	var f file
	end := r.started(t, "", func(p server.Piece) error { f.take(t, p); return nil })
	if err := r.capture(t.Context(), "", 0, nil); !errors.Is(err, server.ErrCapturing) {
		t.Errorf("a second capture: %v", err)
	}
	r.scsi(t, 5, read16K, 16384)
	r.scsi(t, 0, read16K, 16384)
	if err := end(); err != nil {
		t.Error(err)
	}
	r.scsi(t, 0, read16K, 16384) // nobody looks any more
	// Interfaces: disk 0, its controller, disk 5, its two controllers.
	if n := f.packets(); n != [5]int{2, 2, 2, 2, 2} || f.last.Records != 10 || f.last.Lost != 0 {
		t.Errorf("packets %v, %d records, %d lost", n, f.last.Records, f.last.Lost)
	}
	if last := f.blocks[len(f.blocks)-1]; last.Kind != pcapng.BlockStatistics {
		t.Errorf("it ends with a block of type %#x", last.Kind)
	}

	var one file
	end = r.started(t, "virtio-scsi.5", func(p server.Piece) error { one.take(t, p); return nil })
	r.scsi(t, 5, read16K, 16384)
	r.scsi(t, 0, read16K, 16384)
	if err := end(); err != nil {
		t.Error(err)
	}
	if n := one.packets(); n != [5]int{2, 2, 2} {
		t.Errorf("packets %v", n)
	}
	if err := r.capture(t.Context(), "virtio-scsi.7", 0, nil); !errors.Is(err, server.ErrNoDisk) {
		t.Errorf("no such disk: %v", err)
	}
}

// TestCaptureOfASlowClient: a client that takes nothing delays no command, and hears what
// it has lost.
func TestCaptureOfASlowClient(t *testing.T) {
	r := stripeRig(t)
	slow, first := make(chan struct{}), true
	var f file
	end := r.started(t, "virtio-scsi.0", func(p server.Piece) error {
		if !first {
			<-slow
		}
		first = false
		f.take(t, p)
		return nil
	})
	const commands = 800
	for range commands {
		r.scsi(t, 0, read16K, 16384)
	}
	close(slow)
	if err := end(); err != nil {
		t.Error(err)
	}
	n := f.packets()
	if got := uint64(n[0] + n[1]); f.last.Lost == 0 || got+f.last.Lost != f.last.Records || f.last.Records > 4*commands {
		t.Errorf("%d packets, %d records, %d lost", got, f.last.Records, f.last.Lost)
	}
}

// TestCaptureEndsWithItsClient: it lets go of the disks.
func TestCaptureEndsWithItsClient(t *testing.T) {
	r := stripeRig(t)
	gone := errors.New("the client is gone")
	if err := r.capture(t.Context(), "", 0, func(server.Piece) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	var f file
	end := r.started(t, "", func(p server.Piece) error { f.take(t, p); return nil })
	if err := end(); err != nil || f.last.Records != 0 {
		t.Errorf("%v, %+v", err, f.last)
	}
}
