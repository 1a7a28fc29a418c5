package vfio

import (
	"encoding/binary"
	"fmt"

	"keel/hcl/pci"
)

// msix is what the MSI-X capability of a function says.
type msix struct {
	vectors int  // 0 when there is no such capability
	bar     int  // where the table is
	table   span // in the BAR
}

// identify reads the header and the capabilities.
func (f *Function) identify() error {
	var c [cfgSize]byte
	// Four bytes at a time: the kernel hides some registers, one access at a time.
	for at := 0; at < len(c); at += 4 {
		if err := f.device.readAt(c[at:at+4], f.config.offset+uint64(at)); err != nil {
			return fmt.Errorf("%w at %#x: %w", ErrConfig, at, err)
		}
	}
	id, m, err := parseConfig(&c)
	if err != nil {
		return err
	}
	id.Address = f.id.Address
	f.id, f.msix = id, m
	return nil
}

// parseConfig reads a configuration space.
func parseConfig(c *[cfgSize]byte) (pci.ID, msix, error) {
	id := pci.ID{
		Vendor: binary.LittleEndian.Uint16(c[cfgVendorID:]),
		Device: binary.LittleEndian.Uint16(c[cfgDeviceID:]),
		Class:  binary.LittleEndian.Uint32(c[cfgClass:]) >> 8,
	}
	if id.Vendor == noVendor {
		return id, msix{}, fmt.Errorf("%w: %w: no vendor", ErrHardware, pci.ErrGone)
	}
	if t := c[cfgHeaderType] & headerTypeMask; t != headerTypeNormal {
		return id, msix{}, fmt.Errorf("%w: a header of type %d", ErrHardware, t)
	}
	m, err := parseMSIX(c)
	return id, m, err
}

// parseMSIX finds the MSI-X capability.
func parseMSIX(c *[cfgSize]byte) (msix, error) {
	if binary.LittleEndian.Uint16(c[cfgStatus:])&statusCapabilities == 0 {
		return msix{}, nil
	}
	at := int(c[cfgCapabilities] & capabilityMask)
	for range maxCapabilities {
		if at == 0 {
			return msix{}, nil
		}
		if at < cfgHeaderSize {
			return msix{}, fmt.Errorf("%w: %w: one at %#x", ErrHardware, ErrCapabilities, at)
		}
		if c[at] != capabilityMSIX {
			at = int(c[at+capabilityNext] & capabilityMask)
			continue
		}
		if at+msixSize > cfgSize {
			return msix{}, fmt.Errorf("%w: %w: MSI-X at %#x", ErrHardware, ErrCapabilities, at)
		}
		table := binary.LittleEndian.Uint32(c[at+msixTable:])
		m := msix{
			vectors: int(binary.LittleEndian.Uint16(c[at+msixControl:])&msixCountMask) + 1,
			bar:     int(table & msixBARMask),
		}
		if m.bar >= cfgBARs {
			return msix{}, fmt.Errorf("%w: the MSI-X table is in BAR %d", ErrHardware, m.bar)
		}
		start := uint64(table &^ msixBARMask)
		m.table = span{start, start + uint64(m.vectors)*msixEntrySize}
		return m, nil
	}
	return msix{}, fmt.Errorf("%w: %w: the list has no end", ErrHardware, ErrCapabilities)
}

// command turns bits of the command register on and off. The register is read back:
// the answer comes after all that the function had sent to memory before (PCI
// ordering), and the bits must have taken.
// Preconditions: mu is held for writing.
func (f *Function) command(on, off uint16) error {
	at := f.config.offset + cfgCommand
	var b [2]byte
	if err := f.device.readAt(b[:], at); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	want := binary.LittleEndian.Uint16(b[:])&^off | on
	binary.LittleEndian.PutUint16(b[:], want)
	if err := f.device.writeAt(b[:], at); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := f.device.readAt(b[:], at); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if got := binary.LittleEndian.Uint16(b[:]); (got^want)&(on|off) != 0 {
		return fmt.Errorf("%w: command register is %#x, want %#x", ErrConfig, got, want)
	}
	return nil
}
