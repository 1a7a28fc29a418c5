package pic

// Registers of the 8259A pair, named after the datasheet "8259A Programmable
// Interrupt Controller" (Intel, order number 231468), and of the edge/level
// control registers, after "Intel I/O Controller Hub 9 Datasheet" (316972)
// §13.4.

// Where PCs have the chips, and the length of each range, in ports.
const (
	MasterPort = 0x20
	SlavePort  = 0xa0
	ELCRPort   = 0x4d0
	PortCount  = 2
	ELCRCount  = 2
)

// Inputs is the number of interrupt inputs of the pair. Input Cascade belongs
// to the slave.
const (
	Inputs  = 16
	Cascade = 2
)

// The first port: ICW1, OCW2 and OCW3 on write (8259A figures 7 and 8).
const (
	cmdICW1 = 1 << 4
	cmdOCW3 = 1 << 3

	icw1NeedICW4 = 1 << 0
	icw1Single   = 1 << 1

	ocw2LevelMask = 7
	ocw2Shift     = 5
	ocw2Specific  = 1 << 1 // of the shifted command: SL
	ocw2EOI       = 1 << 0 // EOI
	ocw2Rotate    = 1 << 2 // R

	ocw3ReadISR    = 1 << 0 // RIS
	ocw3Read       = 1 << 1 // RR
	ocw3Poll       = 1 << 2 // P
	ocw3Special    = 1 << 5 // SMM
	ocw3SetSpecial = 1 << 6 // ESMM
)

// The second port: ICW2 to ICW4 while initializing, otherwise OCW1, the mask.
const (
	icw2BaseMask = 0xf8
	icw4AutoEOI  = 1 << 1
	icw4FullNest = 1 << 4 // special fully nested mode
)

// pollPending marks a poll word that carries an interrupt (8259A "Poll Command").
const pollPending = 1 << 7

// ELCR bits that can be set: the timer, the keyboard, the cascade, the RTC and
// the coprocessor error are always edge triggered.
const (
	elcrMasterMask = 0xf8
	elcrSlaveMask  = 0xde
)

// Vector bases that PC firmware leaves behind.
const (
	resetMasterBase = 0x08
	resetSlaveBase  = 0x70
)

// spurious is the input that a chip names when its request has gone before it
// was acknowledged (8259A "Interrupt Sequence").
const spurious = 7
