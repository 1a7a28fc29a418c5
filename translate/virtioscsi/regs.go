package virtioscsi

import "keel/translate/virtio"

// Numbers of virtio 1.2 §5.6, "SCSI Host Device".

const (
	deviceType = 8
	pciClass   = 0x010000 // SCSI storage controller
)

// Queues (§5.6.2).
const (
	queueControl = iota
	queueEvent
	queueRequest // the first of them
)

// Feature bits (§5.6.3).
const (
	featureInOut   virtio.Features = 1 << 0
	featureHotplug virtio.Features = 1 << 1
	featureChange  virtio.Features = 1 << 2
)

// Device configuration (§5.6.4): offsets.
const (
	cfgNumQueues  = 0
	cfgSegMax     = 4
	cfgMaxSectors = 8
	cfgCmdPerLUN  = 12
	cfgEventSize  = 16
	cfgSenseSize  = 20
	cfgCDBSize    = 24
	cfgMaxChannel = 28 // 16 bits, and max_target beside it
	cfgMaxLUN     = 32
	cfgSize       = 36

	defaultSense = 96
	defaultCDB   = 32
	// Drivers may ask for other sizes within these.
	maxSense = 252 // what sense data may have (SPC-4 §4.5.1)
	maxCDB   = 255
)

// Request (§5.6.6.1): what the device reads, up to the CDB, and what it writes, up
// to the sense data.
const (
	reqLUN      = 0
	reqTag      = 8
	reqCDB      = 19 // after task attribute, priority and CRN
	respSense   = 0
	respResid   = 4
	respStatus  = 10 // after the status qualifier
	respCode    = 11
	respFixed   = 12
	lunSize     = 8
	lunTarget   = 1 // value of the first byte
	lunFlat     = 0x40
	lunMethod   = 0xc0
	wellKnown   = 0xc1 // first byte of the REPORT LUNS well-known logical unit
	reportLUNs  = 0xc101
	wellKnownID = 0x01
)

// response is how a request ended (§5.6.6.1, §5.6.6.2).
type response uint8

const (
	respOK           response = 0
	respOverrun      response = 1
	respAborted      response = 2
	respBadTarget    response = 3
	respReset        response = 4
	respFailure      response = 9
	respSucceeded    response = 10
	respRejected     response = 11
	respIncorrectLUN response = 12
)

// Control requests (§5.6.6.2).
const (
	ctrlTMF       = 0
	ctrlQuery     = 1
	ctrlSubscribe = 2

	ctrlTypeSize  = 4
	tmfSubtype    = 4
	tmfLUN        = 8
	tmfTag        = 16
	tmfSize       = 24
	tmfReply      = 1
	asyncLUN      = 4
	asyncEvents   = 12
	asyncSize     = 16
	asyncReply    = 5 // events, response
	asyncResponse = 4

	asyncMediaChange = 16
)

// Task management functions (§5.6.6.2).
const (
	tmfAbortTask = iota
	tmfAbortTaskSet
	tmfClearACA
	tmfClearTaskSet
	tmfNexusReset
	tmfUnitReset
	tmfQueryTask
	tmfQueryTaskSet
)

// Events (§5.6.6.3).
const (
	eventSize           = 16
	eventLUN            = 4
	eventReason         = 12
	eventMissed         = 1 << 31
	eventTransportReset = 1
	eventAsync          = 2
	eventParamChange    = 3
	reasonRescan        = 1
	reasonRemoved       = 2
	// reasonCapacity is CAPACITY DATA HAS CHANGED: the additional sense code in
	// the low byte, its qualifier above it.
	reasonCapacity = 0x2a | 0x09<<8
)
