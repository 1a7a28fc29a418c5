package tis

import (
	"keel/hcl/abi/x86"
	"keel/vtpm/front"
)

// Base is where PCs have the TPM (PTP, chapter on the memory map). Size is the length of
// the window in bytes: a page for each of the localities 0 to 4.
const (
	Base = x86.GPA(0xfed40000)
	Size = front.WindowSize
)

// Registers of a locality's page (PTP 1.05 §6.5.2, "FIFO interface"). All that a read
// returns 0 for and a write does nothing to is left out: the interrupt registers are.
const (
	regAccess    = 0x00 // 8 bits
	regIntfCap   = 0x14
	regStatus    = 0x18
	regFIFO      = 0x24 // 32 bits
	regIntfID    = 0x30
	regXFIFO     = 0x80 // 64 bytes
	regVendor    = 0xf00
	regRevision  = 0xf04
	fifoSize     = 4
	xfifoSize    = 64
	revision     = 0x01
	vendor       = 0x0001_1014 // PCI vendor and device ID of the engine, whose TPM_PT_MANUFACTURER is "IBM"
	statusCancel = 1 << 24
)

// TPM_ACCESS.
const (
	accessEstablished = 1 << 0 // 1: no D-RTM event since the last reset of this bit
	accessRequest     = 1 << 1
	accessPending     = 1 << 2 // another locality waits
	accessSeize       = 1 << 3 // write-only
	accessSeized      = 1 << 4 // a 1 clears it
	accessActive      = 1 << 5 // a 1 gives the TPM up
	accessValid       = 1 << 7
)

// TPM_STS. Bit 25 resets tpmEstablished from locality 3: it always reads as reset here.
const (
	statusRetry       = 1 << 1 // write-only
	statusSelfTest    = 1 << 2 // the self-test is done
	statusExpect      = 1 << 3
	statusAvailable   = 1 << 4
	statusGo          = 1 << 5 // write-only
	statusReady       = 1 << 6
	statusValid       = 1 << 7
	statusBurstShift  = 8
	statusFamily2     = 1 << 26
	statusAlways      = statusFamily2 | statusSelfTest | statusValid
	statusTransitions = statusRetry | statusGo | statusReady
)

// burstMax bounds the burst count so that it fits in one byte: there is software that
// reads the low byte of it alone.
const burstMax = 0xff

// TPM_INTF_CAPABILITY: the interface of a TPM 2.0, transfers of up to 64 bytes, a burst
// count that changes, and not one interrupt.
const (
	capTransfer64 = 3 << 9
	capVersionPTP = 3 << 28
	intfCap       = capTransfer64 | capVersionPTP
)

// TPM_INTERFACE_ID: the FIFO interface of PTP and no other, five localities; the
// selection is locked.
const (
	intfTypeFIFO   = 0 << 0
	intfLocalities = 1 << 8
	intfTransfer64 = 3 << 11
	intfCapFIFO    = 1 << 13
	intfLocked     = 1 << 19
	intfID         = intfTypeFIFO | intfLocalities | intfTransfer64 | intfCapFIFO | intfLocked
)
