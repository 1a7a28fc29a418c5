package gueststate

import (
	"fmt"

	"keel/translate/blk"
)

// chunk bounds what wiping and looking for zeroes hold in memory, in bytes.
const chunk = 256 << 10

// device makes the calls of a disk wait for their end. It is for one goroutine at a time.
//
// A disk completes every request, also when the host does not answer: how long that
// takes at most is the driver's to say.
type device struct {
	disk    blk.Disk
	info    blk.Info
	request blk.Request
	segment [1]blk.Segment
	done    chan struct{}
}

// newDevice checks that a disk can hold two slots.
func newDevice(disk blk.Disk) (*device, error) {
	d := &device{disk: disk, info: disk.Info(), done: make(chan struct{}, 1)}
	switch size := d.info.BlockSize; {
	case size != 512 && size != 4096:
		return nil, fmt.Errorf("%w: blocks of %d bytes", ErrSize, size)
	case d.info.Blocks < MinDisk/uint64(size):
		return nil, fmt.Errorf("%w: %d bytes", ErrSize, d.info.Blocks*uint64(size))
	}
	d.request.Done = func(*blk.Request) { d.done <- struct{}{} }
	disk.Watch(func(blk.Event) {}) // a disk that went away says so when it is used
	return d, nil
}

// round returns the bytes of the blocks that hold so many bytes.
func (d *device) round(bytes int) int {
	size := int(d.info.BlockSize)
	return (bytes + size - 1) / size * size
}

// do runs the request that is set up.
func (d *device) do() error {
	d.disk.Submit(0, &d.request)
	<-d.done
	return d.request.Err
}

// transfer reads or writes whole blocks at a place in bytes: with one request, unless the
// disk takes less at once.
func (d *device) transfer(op blk.Op, at int64, b []byte) error {
	size := int(d.info.BlockSize)
	most := len(b)
	if n := int(d.info.MaxBlocks); n != 0 {
		most = min(most, n*size)
	}
	for len(b) > 0 {
		n := min(most, len(b))
		d.segment[0] = blk.Segment{Data: b[:n], DMA: blk.NoDMA}
		r := &d.request
		r.Op, r.LBA, r.Blocks, r.Segments = op, uint64(at)/uint64(size), uint32(n/size), d.segment[:]
		if err := d.do(); err != nil {
			return err
		}
		at, b = at+int64(n), b[n:]
	}
	return nil
}

// write writes blocks; a flush makes them durable.
func (d *device) write(at int64, b []byte) error {
	if err := d.transfer(blk.OpWrite, at, b); err != nil {
		return fmt.Errorf("%w: write: %w", ErrDisk, err)
	}
	return nil
}

// flush makes durable what was written. It is not the FUA of the write: QEMU's NVMe
// controller ignores that bit (hw/nvme/ctrl.c, nvme_do_write), and no controller ignores
// a flush.
func (d *device) flush() error {
	if !d.info.Volatile {
		return nil
	}
	d.request.Op, d.request.Blocks, d.request.Segments = blk.OpFlush, 0, nil
	if err := d.do(); err != nil {
		return fmt.Errorf("%w: flush: %w", ErrDisk, err)
	}
	return nil
}

// wipe writes zeroes.
func (d *device) wipe(at, bytes int64) error {
	zeroes := make([]byte, min(chunk, bytes))
	for ; bytes > 0; at, bytes = at+chunk, bytes-chunk {
		if err := d.write(at, zeroes[:min(chunk, bytes)]); err != nil {
			return err
		}
	}
	return nil
}

// zero tells whether there is nothing where the slots are.
func (d *device) zero() (bool, error) {
	b := make([]byte, chunk)
	for at := int64(0); at < MinDisk; at += chunk {
		if err := d.transfer(blk.OpRead, at, b); err != nil {
			return false, fmt.Errorf("%w: %w", ErrDisk, err)
		}
		if !zero(b) {
			return false, nil
		}
	}
	return true, nil
}
