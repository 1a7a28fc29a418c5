package guestload

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"keel/hcl/abi/x86"
)

const (
	fourGiB       = 4 << 30
	maxRAMBelow4G = fourGiB
	ebdaStart     = 0x9fc00 // the last KiB of conventional memory belongs to firmware
	conventional  = 0xa0000
	maxE820       = 128 // entries that the boot parameters hold
)

// Kind is the type of a region of the memory map (ACPI 6.5 §15, table 15.4).
type Kind uint32

// The kinds of memory that Keel reports.
const (
	KindRAM      Kind = 1
	KindReserved Kind = 2
	KindACPI     Kind = 3 // tables that the guest may reclaim
	KindNVS      Kind = 4 // memory that the guest must leave alone
)

// Region is a part of the guest's physical address space.
type Region struct {
	Start x86.GPA
	Size  uint64 // in bytes
	Kind  Kind
}

// End returns the first address behind the region.
func (r Region) End() x86.GPA { return r.Start + x86.GPA(r.Size) }

// Map is the guest's physical memory.
type Map struct {
	LowRAM   uint64   // bytes of RAM from address 0, below the PCI window
	HighRAM  uint64   // bytes of RAM from 4 GiB on
	Reserved []Region // firmware tables, ECAM: what else the guest is told
}

// ErrMap reports a Map that contradicts itself, a defect of the machine's
// description.
var ErrMap = errors.New("guest memory map")

// E820 returns the memory map for the guest, sorted. Conventional memory ends
// at the EBDA, and what lies between it and 1 MiB is RAM only to firmware.
func (m Map) E820() ([]Region, error) {
	if m.LowRAM <= firstMegabyte || m.LowRAM > fourGiB {
		return nil, fmt.Errorf("%w: %#x bytes of low RAM", ErrMap, m.LowRAM)
	}
	regions := []Region{
		{0, ebdaStart, KindRAM},
		{ebdaStart, conventional - ebdaStart, KindReserved},
		{firstMegabyte, m.LowRAM - firstMegabyte, KindRAM},
	}
	if m.HighRAM > 0 {
		regions = append(regions, Region{fourGiB, m.HighRAM, KindRAM})
	}
	regions = append(regions, m.Reserved...)
	if len(regions) > maxE820 {
		return nil, fmt.Errorf("%w: %d regions", ErrMap, len(regions))
	}
	slices.SortFunc(regions, func(a, b Region) int { return cmp.Compare(a.Start, b.Start) })
	for i, r := range regions {
		if r.Size == 0 || r.End() < r.Start {
			return nil, fmt.Errorf("%w: %#x bytes at %#x", ErrMap, r.Size, r.Start)
		}
		if i > 0 && r.Start < regions[i-1].End() {
			return nil, fmt.Errorf("%w: regions overlap at %#x", ErrMap, r.Start)
		}
	}
	return regions, nil
}
