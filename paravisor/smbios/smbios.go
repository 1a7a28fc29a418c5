// Package smbios builds the SMBIOS tables from which the guest's user space
// learns what machine it runs on.
//
// Specification: DMTF DSP0134, System Management BIOS 3.0.
package smbios

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"keel/hcl/abi/x86"
)

// ErrBuild reports an Info that the tables cannot describe.
var ErrBuild = errors.New("SMBIOS tables")

// Range is a range of RAM.
type Range struct {
	Start x86.GPA
	Size  uint64 // in bytes, a multiple of 1 MiB
}

// Info is what the tables tell.
type Info struct {
	Version     string   // of Keel
	Date        string   // of Keel's build, as mm/dd/yyyy
	Serial      string   // of the machine: the guest's name
	UUID        [16]byte // of the machine, in the order of RFC 4122
	Sockets     int
	Cores       int    // a socket
	Threads     int    // a core
	ProcessorID uint64 // EAX and, in the upper half, EDX of CPUID leaf 1
	Processor   string // brand string
	RAM         []Range
}

const manufacturer = "Keel"

// Entry point (DSP0134 §5.2.2).
const (
	entrySize   = 24
	tableOffset = 32 // of the structures, from the entry point
	maxString   = 64
	maxCount    = 256 // sockets, and threads in one
	maxRanges   = 8
)

// le writes the numbers of the tables.
var le = binary.LittleEndian

// Build returns the entry point, for a multiple of 16 in 0xf0000–0xfffff where
// guests search for it, and behind it the structures. Its errors are ErrBuild.
func Build(base x86.GPA, info Info) ([]byte, error) {
	if err := info.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	table := structures(info)
	b := make([]byte, tableOffset, tableOffset+len(table))
	copy(b, "_SM3_")
	b[6] = entrySize
	b[7], b[8], b[9] = 3, 0, 0 // version 3.0, first edition
	b[10] = 1                  // revision of the entry point
	le.PutUint32(b[12:], uint32(len(table)))
	le.PutUint64(b[16:], uint64(base)+tableOffset)
	var sum byte
	for _, c := range b[:entrySize] {
		sum += c
	}
	b[5] = -sum
	return append(b, table...), nil
}

func (i Info) check() error {
	for _, s := range []string{i.Version, i.Date, i.Serial, i.Processor} {
		if len(s) > maxString || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("the string %q", s)
		}
	}
	if min(i.Sockets, i.Cores, i.Threads) < 1 || max(i.Sockets, i.Cores, i.Threads, i.Cores*i.Threads) > maxCount {
		return fmt.Errorf("%d sockets of %d cores of %d threads", i.Sockets, i.Cores, i.Threads)
	}
	if len(i.RAM) == 0 || len(i.RAM) > maxRanges {
		return fmt.Errorf("%d ranges of RAM", len(i.RAM))
	}
	for _, r := range i.RAM {
		if r.Size == 0 || r.Size%mib != 0 || uint64(r.Start)%mib != 0 || uint64(r.Start)+r.Size > maxAddress {
			return fmt.Errorf("RAM of %#x bytes at %#x", r.Size, r.Start)
		}
	}
	return nil
}
