package serial

// Register offsets and bits of the 16550A, named after the datasheet
// "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs"
// (National Semiconductor, TL/C/8652), table II and §8.

// PortCount is the length of the I/O range, in ports.
const PortCount = 8

const (
	regData = 0 // RBR on read, THR on write; DLL with DLAB
	regIER  = 1 // DLM with DLAB
	regIIR  = 2 // FCR on write
	regLCR  = 3
	regMCR  = 4
	regLSR  = 5
	regMSR  = 6
	regSCR  = 7
)

// Interrupt enable (§8.7). Bits 4 to 7 read as zero.
const (
	ierReceived    = 1 << 0
	ierTHREmpty    = 1 << 1
	ierLineStatus  = 1 << 2
	ierModemStatus = 1 << 3
	ierMask        = 0x0f
)

// Interrupt identification, by falling priority (table IV).
const (
	iirLineStatus  = 0x06
	iirReceived    = 0x04
	iirTimeout     = 0x0c
	iirTHREmpty    = 0x02
	iirModemStatus = 0x00
	iirNone        = 0x01
	iirFIFOs       = 0xc0
)

// FIFO control (§8.5).
const (
	fcrEnable       = 1 << 0
	fcrClearRX      = 1 << 1
	fcrTriggerShift = 6
)

// Line control (§8.1).
const (
	lcrBreak = 1 << 6
	lcrDLAB  = 1 << 7
)

// Modem control (§8.8). Bits 5 to 7 read as zero.
const (
	mcrDTR  = 1 << 0
	mcrRTS  = 1 << 1
	mcrOut1 = 1 << 2
	mcrOut2 = 1 << 3
	mcrLoop = 1 << 4
	mcrMask = 0x1f
)

// Line status (§8.4).
const (
	lsrDataReady = 1 << 0
	lsrOverrun   = 1 << 1
	lsrParity    = 1 << 2
	lsrFraming   = 1 << 3
	lsrBreak     = 1 << 4
	lsrTHREmpty  = 1 << 5
	lsrTXEmpty   = 1 << 6
	lsrFIFOError = 1 << 7

	lsrCharErrors = lsrParity | lsrFraming | lsrBreak
	lsrErrors     = lsrCharErrors | lsrOverrun
)

// Modem status (§8.9): changes in the low half, wires in the high half.
const (
	msrDeltaCTS  = 1 << 0
	msrDeltaDSR  = 1 << 1
	msrTrailRI   = 1 << 2
	msrDeltaDCD  = 1 << 3
	msrCTS       = 1 << 4
	msrDSR       = 1 << 5
	msrRI        = 1 << 6
	msrDCD       = 1 << 7
	msrWireShift = 4
)

// fifoDepth is the capacity of each FIFO, in characters.
const fifoDepth = 16

// resetDivisor is 9600 baud from 1.8432 MHz. The datasheet leaves the divisor
// undefined after reset; this is what firmware usually leaves behind.
const resetDivisor = 12

// triggerLevels are the receive FIFO's interrupt thresholds by FCR bits 6-7.
var triggerLevels = [4]int{1, 4, 8, 14}
