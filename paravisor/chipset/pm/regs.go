package pm

import "keel/paravisor/chipset/isa"

// Fixed hardware registers, named after "Advanced Configuration and Power
// Interface Specification" 6.5, §4.8.3 and §4.8.4; their places and the sleep
// types follow "Intel I/O Controller Hub 9 Datasheet" (316972) §13.8.3.

// BlockSize is the length of the I/O range. The other offsets and sizes, in
// ports from its base, are what the FADT describes.
const (
	BlockSize = 0x28

	EventOffset   = 0x00 // PM1a_EVT_BLK: status and enable, two ports each
	EventSize     = 4
	ControlOffset = 0x04 // PM1a_CNT_BLK
	TimerOffset   = 0x08 // PM_TMR_BLK
	TimerSize     = 4
	GPE0Offset    = 0x20 // GPE0_BLK: status and enable, four ports each
	GPE0Size      = 8
)

// GPECount is the number of general-purpose events of GPE0.
const GPECount = GPE0Size / 2 * 8

// TimerFrequency is that of the power management timer (§4.8.2.1).
const TimerFrequency isa.Hz = 3579545

// TimerBits is the width of the timer: the FADT's flag TMR_VAL_EXT is set.
const TimerBits = 32

// SleepTypeS5 is the value of SLP_TYP that the DSDT's \_S5 names.
const SleepTypeS5 = 7

// PM1 status (§4.8.3.1.1) and enable (§4.8.3.1.2), which share bit positions.
const (
	pm1Timer       = 1 << 0
	pm1BusMaster   = 1 << 4 // status only
	pm1Global      = 1 << 5
	pm1PowerButton = 1 << 8
	pm1RTC         = 1 << 10 // enable only: without sleep states there is nothing to wake
	pm1Wake        = 1 << 15 // status only

	pm1StatusMask = pm1Timer | pm1BusMaster | pm1Global | pm1PowerButton | pm1Wake
	pm1EnableMask = pm1Timer | pm1Global | pm1PowerButton | pm1RTC
)

// PM1 control (§4.8.3.2.1).
const (
	cntSCIEnable      = 1 << 0
	cntBusMasterRL    = 1 << 1
	cntSleepTypeShift = 10
	cntSleepTypeMask  = 7
	cntSleepEnable    = 1 << 13 // write-only
	cntStored         = cntBusMasterRL | cntSleepTypeMask<<cntSleepTypeShift
)
