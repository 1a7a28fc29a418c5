package pit

import "keel/paravisor/chipset/isa"

// Registers of the 8254, named after the datasheet "82C54 CHMOS Programmable
// Interval Timer" (Intel, order number 231244), and of port 61h, named after
// "Intel I/O Controller Hub 9 Datasheet" (316972) §13.7.1 (NMI_SC).

// PortBase and SpeakerPort are where PCs have the chip's two ranges;
// PortCount and SpeakerPortCount are their lengths, in ports.
const (
	PortBase         = 0x40
	PortCount        = 4
	SpeakerPort      = 0x61
	SpeakerPortCount = 1
)

// Frequency is the input clock of all three counters: 14.31818 MHz / 12.
const Frequency isa.Hz = 1193182

// regControl is the control word; the counters are at offsets 0 to 2.
const regControl = 3

// Control word format (82C54 figure 7).
const (
	cwBCD         = 1 << 0
	cwModeShift   = 1
	cwModeMask    = 7
	cwAccessShift = 4
	cwAccessMask  = 3
	cwSelectShift = 6
	cwKeep        = 0x3f // bits that the status byte returns as written

	selectReadBack = 3
)

// Access: which bytes of the count travel.
const (
	accessLatch = 0
	accessLow   = 1
	accessHigh  = 2
	accessBoth  = 3
)

// Read-back command (82C54 figure 10): a zero bit latches.
const (
	rbNoCount     = 1 << 5
	rbNoStatus    = 1 << 4
	rbSelectShift = 1
)

// Status byte (82C54 figure 11), beside the control word's bits.
const (
	statusOut  = 1 << 7
	statusNull = 1 << 6
)

// Port 61h. Bits 2 and 3 (parity and channel check enables) are storage only;
// bits 6 and 7 (their NMI sources) never assert.
const (
	spkGate2      = 1 << 0
	spkData       = 1 << 1
	spkWritable   = 0x0f
	spkRefresh    = 1 << 4
	spkOut2       = 1 << 5
	refreshPeriod = 18 // input clocks between refresh toggles: 15.085 us
)
