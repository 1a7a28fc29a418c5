package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
	"keel/hcl/pci"
	"keel/hcl/sys"
)

// registers is a BAR that addresses memory. What can be mapped is mapped, and costs
// one instruction beside the checks; the rest goes through the kernel.
type registers struct {
	function *Function
	size     int
	offset   uint64 // of the BAR in the device's file
	hole     span   // the MSI-X table: the kernel's, not a driver's
	areas    []area // ascending
	sealed   atomic.Bool
}

// area is a part of a BAR that is mapped.
type area struct {
	start, end int
	mapping    []byte
}

var _ pci.Registers = (*registers)(nil)

// Registers maps a BAR. Asking again returns the same. The MSI-X table is left out
// and belongs to the kernel. The error wraps pci.ErrLimit when there is no such BAR,
// when it addresses ports, or has more than 1 GiB.
func (f *Function) Registers(bar int) (pci.Registers, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return nil, fmt.Errorf("%w: %w", ErrBAR, f.state)
	}
	if bar < 0 || bar >= cfgBARs {
		return nil, fmt.Errorf("%w: %w: no BAR %d", ErrBAR, pci.ErrLimit, bar)
	}
	if f.bars[bar] == nil {
		r, err := f.mapBAR(bar)
		if err != nil {
			return nil, fmt.Errorf("%w: BAR %d of %s: %w", ErrBAR, bar, f.id.Address, err)
		}
		f.bars[bar] = r
	}
	return f.bars[bar], nil
}

