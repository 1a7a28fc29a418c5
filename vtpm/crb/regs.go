package crb

import (
	"keel/hcl/abi/x86"
	"keel/vtpm"
	"keel/vtpm/front"
)

// Base is where PCs have the TPM (PTP, chapter on the memory map). Size is the length of
// the window in bytes: a page for each of the localities 0 to 4. ControlArea is the
// offset of what an ACPI TPM2 table calls the control area.
const (
	Base        = x86.GPA(0xfed40000)
	Size        = front.WindowSize
	ControlArea = regCtrlReq
)

// Registers of a locality's page, 32 bits each (PTP 1.05 §6.5.3, "CRB interface").
const (
	regLocState  = 0x00
	regLocCtrl   = 0x08
	regLocSts    = 0x0c
	regIntfID    = 0x30
	regVendor    = 0x34 // upper half of the 64-bit interface identifier
	regCtrlReq   = 0x40
	regCtrlSts   = 0x44
	regCancel    = 0x48
	regStart     = 0x4c
	regIntEnable = 0x50 // reads as 0: no interrupt can be enabled
	regIntStatus = 0x54
	regCmdSize   = 0x58
	regCmdLow    = 0x5c
	regCmdHigh   = 0x60
	regRspSize   = 0x64
	regRspLow    = 0x68
	regRspHigh   = 0x6c
	regData      = 0x80 // to the end of the page
)

// TPM_LOC_STATE, the same in all pages.
const (
	stateEstablished   = 1 << 0 // 1: no D-RTM event since the last reset of this bit
	stateAssigned      = 1 << 1
	stateLocalityShift = 2
	stateValid         = 1 << 7
)

// TPM_LOC_CTRL, write-only.
const (
	locRequest    = 1 << 0
	locRelinquish = 1 << 1
	locSeize      = 1 << 2
	// Bit 3 resets tpmEstablished from locality 3: it always reads as reset here.
)

// TPM_LOC_STS.
const (
	stsGranted = 1 << 0
	stsSeized  = 1 << 1
)

// TPM_CRB_CTRL_REQ. A request is done before the guest can read it back: the register
// reads as 0.
const (
	reqCommandReady = 1 << 0
	reqGoIdle       = 1 << 1
)

// TPM_CRB_CTRL_STS. Bit 0 reports a fatal error, which never is: a TPM that fails
// answers TPM_RC_FAILURE.
const ctrlIdle = 1 << 1

// cancelInvoke and startInvoke are the only bits of their registers.
const (
	cancelInvoke = 1 << 0
	startInvoke  = 1 << 0
)

// TPM_CRB_INTF_ID: the CRB interface and no other, five localities, transfers of up to 64
// bytes; a command may follow another without the Idle state between them, as Linux sends
// them. The selection of the interface is locked. Interrupts are no capability of this
// register: the enable register tells.
const (
	intfTypeCRB     = 1 << 0
	intfVersionCRB  = 1 << 4
	intfLocalities  = 1 << 8
	intfIdleBypass  = 1 << 9
	intfTransfer64  = 3 << 11
	intfCapCRB      = 1 << 14
	intfSelectedCRB = 1 << 17
	intfLocked      = 1 << 19
	intfRevision    = 1 << 24
	intfID          = intfTypeCRB | intfVersionCRB | intfLocalities | intfIdleBypass | intfTransfer64 |
		intfCapCRB | intfSelectedCRB | intfLocked | intfRevision
)

// vendor is the PCI vendor ID in the lower half, the device ID in the upper: those of the
// engine, whose TPM_PT_MANUFACTURER is "IBM".
const vendor = 0x0001_1014

// dataSize is the size of the buffer for command and response in bytes.
const dataSize = vtpm.MaxBuffer
