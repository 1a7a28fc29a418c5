package vfio

// Registers of the configuration space, named after the PCI Local Bus
// Specification 3.0, §6.1 and §6.8.2.
const (
	cfgVendorID     = 0x00 // 16 bits
	cfgDeviceID     = 0x02 // 16 bits
	cfgCommand      = 0x04 // 16 bits
	cfgStatus       = 0x06 // 16 bits
	cfgClass        = 0x08 // revision in the low byte, class above
	cfgHeaderType   = 0x0e // 8 bits
	cfgBAR0         = 0x10 // 6 of 32 bits
	cfgCapabilities = 0x34 // 8 bits: where the list starts

	cfgBARs       = 6
	cfgSize       = 256  // of a conventional function
	cfgSizePCIe   = 4096 // of an Express function
	cfgHeaderSize = 64   // nothing before it belongs to a capability

	commandMemory      = 1 << 1
	commandMaster      = 1 << 2
	commandINTxDisable = 1 << 10

	statusCapabilities = 1 << 4

	headerTypeMask   = 0x7f // bit 7: the device has several functions
	headerTypeNormal = 0

	barIO = 1 << 0 // the BAR addresses ports, not memory

	noVendor = 0xffff // reads where there is no function
)

// The list of capabilities: identifier, offset of the next.
const (
	capabilityNext = 1
	capabilityMask = 0xfc // the low two bits are reserved
	capabilityMSIX = 0x11

	// A capability takes 4 bytes at least.
	maxCapabilities = (cfgSize - cfgHeaderSize) / 4
)

// The MSI-X capability (§6.8.2).
const (
	msixControl = 2 // 16 bits
	msixTable   = 4 // 32 bits: which BAR, and the offset in it
	msixSize    = 12

	msixCountMask = 0x7ff // vectors - 1
	msixBARMask   = 7
	msixEntrySize = 16
)

// Classes of functions, base and subclass (PCI Code and ID Assignment
// Specification 1.11 §1).
const (
	classBridge = 0x060400
	classMask   = 0xffff00
)