// mapBAR maps what can be mapped of a BAR.
func (f *Function) mapBAR(bar int) (*registers, error) {
	info, err := f.device.region(vfio.PCI_BAR0_REGION_INDEX + uint32(bar))
	if err != nil {
		return nil, err
	}
	if info.size == 0 || info.size > maxBAR {
		return nil, fmt.Errorf("%w: %#x bytes", pci.ErrLimit, info.size)
	}
	var b [4]byte
	if err := f.device.readAt(b[:], f.config.offset+cfgBAR0+4*uint64(bar)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if binary.LittleEndian.Uint32(b[:])&barIO != 0 {
		return nil, fmt.Errorf("%w: it addresses ports", pci.ErrLimit)
	}
	r := &registers{function: f, size: int(info.size), offset: info.offset}
	if bar == f.msix.bar && f.msix.vectors > 0 {
		if r.hole = f.msix.table; r.hole.end > info.size {
			return nil, fmt.Errorf("%w: an MSI-X table up to %#x in %#x bytes", ErrHardware, r.hole.end, info.size)
		}
	}
	var mappings [][]byte
	for _, s := range mappable(&info, r.hole) {
		m, err := f.device.mmap(info.offset+s.start, int(pages(s.end-s.start)))
		if err != nil {
			continue // the kernel reads and writes what cannot be mapped
		}
		mappings = append(mappings, m)
		r.areas = append(r.areas, area{int(s.start), int(s.end), m})
	}
	// The addresses of a mapping stay reserved after seal, until no driver has the
	// registers any more: none reaches what comes to lie there.
	runtime.AddCleanup(r, func(mappings [][]byte) {
		for _, m := range mappings {
			_ = unix.Munmap(m)
		}
	}, mappings)
	return r, nil
}

// mappable lists the whole pages of a region that can be mapped, without those that
// touch the hole. The last page may be cut by the end of the region.
func mappable(r *region, hole span) []span {
	var list []span
	add := func(start, end uint64) {
		start = pages(start)
		if end != r.size {
			end &^= pageSize - 1
		}
		if start < end {
			list = append(list, span{start, end})
		}
	}
	for _, a := range r.areas {
		if hole == (span{}) || !a.overlaps(hole) {
			add(a.start, a.end)
			continue
		}
		if below := hole.start &^ (pageSize - 1); a.start < below {
			add(a.start, below)
		}
		if above := pages(hole.end); above < a.end {
			add(above, a.end)
		}
	}
	return list
}

// seal makes the registers read as ones from now on, and lets go of the device.
func (r *registers) seal() {
	if r.sealed.Swap(true) {
		return
	}
	for _, a := range r.areas {
		// Should it fail, the device stays open until the registers are forgotten.
		_ = sys.Seal(a.mapping)
	}
}

// Size returns the size of the BAR in bytes.
func (r *registers) Size() int { return r.size }

// Where the access of a register goes.
const (
	nowhere = -1
	kernel  = -2
)

// find checks an access and returns its area, and the offset in it. The area is nil
// with the offset nowhere or kernel.
func (r *registers) find(offset, size int) (*area, int) {
	if r.sealed.Load() {
		return nil, nowhere
	}
	if offset < 0 || offset > r.size-size || offset&(size-1) != 0 {
		r.function.counts.outside.Add(1)
		return nil, nowhere
	}
	for i := range r.areas {
		if a := &r.areas[i]; a.start <= offset && offset+size <= a.end {
			return a, offset - a.start
		}
	}
	if s := (span{uint64(offset), uint64(offset + size)}); r.hole.end != 0 && s.overlaps(r.hole) {
		r.function.counts.outside.Add(1)
		return nil, nowhere
	}
	return nil, kernel
}

// fault counts an access to a mapping that turned out to have nothing behind it.
func (r *registers) fault() {
	if !r.sealed.Load() {
		r.function.counts.faults.Add(1)
	}
}

// Read32 loads 32 bits.
func (r *registers) Read32(offset int) uint32 {
	a, at := r.find(offset, 4)
	if a == nil {
		if at == nowhere {
			return ones32
		}
		var b [4]byte
		if !r.read(b[:], offset) {
			return ones32
		}
		return binary.LittleEndian.Uint32(b[:])
	}
	v, ok := sys.ReadRegister32(a.mapping, at)
	if !ok {
		r.fault()
		v = ones32
	}
	runtime.KeepAlive(r)
	return v
}

// Read64 loads 64 bits.
func (r *registers) Read64(offset int) uint64 {
	a, at := r.find(offset, 8)
	if a == nil {
		if at == nowhere {
			return ones64
		}
		var b [8]byte
		if !r.read(b[:], offset) {
			return ones64
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	v, ok := sys.ReadRegister64(a.mapping, at)
	if !ok {
		r.fault()
		v = ones64
	}
	runtime.KeepAlive(r)
	return v
}

// Write32 stores 32 bits.
func (r *registers) Write32(offset int, value uint32) {
	a, at := r.find(offset, 4)
	if a == nil {
		if at == kernel {
			r.write(binary.LittleEndian.AppendUint32(nil, value), offset)
		}
		return
	}
	if !sys.WriteRegister32(a.mapping, at, value) {
		r.fault()
	}
	runtime.KeepAlive(r)
}

// Write64 stores 64 bits.
func (r *registers) Write64(offset int, value uint64) {
	a, at := r.find(offset, 8)
	if a == nil {
		if at == kernel {
			r.write(binary.LittleEndian.AppendUint64(nil, value), offset)
		}
		return
	}
	if !sys.WriteRegister64(a.mapping, at, value) {
		r.fault()
	}
	runtime.KeepAlive(r)
}

// read asks the kernel for registers that are not mapped.
func (r *registers) read(p []byte, offset int) bool {
	return r.through(func(d device) error { return d.readAt(p, r.offset+uint64(offset)) })
}

// write has the kernel write registers that are not mapped.
func (r *registers) write(p []byte, offset int) {
	r.through(func(d device) error { return d.writeAt(p, r.offset+uint64(offset)) })
}

// through uses the device's file while it is open.
func (r *registers) through(access func(d device) error) bool {
	f := r.function
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.state != nil {
		return false
	}
	if err := access(f.device); err != nil {
		if !errors.Is(err, unix.EINTR) {
			f.counts.failed.Add(1)
		}
		return false
	}
	return true
}
