package storvsp

// The storage protocol of Hyper-V's synthetic SCSI controller: packets of 64 bytes
// in rings of VMBus. Facts are from Linux drivers/scsi/storvsc_drv.c and openvmm's
// storvsp_protocol.

// interfaceSCSI is the GUID that guests' drivers bind to (Linux HV_SCSI_GUID).
const interfaceSCSI = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"

// Operations (enum vstor_packet_operation).
const (
	opCompleteIO        = 1
	opExecuteSRB        = 3
	opResetLUN          = 4
	opResetAdapter      = 5
	opResetBus          = 6
	opBeginInit         = 7
	opEndInit           = 8
	opQueryVersion      = 9
	opQueryProperties   = 10
	opEnumerateBus      = 11
	opCreateSubChannels = 13
)

// Versions of the protocol, major in the high byte. Since 5.1, Windows 8, requests
// have their present size.
const (
	versionWin8   = 5<<8 | 1
	versionWin81  = 6 << 8
	versionWin10  = 6<<8 | 2
	supportsMulti = 1 // STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL
)

// Where things are in a packet. Up to atPayload it is struct vstor_packet's header;
// the offsets after it are of struct vmscsi_request, of the channel properties and
// of the version.
const (
	atOperation = 0
	atStatus    = 8
	atPayload   = 12

	atVersion      = 12
	atSubChannels  = 12
	atMaxChannels  = 16
	atFlags        = 20
	atMaxTransfer  = 24
	atLength       = 12
	atSRBStatus    = 14
	atSCSIStatus   = 15
	atPath         = 17
	atTarget       = 18
	atLUN          = 19
	atCDBLength    = 20
	atSenseLength  = 21
	atDataIn       = 22
	atDataLength   = 24
	atCDB          = 28
	atSense        = 28
	senseSize      = 20
	requestSize    = 52
	packetSize     = 64
	oldPacketSize  = 48 // before Windows 8, and in Linux until the version is agreed
	cdbSize        = 16
	opcodeReport   = 0xA0 // REPORT LUNS
	reportHeader   = 8
	dataOut        = 0
	dataIn         = 1
	senseFixed     = 0x70
	senseDescr     = 0x72
	keyIllegal     = 5
	ascNoSuchLUN   = 0x25
	statusCheck    = 0x02 // CHECK CONDITION
	statusBusy     = 0x08
	statusTaskFull = 0x28
	statusAborted  = 0x40
)

// Status of a packet (NTSTATUS). Linux looks at it during initialization only.
const (
	ntSuccess        = 0
	ntBufferOverflow = 0x80000005
	ntDeviceBusy     = 0x80000011
	ntInvalidParam   = 0xC000000D
	ntInvalidRequest = 0xC0000010
	ntRevision       = 0xC0000059
	ntNoDevice       = 0xC00000C0
	ntCancelled      = 0xC0000120
	ntInvalidState   = 0xC0000184
	ntDeviceError    = 0xC0000185
)

// Status of a request to the controller (SRB status). Linux takes InvalidLUN for
// the end of the device, and looks at sense data where AutosenseValid is set.
const (
	srbSuccess        = 0x01
	srbAborted        = 0x02
	srbError          = 0x04
	srbBusy           = 0x05
	srbInvalidRequest = 0x06
	srbBusReset       = 0x0E
	srbDataOverrun    = 0x12
	srbInvalidLUN     = 0x20
	srbAutosense      = 0x80
)
