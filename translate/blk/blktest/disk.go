// Package blktest is a disk in memory for tests: it completes at once, late, out
// of order, with errors, or goes away.
package blktest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"keel/translate/blk"
)

// Disk is a blk.Disk in memory. The functions of a test change its behavior
// between requests.
type Disk struct {
	info atomic.Pointer[blk.Info]

	mu      sync.Mutex
	data    []byte
	stable  []byte // what a power failure leaves, nil unless the disk is volatile
	held    blk.List
	count   int
	holding bool
	gone    bool
	faults  map[uint64]error
	watch   func(blk.Event)
	log     []blk.Op
	logging bool
}

// New returns a disk of zeroes with the properties of info.
func New(info blk.Info) *Disk {
	d := &Disk{data: make([]byte, info.Blocks*uint64(info.BlockSize)), faults: map[uint64]error{}}
	if info.PhysicalSize == 0 {
		info.PhysicalSize = info.BlockSize
	}
	if info.Volatile {
		d.stable = make([]byte, len(d.data))
	}
	d.info.Store(&info)
	return d
}

// Info describes the disk.
func (d *Disk) Info() blk.Info { return *d.info.Load() }

// Watch sets who hears of Resize and Remove.
func (d *Disk) Watch(f func(blk.Event)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch = f
}

// Submit runs a request at once, or keeps it while Hold is on.
func (d *Disk) Submit(_ int, r *blk.Request) {
	d.mu.Lock()
	if d.holding && !d.gone {
		d.held.Push(r)
		d.count++
		d.mu.Unlock()
		return
	}
	err := d.run(r)
	d.mu.Unlock()
	r.Complete(err)
}

// Cancel ends a request that is held.
func (d *Disk) Cancel(r *blk.Request) {
	d.mu.Lock()
	found := d.held.Remove(r)
	if found {
		d.count--
	}
	d.mu.Unlock()
	if found {
		r.Complete(blk.ErrAborted)
	}
}

// run does the work. Preconditions: locked.
func (d *Disk) run(r *blk.Request) error {
	if d.gone {
		return blk.ErrRemoved
	}
	i := d.info.Load()
	if err := r.Check(i); err != nil {
		return err
	}
	if d.logging {
		d.log = append(d.log, r.Op)
	}
	if r.Op != blk.OpFlush && r.Op != blk.OpDiscard && len(d.faults) > 0 {
		for lba := r.LBA; lba < r.LBA+uint64(r.Blocks); lba++ {
			if err := d.faults[lba]; err != nil {
				return fmt.Errorf("%w: block %d", err, lba)
			}
		}
	}
	size := uint64(i.BlockSize)
	at := d.data[min(r.LBA*size, uint64(len(d.data))):]
	switch r.Op {
	case blk.OpRead:
		for _, s := range r.Segments {
			at = at[copy(s.Data, at):]
		}
	case blk.OpWrite:
		for _, s := range r.Segments {
			at = at[copy(at, s.Data):]
		}
	case blk.OpCompare:
		for _, s := range r.Segments {
			if !bytes.Equal(s.Data, at[:len(s.Data)]) {
				return blk.ErrMiscompare
			}
			at = at[len(s.Data):]
		}
	case blk.OpWriteZeroes:
		clear(at[:uint64(r.Blocks)*size])
	case blk.OpDiscard:
		for _, x := range r.Ranges {
			clear(d.data[x.LBA*size : (x.LBA+x.Blocks)*size])
		}
	case blk.OpFlush:
		copy(d.stable, d.data)
	}
	if r.FUA && d.stable != nil {
		from, to := r.LBA*size, (r.LBA+uint64(r.Blocks))*size
		copy(d.stable[from:to], d.data[from:to])
	}
	return nil
}

// Hold keeps the requests that come, until Release.
func (d *Disk) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holding = true
}

// Held returns how many requests are kept.
func (d *Disk) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// Release runs what was kept, the newest first when reverse is set, and keeps no
// more.
func (d *Disk) Release(reverse bool) {
	d.mu.Lock()
	d.holding = false
	var all []*blk.Request
	for r := d.held.Pop(); r != nil; r = d.held.Pop() {
		all = append(all, r)
	}
	d.count = 0
	d.mu.Unlock()
	if reverse {
		slices.Reverse(all)
	}
	for _, r := range all {
		d.mu.Lock()
		err := d.run(r)
		d.mu.Unlock()
		r.Complete(err)
	}
}

// Fault makes requests that touch a block fail; nil heals it.
func (d *Disk) Fault(lba uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.faults, lba)
		return
	}
	d.faults[lba] = err
}

// Change changes what Info says, without an event.
func (d *Disk) Change(f func(*blk.Info)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := *d.info.Load()
	f(&i)
	if n := int(i.Blocks * uint64(i.BlockSize)); n > len(d.data) {
		d.data = append(d.data, make([]byte, n-len(d.data))...)
		if d.stable != nil {
			d.stable = append(d.stable, make([]byte, n-len(d.stable))...)
		}
	}
	d.info.Store(&i)
}

// Resize changes the number of blocks and tells the watcher.
func (d *Disk) Resize(blocks uint64) {
	d.Change(func(i *blk.Info) { i.Blocks = blocks })
	d.event(blk.EventResized)
}

// Remove ends all requests with ErrRemoved, those that are kept too, and tells the
// watcher.
func (d *Disk) Remove() {
	d.mu.Lock()
	d.gone = true
	d.mu.Unlock()
	d.Release(false)
	d.event(blk.EventRemoved)
}

func (d *Disk) event(e blk.Event) {
	d.mu.Lock()
	f := d.watch
	d.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// Bytes returns a copy of the contents.
func (d *Disk) Bytes() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.data)
}

// Stable returns a copy of what a power failure would leave.
func (d *Disk) Stable() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stable == nil {
		return bytes.Clone(d.data)
	}
	return bytes.Clone(d.stable)
}

// Fill writes data at the beginning of the disk.
func (d *Disk) Fill(data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.data, data)
}

// Log returns the operations that ran since the last call, and begins to keep
// them.
func (d *Disk) Log() []blk.Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	d.log, d.logging = nil, true
	return log
}
