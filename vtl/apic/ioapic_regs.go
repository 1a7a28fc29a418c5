package apic

// Pins is the number of interrupt inputs of the IOAPIC.
const Pins = 24

// IOAPICSize is the size of the IOAPIC's register window in bytes.
const IOAPICSize = 0x1000

// Offsets in the register window (82093AA §3.1; the EOI register came with
// version 20h).
const (
	ioRegSelect = 0x00
	ioRegWindow = 0x10
	ioRegEOI    = 0x40
)

// Indirect registers (82093AA §3.2): redirection entries are pairs of 32-bit
// registers from ioTable on.
const (
	ioID          = 0x00
	ioVersion     = 0x01
	ioArbitration = 0x02
	ioTable       = 0x10

	ioIDBits       = 0x0F000000
	ioVersionValue = 0x20 | (Pins-1)<<16
)

// Bits of a redirection entry (82093AA §3.2.4). Delivery takes no time here,
// so that the delivery status in bit 12 always reads idle. The seven bits
// below the destination extend it as those of an MSI address do.
const (
	rteVector      = 0xFF
	rteModeShift   = 8
	rteMode        = 7 << rteModeShift
	rteLogical     = 1 << 11
	rtePolarity    = 1 << 13
	rteRemoteIRR   = 1 << 14
	rteLevel       = 1 << 15
	rteMasked      = 1 << 16
	rteExtendShift = 49
	rteExtend      = 0x7F
	rteDestShift   = 56
	rteWritable    = rteVector | rteMode | rteLogical | rtePolarity | rteLevel | rteMasked |
		rteExtend<<rteExtendShift | 0xFF<<rteDestShift
)
