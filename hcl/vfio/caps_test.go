package vfio

import (
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"

	"keel/hcl/abi/vfio"
)

// words lays numbers of 32 bits out as the kernel does.
func words(v ...uint32) []byte {
	var b []byte
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

const (
	mapFlag  = vfio.REGION_INFO_FLAG_READ | vfio.REGION_INFO_FLAG_WRITE | vfio.REGION_INFO_FLAG_MMAP
	capsFlag = mapFlag | vfio.REGION_INFO_FLAG_CAPS
)

// regionBytes is a struct vfio_region_info of 16 KiB at 1 MiB, and what follows it.
func regionBytes(flags, first uint32, after ...uint32) []byte {
	b := words(0, flags, 0, first, 0x4000, 0, 0x100000, 0)
	b = append(b, words(after...)...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestParseRegion(t *testing.T) {
	whole := []span{{0, 0x4000}}
	sparse := []uint32{1<<16 | 1, 0, 2, 0, 0, 0, 0x1000, 0, 0x3000, 0, 0x1000, 0}
	for _, c := range []struct {
		name  string
		b     []byte
		areas []span
		bad   bool
	}{
		{name: "short", b: make([]byte, vfio.SizeofRegionInfo-1), bad: true},
		{name: "not mapped", b: regionBytes(vfio.REGION_INFO_FLAG_READ, 0)},
		{name: "mapped", b: regionBytes(mapFlag, 0), areas: whole},
		{name: "capability without the flag", b: regionBytes(mapFlag, 32, sparse...), areas: whole},
		{name: "empty chain", b: regionBytes(capsFlag, 0), areas: whole},
		{name: "sparse", b: regionBytes(capsFlag, 32, sparse...), areas: []span{{0, 0x1000}, {0x3000, 0x4000}}},
		{name: "sparse behind another", b: regionBytes(capsFlag, 32, append([]uint32{1<<16 | 3, 40}, sparse...)...), areas: []span{{0, 0x1000}, {0x3000, 0x4000}}},
		{name: "no area", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 0, 0)},
		{name: "an empty area", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 1, 0, 0x4000, 0, 0, 0)},
		{name: "another version", b: regionBytes(capsFlag, 32, 2<<16|1, 0, 0, 0), bad: true},
		{name: "chain in the structure", b: regionBytes(capsFlag, 16), bad: true},
		{name: "chain beyond", b: regionBytes(capsFlag, 1<<31), bad: true},
		{name: "header cut", b: regionBytes(capsFlag, 32, 1<<16|1), bad: true},
		{name: "array cut", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 1, 0, 0, 0), bad: true},
		{name: "count cut", b: regionBytes(capsFlag, 32, 1<<16|1, 0), bad: true},
		{name: "count huge", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 1<<31, 0), bad: true},
		{name: "a loop", b: regionBytes(capsFlag, 32, 1<<16|3, 32), bad: true},
		{name: "area beyond", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 1, 0, 0x3000, 0, 0x2000, 0), bad: true},
		{name: "area that wraps", b: regionBytes(capsFlag, 32, 1<<16|1, 0, 1, 0, 0x1000, 0, 0xffffffff, 0xffffffff), bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := parseRegion(c.b)
			if c.bad {
				if !errors.Is(err, ErrCapabilities) {
					t.Errorf("%+v, %v; want ErrCapabilities", r, err)
				}
				return
			}
			if err != nil || r.size != 0x4000 || r.offset != 0x100000 || !slices.Equal(r.areas, c.areas) {
				t.Errorf("%+v, %v; want areas %v", r, err, c.areas)
			}
		})
	}
}

func TestParseRegionSize(t *testing.T) {
	for _, at := range []int{vfio.RegionSize, vfio.RegionOffset} {
		b := regionBytes(mapFlag, 0)
		binary.NativeEndian.PutUint64(b[at:], 1<<63)
		if r, err := parseRegion(b); !errors.Is(err, ErrCapabilities) {
			t.Errorf("%+v, %v; want ErrCapabilities", r, err)
		}
	}
}

// iommuBytes is a struct vfio_iommu_type1_info and what follows it.
func iommuBytes(flags, first uint32, after ...uint32) []byte {
	return append(words(0, flags, 0x40201000, 0, first, 0), words(after...)...)
}

