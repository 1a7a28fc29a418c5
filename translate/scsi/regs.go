package scsi

// Operation codes (SPC-4 annex E, SBC-3 table 31, MMC-6 table 235).
const (
	opTestUnitReady        = 0x00
	opRequestSense         = 0x03
	opRead6                = 0x08
	opWrite6               = 0x0a
	opInquiry              = 0x12
	opModeSelect6          = 0x15
	opModeSense6           = 0x1a
	opStartStopUnit        = 0x1b
	opPreventAllow         = 0x1e
	opReadCapacity10       = 0x25
	opRead10               = 0x28
	opWrite10              = 0x2a
	opWriteAndVerify10     = 0x2e
	opVerify10             = 0x2f
	opSynchronizeCache10   = 0x35
	opWriteSame10          = 0x41
	opUnmap                = 0x42
	opReadTOC              = 0x43
	opGetConfiguration     = 0x46
	opGetEventStatus       = 0x4a
	opLogSense             = 0x4d
	opReadDiscInformation  = 0x51
	opModeSelect10         = 0x55
	opModeSense10          = 0x5a
	opPersistentReserveIn  = 0x5e
	opPersistentReserveOut = 0x5f
	opRead16               = 0x88
	opCompareAndWrite      = 0x89
	opWrite16              = 0x8a
	opWriteAndVerify16     = 0x8e
	opVerify16             = 0x8f
	opSynchronizeCache16   = 0x91
	opWriteSame16          = 0x93
	opServiceActionIn16    = 0x9e
	opReportLUNs           = 0xa0
	opMaintenanceIn        = 0xa3
	opRead12               = 0xa8
	opWrite12              = 0xaa
	opWriteAndVerify12     = 0xae
	opVerify12             = 0xaf
	opMechanismStatus      = 0xbd
)

// Service actions.
const (
	saReadCapacity16  = 0x10 // of SERVICE ACTION IN(16)
	saReportOpcodes   = 0x0c // of MAINTENANCE IN
	saReportFunctions = 0x0d

	saReadKeys        = 0x00 // of PERSISTENT RESERVE IN
	saReadReservation = 0x01
	saCapabilities    = 0x02
	saReadFullStatus  = 0x03

	saRegister        = 0x00 // of PERSISTENT RESERVE OUT
	saReserve         = 0x01
	saRelease         = 0x02
	saClear           = 0x03
	saPreempt         = 0x04
	saPreemptAbort    = 0x05
	saRegisterIgnore  = 0x06
	saMask            = 0x1f // where byte 1 holds a service action
	controlNACA       = 0x04 // control byte (SAM-5, 5.2)
	scopeMask         = 0xf0 // byte 2 of PERSISTENT RESERVE OUT
	reservationMask   = 0x0f
	prParamSpecIPT    = 0x08 // byte 20 of its parameter list
	prParamAllTargets = 0x04
	prParamAPTPL      = 0x01
	prParamLength     = 24
)

// Bits of byte 1 of READ, WRITE, VERIFY and WRITE SAME (SBC-3, clause 5).
const (
	cdbProtectShift = 5
	cdbDPO          = 0x10
	cdbFUA          = 0x08
	cdbByteCheck    = 0x06 // BYTCHK of VERIFY
	cdbAnchor       = 0x10 // of WRITE SAME
	cdbUnmap        = 0x08
	cdbObsolete     = 0x06 // PBDATA, LBDATA
	cdbNDOB         = 0x01
)

// Status codes (SAM-5, 5.3.1).
const (
	StatusGood                Status = 0x00
	StatusCheckCondition      Status = 0x02
	StatusReservationConflict Status = 0x18
	StatusTaskSetFull         Status = 0x28
	StatusTaskAborted         Status = 0x40
)

// Sense keys (SPC-4, table 48).
const (
	keyNoSense        = 0x0
	keyNotReady       = 0x2
	keyMediumError    = 0x3
	keyHardwareError  = 0x4
	keyIllegalRequest = 0x5
	keyUnitAttention  = 0x6
	keyDataProtect    = 0x7
	keyAbortedCommand = 0xb
	keyMiscompare     = 0xe
)

// Additional sense codes and qualifiers, ASC in the high byte (SPC-4, annex E).
const (
	ascStopped             = 0x0402 // initializing command required
	ascWriteError          = 0x0c00
	ascReadError           = 0x1100 // unrecovered
	ascParamListLength     = 0x1a00
	ascMiscompare          = 0x1d00 // during verify operation
	ascBadOpcode           = 0x2000
	ascBadLBA              = 0x2100
	ascBadCDB              = 0x2400
	ascBadLUN              = 0x2500
	ascBadParam            = 0x2600
	ascBadRelease          = 0x2604 // invalid release of persistent reservation
	ascWriteProtected      = 0x2700
	ascSoftwareProtected   = 0x2702
	ascSpaceAllocation     = 0x2707
	ascMediumChanged       = 0x2800
	ascPowerOn             = 0x2900
	ascDeviceReset         = 0x2903
	ascNexusLoss           = 0x2907
	ascModeChanged         = 0x2a01
	ascReservationsCleared = 0x2a03 // reservations preempted
	ascReservationReleased = 0x2a04
	ascRegistrationsLost   = 0x2a05 // registrations preempted
	ascCapacityChanged     = 0x2a09
	ascCommandsCleared     = 0x2f00 // by another initiator
	ascNoSaving            = 0x3900
	ascNoMedium            = 0x3a00
	ascTrayOpen            = 0x3a02
	ascLUNsChanged         = 0x3f0e
	ascTargetFailure       = 0x4400
	ascDataPhase           = 0x4b00
	ascRemovalPrevented    = 0x5302
)

// Peripheral device types and qualifiers of INQUIRY (SPC-4, 6.6.2).
const (
	typeDisk      = 0x00
	typeDVD       = 0x05
	typeWellKnown = 0x1e
	typeAbsent    = 0x7f // qualifier 3: no such logical unit
)

// Persistent reservation types (SPC-4, table 213).
const (
	prWriteExclusive       = 1
	prExclusiveAccess      = 3
	prWriteExclusiveRO     = 5 // registrants only
	prExclusiveAccessRO    = 6
	prWriteExclusiveAR     = 7 // all registrants
	prExclusiveAccessAR    = 8
	prSupportedTypes       = 0xea // byte 4 of REPORT CAPABILITIES
	prSupportedTypesSecond = 0x01
)

// Mode pages and their bits (SPC-4, 7.5; SBC-3, 6.4; MMC-6, 7).
const (
	pageErrorRecovery = 0x01
	pageCaching       = 0x08
	pageControl       = 0x0a
	pageExceptions    = 0x1c
	pageCapabilities  = 0x2a
	pageAll           = 0x3f
	subpageExtension  = 0x01 // control extension
	subpageAll        = 0xff

	cachingWCE       = 0x04
	controlDSense    = 0x04
	controlSWP       = 0x08
	deviceWP         = 0x80 // device-specific parameter of the header
	deviceDPOFUA     = 0x10
	pageControlShift = 6
)
