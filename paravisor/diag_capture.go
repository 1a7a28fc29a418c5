package paravisor

import (
	"context"
	"fmt"
	"time"

	"keel/diag/capture"
	"keel/diag/server"
	"keel/translate/tap"
)

// Times of a capture: how long records wait for the client, and how long it waits for the
// figures of what was lost.
const (
	capturePeriod     = 50 * time.Millisecond
	captureStatistics = time.Second
)

// capturePiece is how many bytes of a capture are sent at once, but for the last block.
const capturePiece = 32 << 10

// captures returns what makes captures, nil where the guest has no disks.
func (k *keel) captures() server.Capture {
	if k.machine.disks.controllers == nil {
		return nil
	}
	return k.machine.disks.capture
}

// captureSource is a part of the I/O path that can be captured.
type captureSource struct {
	capture.Source
	attach func(t *tap.Tap) // nil detaches
}

// captureSources returns the parts that a disk is made of, or all disks if it has no name.
func (d *disks) captureSources(disk string) (all []captureSource, err error) {
	for _, u := range d.list() {
		name := u.name()
		if disk != "" && disk != name {
			continue
		}
		target := d.targets[u.Front]
		all = append(all, captureSource{
			capture.Source{Name: name, Description: "SCSI commands of the guest to its disk " + name},
			func(t *tap.Tap) { target.Capture(uint16(u.LUN), t) },
		})
		for i, serial := range u.Serials {
			c := d.controllers.get(serial)
			if c == nil {
				continue
			}
			all = append(all, captureSource{
				capture.Source{
					Name: fmt.Sprintf("%s/%d", name, i), NVMe: true,
					Description: fmt.Sprintf("NVMe commands to controller %s of disk %s", serial, name),
				},
				c.Capture,
			})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %q", server.ErrNoDisk, disk)
	}
	return all, nil
}

// capture is a server.Capture. A send that is slow makes it lose records.
func (d *disks) capture(ctx context.Context, disk string, data int, send func(server.Piece) error) error {
	if !d.capturing.CompareAndSwap(false, true) {
		return server.ErrCapturing
	}
	defer d.capturing.Store(false)
	sources, err := d.captureSources(disk)
	if err != nil {
		return err
	}
	var named []capture.Source
	for _, s := range sources {
		named = append(named, s.Source)
	}
	out := &pieces{send: send}
	began := time.Now()
	w, err := capture.NewWriter(out, "Keel "+Version, began, named)
	if err != nil {
		return err
	}
	ring := tap.New(len(sources), data)
	defer ring.Close()
	for i, s := range sources {
		s.attach(ring.Tap(i))
		defer s.attach(nil)
	}
	ticker := time.NewTicker(capturePeriod)
	defer ticker.Stop()
	var batch tap.Batch
	for told := began; ; {
		if err := out.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-ring.Ready():
		case <-ticker.C:
		}
		ended := ctx.Err() != nil // what comes before the end is in the batch
		ring.Take(&batch)
		out.count(batch.Counts)
		if err := w.Write(&batch); err != nil {
			return err
		}
		now := time.Now()
		if ended || now.Sub(told) >= captureStatistics {
			told = now
			if err := w.Statistics(batch.Counts, now); err != nil {
				return err
			}
			if ended {
				return out.flush()
			}
		}
	}
}

// pieces sends what is written to it, never less than what one call writes.
type pieces struct {
	send func(server.Piece) error
	next server.Piece
}

// count sets what is sent along: the sum of the sources' counts.
func (p *pieces) count(all []tap.Count) {
	p.next.Records, p.next.Lost = 0, 0
	for _, c := range all {
		p.next.Records += c.Seen
		p.next.Lost += c.Lost
	}
}

// Write keeps a block, and sends what there is when it is enough.
func (p *pieces) Write(b []byte) (int, error) {
	p.next.PCAPNG = append(p.next.PCAPNG, b...)
	if len(p.next.PCAPNG) < capturePiece {
		return len(b), nil
	}
	return len(b), p.flush()
}

// flush sends what there is.
func (p *pieces) flush() error {
	if len(p.next.PCAPNG) == 0 {
		return nil
	}
	err := p.send(p.next)
	p.next.PCAPNG = p.next.PCAPNG[:0]
	return err
}