func TestParseIOMMU(t *testing.T) {
	const both = vfio.IOMMU_INFO_PGSIZES | vfio.IOMMU_INFO_CAPS
	avail := []uint32{1<<16 | 3, 40, 65535, 0}
	ranges := []uint32{1<<16 | 1, 0, 2, 0, 0, 0, 0xfedfffff, 0, 0xfef00000, 0, 0xffffffff, 0xffffffff}
	for _, c := range []struct {
		name string
		b    []byte
		want iommuInfo
		bad  bool
	}{
		{name: "short", b: words(20, both, 0, 0), bad: true},
		{name: "nothing known", b: iommuBytes(0, 0), want: iommuInfo{pageSizes: pageSize}},
		{name: "page sizes", b: iommuBytes(vfio.IOMMU_INFO_PGSIZES, 0), want: iommuInfo{pageSizes: 0x40201000}},
		{name: "all", b: iommuBytes(both, 24, append(avail, ranges...)...), want: iommuInfo{
			0x40201000, []span{{0, 0xfee00000}, {0xfef00000, 0}}, true, 65535,
		}},
		{name: "no range at all", b: iommuBytes(both, 24, 1<<16|1, 0, 0, 0), want: iommuInfo{0x40201000, []span{}, false, 0}},
		{name: "range reversed", b: iommuBytes(both, 24, 1<<16|1, 0, 1, 0, 1, 0, 0, 0), bad: true},
		{name: "too many", b: iommuBytes(both, 24, 1<<16|1, 0, 257, 0), bad: true},
		{name: "a loop", b: iommuBytes(both, 24, 1<<16|2, 24), bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseIOMMU(c.b)
			if c.bad != errors.Is(err, ErrCapabilities) || !c.bad && !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// FuzzCapabilities reads arbitrary bytes as both structures.
func FuzzCapabilities(f *testing.F) {
	f.Add(regionBytes(capsFlag, 32, 1<<16|1, 0, 1, 0, 0, 0, 0x1000, 0), uint64(0x1100), uint64(0x1180))
	f.Add(regionBytes(capsFlag, 32, 1<<16|3, 40, 1<<16|1, 0, 0, 0), uint64(0), uint64(0))
	f.Add(iommuBytes(3, 24, 1<<16|3, 40, 65535, 0, 1<<16|1, 0, 1, 0, 0, 0, 0xffffffff, 0), uint64(0), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, start, end uint64) {
		if r, err := parseRegion(b); err == nil {
			checkAreas(t, &r, span{start, end})
		}
		info, err := parseIOMMU(b)
		if err != nil {
			return
		}
		if len(info.ranges) > maxRanges {
			t.Errorf("%d ranges", len(info.ranges))
		}
		s := newSpace(span{windowStart, windowEnd}, info.ranges)
		if at, ok := s.take(pageSize); ok {
			got := span{at, at + pageSize}
			if !s.window.holds(got) || info.ranges != nil && !slices.ContainsFunc(info.ranges, func(r span) bool { return r.holds(got) }) {
				t.Errorf("%#x is handed out", at)
			}
		}
	})
}

// checkAreas checks what would be mapped of a region.
func checkAreas(t *testing.T, r *region, hole span) {
	t.Helper()
	if hole.end <= hole.start || hole.end > r.size {
		hole = span{}
	}
	for _, a := range mappable(r, hole) {
		if a.start >= a.end || a.end > r.size || a.start%pageSize != 0 || a.end%pageSize != 0 && a.end != r.size {
			t.Errorf("%#x-%#x of %#x would be mapped", a.start, a.end, r.size)
		}
		if hole != (span{}) && (span{a.start, pages(a.end)}).overlaps(hole) {
			t.Errorf("%#x-%#x would be mapped, over %#x-%#x", a.start, a.end, hole.start, hole.end)
		}
		if !slices.ContainsFunc(r.areas, func(o span) bool { return o.holds(a) }) {
			t.Errorf("%#x-%#x would be mapped, not of an area", a.start, a.end)
		}
	}
}

func TestMappable(t *testing.T) {
	for _, c := range []struct {
		name string
		size uint64
		in   []span
		hole span
		want []span
	}{
		{"nothing", 0x4000, nil, span{}, nil},
		{"all", 0x4000, []span{{0, 0x4000}}, span{}, []span{{0, 0x4000}}},
		{"less than a page", 0x100, []span{{0, 0x100}}, span{}, []span{{0, 0x100}}},
		{"a table in the middle", 0x4000, []span{{0, 0x4000}}, span{0x1100, 0x1180}, []span{{0, 0x1000}, {0x2000, 0x4000}}},
		{"a table over a boundary", 0x4000, []span{{0, 0x4000}}, span{0xff0, 0x1010}, []span{{0x2000, 0x4000}}},
		{"a table at the end", 0x4000, []span{{0, 0x4000}}, span{0x3f00, 0x4000}, []span{{0, 0x3000}}},
		{"a table in less than a page", 0x800, []span{{0, 0x800}}, span{0x400, 0x480}, nil},
		{"areas that are not whole pages", 0x4000, []span{{0x10, 0x2010}, {0x3000, 0x3ff0}}, span{}, []span{{0x1000, 0x2000}}},
		{"sparse around a table", 0x4000, []span{{0, 0x1000}, {0x2000, 0x4000}}, span{0x1000, 0x1080}, []span{{0, 0x1000}, {0x2000, 0x4000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := region{size: c.size, areas: c.in}
			if got := mappable(&r, c.hole); !slices.Equal(got, c.want) {
				t.Errorf("%#x, want %#x", got, c.want)
			}
			checkAreas(t, &r, c.hole)
		})
	}
}
