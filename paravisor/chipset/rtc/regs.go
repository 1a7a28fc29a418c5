package rtc

// Registers of the MC146818A, named after the datasheet "MC146818A Real-Time
// Clock Plus RAM (RTC)" (Motorola, ADI1019), figures 10 to 16 and tables 2 to
// 5. The ports and the NMI mask are those of the PC AT.

// Port is the first of the PortCount I/O ports of the chip.
const (
	Port      = 0x70
	PortCount = 2
)

// Offsets of the ports.
const (
	portIndex = 0
	portData  = 1

	indexMask = 0x7f // bit 7 masks NMIs: nothing here raises one that must wait
)

// Size is the number of bytes behind the index port.
const Size = 128

// The clock's bytes; RAM follows them.
const (
	regSeconds      = 0x00
	regSecondsAlarm = 0x01
	regMinutes      = 0x02
	regMinutesAlarm = 0x03
	regHours        = 0x04
	regHoursAlarm   = 0x05
	regWeekday      = 0x06 // 1 is Sunday
	regDay          = 0x07
	regMonth        = 0x08
	regYear         = 0x09
	regA            = 0x0a
	regB            = 0x0b
	regC            = 0x0c
	regD            = 0x0d
)

// CenturyIndex is the byte that holds the century; the FADT names it.
const CenturyIndex = 0x32

// Register A.
const (
	aUIP          = 1 << 7
	aDividerMask  = 0x70
	aDividerRun   = 0x20 // 32.768 kHz time base
	aRateMask     = 0x0f
	aResetValue   = aDividerRun | 6 // 1024 Hz
	timeBase      = 32768
	updateWarning = 244_000 // ns from UIP to the update (table 6, tBUC)
)

// Register B.
const (
	bSET    = 1 << 7
	bPIE    = 1 << 6
	bAIE    = 1 << 5
	bUIE    = 1 << 4
	bSQWE   = 1 << 3
	bBinary = 1 << 2
	b24Hour = 1 << 1
)

// Register C. The flags stand where register B enables them.
const (
	cIRQF = 1 << 7
	cPF   = bPIE
	cAF   = bAIE
	cUF   = bUIE
	cMask = cPF | cAF | cUF
)

// dVRT in register D: RAM and time are valid.
const dVRT = 1 << 7

// Hours and alarms.
const (
	hourPM        = 1 << 7 // in 12-hour mode
	alarmDontCare = 0xc0
)
