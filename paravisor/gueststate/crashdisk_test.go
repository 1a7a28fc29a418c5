package gueststate

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"keel/translate/blk"
)

// crashDisk is a disk with a volatile cache whose power fails at a chosen moment. Until a
// flush each block that was written may or may not be on the medium, in any of the
// versions that it had since; a block is never torn.
type crashDisk struct {
	info blk.Info

	mu      sync.Mutex
	medium  map[uint64][]byte   // blocks; those that are absent are zero
	cache   map[uint64][][]byte // versions since the last flush, oldest first
	ops     int                 // writes and flushes that came
	cut     int                 // the power fails during this one, counted from 1; 0: never
	dead    bool
	written int // blocks, without the zeroes on a new disk
}

func newCrashDisk(blockSize uint32) *crashDisk {
	return &crashDisk{
		info:   blk.Info{BlockSize: blockSize, Blocks: MinDisk / uint64(blockSize), Volatile: true},
		medium: map[uint64][]byte{}, cache: map[uint64][][]byte{},
	}
}

func (d *crashDisk) Info() blk.Info        { return d.info }
func (d *crashDisk) Watch(func(blk.Event)) {}
func (d *crashDisk) Cancel(*blk.Request)   {}

func (d *crashDisk) Submit(_ int, r *blk.Request) {
	d.mu.Lock()
	err := d.run(r)
	d.mu.Unlock()
	r.Complete(err)
}

func (d *crashDisk) run(r *blk.Request) error {
	if d.dead {
		return blk.ErrRemoved
	}
	if err := r.Check(&d.info); err != nil { // lets reads, writes and flushes through
		return err
	}
	if r.Op != blk.OpRead {
		d.ops++
		d.dead = d.ops == d.cut
	}
	size := int(d.info.BlockSize)
	lba := r.LBA
	for _, s := range r.Segments {
		if len(d.medium)+len(d.cache) == 0 && (r.Op == blk.OpRead || zero(s.Data)) {
			if r.Op == blk.OpRead {
				clear(s.Data)
			}
			lba += uint64(len(s.Data) / size)
			continue // a new disk, and nothing but zeroes so far
		}
		for at := 0; at < len(s.Data); at, lba = at+size, lba+1 {
			b := s.Data[at : at+size]
			if r.Op == blk.OpRead {
				clear(b)
				copy(b, d.block(lba))
				continue
			}
			d.written++
			if !bytes.Equal(b, d.block(lba)) && (d.block(lba) != nil || !zero(b)) {
				d.cache[lba] = append(d.cache[lba], bytes.Clone(b))
			}
		}
	}
	if d.dead {
		return blk.ErrRemoved
	}
	if r.Op == blk.OpFlush {
		for lba, versions := range d.cache {
			d.medium[lba] = versions[len(versions)-1]
		}
		clear(d.cache)
	}
	return nil
}

// block returns what a read sees, nil for zeroes.
func (d *crashDisk) block(lba uint64) []byte {
	if v := d.cache[lba]; len(v) > 0 {
		return v[len(v)-1]
	}
	return d.medium[lba]
}

// aftermath is the disk at the next boot. choose picks, for each block that was not
// flushed, one of n versions; 0 is that on the medium.
func (d *crashDisk) aftermath(choose func(n int) int) *crashDisk {
	a := newCrashDisk(d.info.BlockSize)
	maps.Copy(a.medium, d.medium)
	for _, lba := range slices.Sorted(maps.Keys(d.cache)) {
		versions := d.cache[lba]
		if v := choose(len(versions) + 1); v > 0 {
			a.medium[lba] = versions[v-1]
		}
	}
	return a
}

// aftermaths calls f with every disk that the power failure may leave.
func (d *crashDisk) aftermaths(f func(*crashDisk)) {
	choice := make([]int, len(d.cache))
	for {
		var limits []int
		f(d.aftermath(func(n int) int {
			limits = append(limits, n)
			return choice[len(limits)-1]
		}))
		i := 0
		for ; i < len(choice); i++ {
			if choice[i]++; choice[i] < limits[i] {
				break
			}
			choice[i] = 0
		}
		if i == len(choice) {
			return
		}
	}
}
