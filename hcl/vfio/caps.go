package vfio

import (
	"encoding/binary"
	"fmt"

	"keel/hcl/abi/vfio"
)

// Bounds of what capabilities may list.
const (
	maxChain  = 64  // capabilities of one structure
	maxAreas  = 16  // areas of a region that can be mapped
	maxRanges = 256 // address ranges of an IOMMU
)

// region is what VFIO says of a region of a function.
type region struct {
	flags  uint32
	size   uint64 // bytes; 0 when there is no such region
	offset uint64 // in the device's file
	// areas can be mapped, in the region's own offsets: all of it unless a
	// capability names less.
	areas []span
}

// iommuInfo is what VFIO says of the IOMMU of a container.
type iommuInfo struct {
	pageSizes uint64 // a bit for each size
	ranges    []span // addresses that functions can use; nil when unknown
	limited   bool   // available counts
	available uint32 // mappings that can still be made
}

// capability finds a capability in a structure with a chain of them, and returns
// the bytes from its header to the end of the structure, or nil. first is the offset
// of the chain, 0 when there is none; fixed is where the structure's own fields end.
func capability(b []byte, first uint32, fixed int, id uint16) ([]byte, error) {
	at := first
	for range maxChain {
		if at == 0 {
			return nil, nil
		}
		if uint64(at) < uint64(fixed) || uint64(at)+vfio.SizeofCapInfo > uint64(len(b)) {
			return nil, fmt.Errorf("%w: one at %d in %d bytes", ErrCapabilities, at, len(b))
		}
		c := b[at:]
		if binary.NativeEndian.Uint16(c[vfio.CapID:]) == id {
			if v := binary.NativeEndian.Uint16(c[vfio.CapVersion:]); v != 1 {
				return nil, fmt.Errorf("%w: %d is of version %d", ErrCapabilities, id, v)
			}
			return c, nil
		}
		at = binary.NativeEndian.Uint32(c[vfio.CapNext:])
	}
	return nil, fmt.Errorf("%w: the chain has no end", ErrCapabilities)
}

// list splits an array in a capability into its elements: count is at the first
// offset, the elements from the second one on.
func list(c []byte, countAt, at, size, limit int) ([][]byte, error) {
	if len(c) < at {
		return nil, fmt.Errorf("%w: %d bytes are too short", ErrCapabilities, len(c))
	}
	n := uint64(binary.NativeEndian.Uint32(c[countAt:]))
	if n > uint64(limit) || n*uint64(size) > uint64(len(c)-at) {
		return nil, fmt.Errorf("%w: %d elements in %d bytes", ErrCapabilities, n, len(c))
	}
	elements := make([][]byte, n)
	for i := range elements {
		elements[i] = c[at+i*size : at+(i+1)*size]
	}
	return elements, nil
}

// parseRegion reads struct vfio_region_info.
func parseRegion(b []byte) (region, error) {
	if len(b) < vfio.SizeofRegionInfo {
		return region{}, fmt.Errorf("%w: a region of %d bytes", ErrCapabilities, len(b))
	}
	r := region{
		flags:  binary.NativeEndian.Uint32(b[vfio.InfoFlags:]),
		size:   binary.NativeEndian.Uint64(b[vfio.RegionSize:]),
		offset: binary.NativeEndian.Uint64(b[vfio.RegionOffset:]),
	}
	// A file has no larger offsets.
	if r.size > 1<<62 || r.offset > 1<<62 {
		return region{}, fmt.Errorf("%w: a region of %#x bytes at %#x", ErrCapabilities, r.size, r.offset)
	}
	if r.flags&vfio.REGION_INFO_FLAG_MMAP == 0 || r.size == 0 {
		return r, nil
	}
	r.areas = []span{{0, r.size}}
	if r.flags&vfio.REGION_INFO_FLAG_CAPS == 0 {
		return r, nil
	}
	c, err := capability(b, binary.NativeEndian.Uint32(b[vfio.RegionCap:]), vfio.SizeofRegionInfo, vfio.REGION_INFO_CAP_SPARSE_MMAP)
	if c == nil || err != nil {
		return r, err
	}
	areas, err := list(c, vfio.SparseCount, vfio.SparseAreas, vfio.SizeofArea, maxAreas)
	if err != nil {
		return region{}, err
	}
	r.areas = nil
	for _, a := range areas {
		start := binary.NativeEndian.Uint64(a[vfio.AreaOffset:])
		size := binary.NativeEndian.Uint64(a[vfio.AreaSize:])
		if start > r.size || size > r.size-start {
			return region{}, fmt.Errorf("%w: an area at %#x+%#x of a region of %#x bytes", ErrCapabilities, start, size, r.size)
		}
		if size != 0 {
			r.areas = append(r.areas, span{start, start + size})
		}
	}
	return r, nil
}

// parseIOMMU reads struct vfio_iommu_type1_info.
func parseIOMMU(b []byte) (iommuInfo, error) {
	const fixed = vfio.IOMMUCap + 4
	if len(b) < fixed {
		return iommuInfo{}, fmt.Errorf("%w: an IOMMU of %d bytes", ErrCapabilities, len(b))
	}
	flags := binary.NativeEndian.Uint32(b[vfio.InfoFlags:])
	i := iommuInfo{pageSizes: pageSize}
	if flags&vfio.IOMMU_INFO_PGSIZES != 0 {
		i.pageSizes = binary.NativeEndian.Uint64(b[vfio.IOMMUPageSizes:])
	}
	if flags&vfio.IOMMU_INFO_CAPS == 0 {
		return i, nil
	}
	first := binary.NativeEndian.Uint32(b[vfio.IOMMUCap:])
	c, err := capability(b, first, fixed, vfio.IOMMU_TYPE1_INFO_DMA_AVAIL)
	if err != nil {
		return iommuInfo{}, err
	}
	if len(c) >= vfio.DMAAvail+4 {
		i.limited, i.available = true, binary.NativeEndian.Uint32(c[vfio.DMAAvail:])
	}
	if c, err = capability(b, first, fixed, vfio.IOMMU_TYPE1_INFO_CAP_IOVA_RANGE); c == nil || err != nil {
		return i, err
	}
	ranges, err := list(c, vfio.IOVACount, vfio.IOVARanges, vfio.SizeofRange, maxRanges)
	if err != nil {
		return iommuInfo{}, err
	}
	i.ranges = []span{}
	for _, r := range ranges {
		start := binary.NativeEndian.Uint64(r[vfio.RangeStart:])
		last := binary.NativeEndian.Uint64(r[vfio.RangeEnd:])
		if last < start {
			return iommuInfo{}, fmt.Errorf("%w: a range from %#x to %#x", ErrCapabilities, start, last)
		}
		i.ranges = append(i.ranges, span{start, last + 1})
	}
	return i, nil
}
