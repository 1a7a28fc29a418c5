package apic

// Local APIC registers: the offset in the xAPIC page divided by 16, which is
// also the x2APIC MSR minus 0x800 (Intel SDM vol. 3, chapter "APIC", tables
// "Local APIC Register Address Map" and "Local APIC Register Address Map
// Supported by x2APIC").
const (
	regID       = 0x02
	regVersion  = 0x03
	regTPR      = 0x08
	regAPR      = 0x09
	regPPR      = 0x0A
	regEOI      = 0x0B
	regRRD      = 0x0C
	regLDR      = 0x0D
	regDFR      = 0x0E
	regSVR      = 0x0F
	regISR      = 0x10 // eight registers
	regTMR      = 0x18 // eight registers
	regIRR      = 0x20 // eight registers
	regESR      = 0x28
	regICR      = 0x30
	regICRHigh  = 0x31
	regLVTTimer = 0x32
	regLVTTherm = 0x33
	regLVTPMI   = 0x34
	regLVTLINT0 = 0x35
	regLVTLINT1 = 0x36
	regLVTError = 0x37
	regInitial  = 0x38
	regCurrent  = 0x39
	regDivide   = 0x3E
	regSelfIPI  = 0x3F // x2APIC only
)

// versionValue is an integrated APIC (14h) with six LVT entries (the field
// holds the number of the last one): there is no CMCI entry, because the guest
// gets no corrected machine checks, and no EOI-broadcast suppression.
const versionValue = 0x14 | (lvtCount-1)<<16

// Bits of IA32_APIC_BASE.
const (
	baseBSP      = 1 << 8
	baseX2       = 1 << 10
	baseEnable   = 1 << 11
	baseAddress  = (1<<52 - 1) &^ (1<<12 - 1)
	baseWritable = baseBSP | baseX2 | baseEnable | baseAddress
)

// Bits of the spurious-interrupt vector register. The focus bit is kept for
// software that sets it; it has no effect.
const (
	svrVector = 0xFF
	svrEnable = 1 << 8
	svrFocus  = 1 << 9
	svrReset  = 0xFF
)

// Bits of the error status register that this APIC can set. Bits 0 to 3 exist
// on the P6 family only, so a message that nobody accepts is no error.
const (
	esrSendIllegal     = 1 << 5
	esrReceiveIllegal  = 1 << 6
	esrIllegalRegister = 1 << 7
	// esrSignalled is not part of the register: it remembers that the error
	// interrupt went out and has not been rearmed.
	esrSignalled = 1 << 31
)

// Bits of the local vector table entries.
const (
	lvtVector    = 0xFF
	lvtModeShift = 8
	lvtMode      = 7 << lvtModeShift
	lvtStatus    = 1 << 12
	lvtPolarity  = 1 << 13
	lvtRemoteIRR = 1 << 14
	lvtLevel     = 1 << 15
	lvtMasked    = 1 << 16

	lvtTimerShift = 17
	lvtTimerMode  = 3 << lvtTimerShift
)

// Timer modes in bits 17 and 18 of the timer's LVT entry.
const (
	timerOneShot = iota
	timerPeriodic
	timerTSCDeadline
	timerReserved
)

// Bits of the interrupt command register.
const (
	icrVector         = 0xFF
	icrModeShift      = 8
	icrLogical        = 1 << 11
	icrStatus         = 1 << 12
	icrAssert         = 1 << 14
	icrLevel          = 1 << 15
	icrShorthandShift = 18
	icrWritable       = 0xCCFFF
	icrDestShift      = 32 // x2APIC
	icrXDestShift     = 56 // xAPIC
)

// Destination shorthands of the interrupt command register.
const (
	shorthandNone = iota
	shorthandSelf
	shorthandAll
	shorthandOthers
)

// divideBits are the implemented bits of the divide configuration register.
const divideBits = 0xB

// dfrFixed are the bits of the destination format register that read as ones.
const dfrFixed = 0x0FFFFFFF
