// Package vfio drives PCI functions that the host assigned to the VM from user
// space, through Linux's VFIO with the VM's IOMMU on. A Domain is the address space
// that all functions share: guest memory at its guest-physical addresses, and the
// buffers that drivers allocate. Whatever else a function tries to reach is an
// IOMMU fault.
//
// The host is not trusted: sizes and counts that a function tells are bounded,
// accesses to registers that are gone are harmless, and a function that the host
// takes away stops reaching memory before its driver hears of it.
//
// Specifications: Linux Documentation/driver-api/vfio.rst and
// Documentation/ABI/testing/sysfs-bus-pci; PCI Local Bus Specification 3.0 §6.
package vfio

import (
	"errors"
)

// Stage sentinels. What fails wraps one of them and its cause.
var (
	ErrFind     = errors.New("listing PCI functions")
	ErrAddress  = errors.New("not the address of a PCI function")
	ErrBind     = errors.New("binding a PCI function to vfio-pci")
	ErrBusy     = errors.New("another driver has the function")
	ErrGroup    = errors.New("IOMMU group is not Keel's alone")
	ErrNoIOMMU  = errors.New("no IOMMU stands between the function and memory")
	ErrDomain   = errors.New("DMA address space")
	ErrReach    = errors.New("beyond the reach of the IOMMU")
	ErrOpen     = errors.New("opening a PCI function")
	ErrHardware = errors.New("function describes itself wrongly")
	ErrBAR      = errors.New("mapping registers")
	ErrIRQ      = errors.New("making interrupts")
	ErrBuffer   = errors.New("allocating a DMA buffer")
	ErrConfig   = errors.New("configuration space")
	ErrReset    = errors.New("resetting the function")
	// ErrCapabilities says that a list of capabilities makes no sense.
	ErrCapabilities = errors.New("malformed capabilities")
)

// pageSize is the granularity of mappings, in memory and in the IOMMU.
const pageSize = 4096

// What a function may claim of itself.
const (
	maxBAR     = 1 << 30   // bytes of registers that are mapped
	maxVectors = 2048      // MSI-X has no more (PCI 3.0 §6.8.2.3)
	maxBuffer  = 64 << 20  // bytes of one buffer
	maxRegions = 64        // runs of guest memory
	ones32     = 1<<32 - 1 // what a register that is not there reads as
	ones64     = 1<<64 - 1
)

// The window of DMA addresses from which buffers come: in the hole below 4 GiB
// where a guest of Keel's has no RAM, so that devices with 32-bit addresses reach
// them too.
const (
	windowStart = 0xc0000000
	windowEnd   = 0xe0000000
)

// span is a run of addresses or offsets, end excluded. end is 0 for a run that
// reaches the last address of all.
type span struct{ start, end uint64 }

// last is the last address of a span that is not empty.
func (s span) last() uint64 { return s.end - 1 }

// holds tells whether o lies in s. Neither is empty.
func (s span) holds(o span) bool { return s.start <= o.start && o.last() <= s.last() }

// overlaps tells whether two spans, neither empty, have an address in common.
func (s span) overlaps(o span) bool { return s.start <= o.last() && o.start <= s.last() }

// pages rounds up to whole pages. Preconditions: n is far from the largest number.
func pages(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }
