package hv

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// unit is one unit of the reference time in nanoseconds.
const unit = 1_000_000_000 / hv.REFERENCE_HZ

// tscSequence is the sequence number of the reference TSC page. Scale and offset
// never change, so neither does it.
const tscSequence = 1

// reference is the partition's reference time, in units of 100 ns (TLFS "Reference
// Counter"). Where the frequency of the time stamp counter is known, the counter
// is the source, so that the register, the page and the timers agree to the unit.
type reference struct {
	start int64         // the time when the partition was made
	hz    atomic.Uint64 // of the time stamp counter, 0 when it is not the source
	scale uint64

	mu     sync.Mutex // guards the first setting of offset
	set    atomic.Bool
	offset int64
}

// SetTSCHz tells the frequency of the guest's time stamp counter, 0 when it is unknown.
// A counter no faster than the reference time is of no use.
// Preconditions: no VP has run yet.
func (h *Hypervisor) SetTSCHz(hz uint64) {
	h.reference.hz.Store(0)
	if h.config.TSC == nil || hz <= hv.REFERENCE_HZ {
		return
	}
	h.reference.scale, _ = bits.Div64(hv.REFERENCE_HZ, 0, hz)
	h.reference.hz.Store(hz)
}

// usable reports whether the time stamp counter is the source.
func (r *reference) usable() bool { return r.hz.Load() != 0 }

// now returns the reference time as a VP sees it.
func (h *Hypervisor) now(vp int) uint64 {
	r := &h.reference
	if !r.usable() {
		return h.elapsed()
	}
	if !r.set.Load() {
		h.calibrate(vp)
	}
	ticks, _ := bits.Mul64(h.config.TSC(vp), r.scale)
	// A guest that turns its counter back does not get a time before the beginning.
	return uint64(max(int64(ticks)+r.offset, 0))
}

// elapsed is the reference time without the counter.
func (h *Hypervisor) elapsed() uint64 {
	return uint64(max(h.config.Now()-h.reference.start, 0) / unit)
}

// calibrate sets the offset when the guest asks for the time first: before that
// there may be no VP whose counter could be read.
func (h *Hypervisor) calibrate(vp int) {
	r := &h.reference
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set.Load() {
		return
	}
	ticks, _ := bits.Mul64(h.config.TSC(vp), r.scale)
	r.offset = int64(h.elapsed() - ticks)
	r.set.Store(true)
}

// tscPageContent returns the reference TSC page (TLFS HV_REFERENCE_TSC_PAGE).
func (h *Hypervisor) tscPageContent(vp int) []byte {
	h.now(vp) // sets the offset
	p := make([]byte, x86.PageSize)
	binary.LittleEndian.PutUint32(p[hv.TSC_PAGE_SEQUENCE:], tscSequence)
	binary.LittleEndian.PutUint64(p[hv.TSC_PAGE_SCALE:], h.reference.scale)
	binary.LittleEndian.PutUint64(p[hv.TSC_PAGE_OFFSET:], uint64(h.reference.offset))
	return p
}
