package vsock

import "encoding/binary"

// request is the type of a vhost-user message (QEMU docs/interop/vhost-user.rst,
// "Front-end message types"). The ones that no negotiated feature needs are absent.
type request uint32

const (
	reqGetFeatures         request = 1
	reqSetFeatures         request = 2
	reqSetOwner            request = 3
	reqResetOwner          request = 4
	reqSetMemTable         request = 5
	reqSetVringNum         request = 8
	reqSetVringAddr        request = 9
	reqSetVringBase        request = 10
	reqGetVringBase        request = 11
	reqSetVringKick        request = 12
	reqSetVringCall        request = 13
	reqSetVringErr         request = 14
	reqGetProtocolFeatures request = 15
	reqSetProtocolFeatures request = 16
	reqSetVringEnable      request = 18
	reqGetConfig           request = 24
)

// Layout of vhost-user messages ("Message Specification").
const (
	messageHeader = 12 // request, flags, size
	configHeader  = 12 // offset, size, flags
	regionBytes   = 32 // guest address, size, user address, mmap offset
	tableHeader   = 8  // number of regions, padding
	addrBytes     = 40 // index, flags, descriptors, used, available, log
	stateBytes    = 8  // index, number
	wordBytes     = 8

	maxRegions = 8 // what fits a table
	maxFDs     = 8 // one for each region
	maxConfig  = 256
	maxPayload = configHeader + maxConfig // the largest of all

	messageVersion   = 1
	messageVersions  = 3      // mask of the version
	messageReply     = 1 << 2 // this is an answer
	messageNeedReply = 1 << 3 // an answer is wanted (REPLY_ACK)

	vringIndexMask = 0xff
	vringNoFD      = 1 << 8 // no descriptor comes along
)

// Protocol features ("Protocol features").
const (
	protocolReplyAck = 1 << 3
	protocolConfig   = 1 << 9

	protocolOffered = protocolReplyAck | protocolConfig
)

// Feature bits: virtio 1.2 §5.10.3 and §6, vhost-user "Communication".
const (
	featureSeqpacket      = 1 << 1
	featureLogAll         = 1 << 26
	featureIndirect       = 1 << 28
	featureEventIndex     = 1 << 29
	featureProtocol       = 1 << 30
	featureVersion1       = 1 << 32
	featureAccessPlatform = 1 << 33
	featurePacked         = 1 << 34

	featuresOffered = featureIndirect | featureEventIndex | featureProtocol | featureVersion1
	// featuresRefused are those that change what rings or packets mean. Others that
	// were not offered concern the front end alone, which may add them.
	featuresRefused = featureSeqpacket | featureLogAll | featureAccessPlatform | featurePacked
)

// Split virtqueues (virtio 1.2 §2.7).
const (
	descBytes    = 16
	descLength   = 8
	descFlags    = 12
	descNext     = 14
	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4

	ringFlags    = 0
	ringIndex    = 2
	ringEntries  = 4
	ringExtra    = 6 // flags, index, and the event index behind the entries
	availEntry   = 2
	usedEntry    = 8
	noInterrupt  = 1 // in the available ring's flags
	noNotify     = 1 // in the used ring's flags
	maxQueueSize = 1024
)

// The device's virtqueues (virtio 1.2 §5.10.2). QEMU keeps the event queue to
// itself; front ends that share it get it accepted, and never used.
const (
	queueRx = iota
	queueTx
	queueEvent
	queues
)

// Packets (virtio 1.2 §5.10.6).
const (
	packetHeader = 44
	maxData      = 64 << 10 // bytes of payload in a packet, as drivers bound them

	typeStream = 1

	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opRW            = 5
	opCreditUpdate  = 6
	opCreditRequest = 7

	shutdownReceive = 1 // the sender of the packet receives no more
	shutdownSend    = 2 // the sender of the packet sends no more
	shutdownBoth    = shutdownReceive | shutdownSend
)

// Well-known context identifiers (virtio 1.2 §5.10.4).
const (
	cidHost  = 2
	cidFirst = 3          // of those that guests may have
	cidAny   = 0xffffffff // and above: reserved
	portAny  = 0xffffffff // VMADDR_PORT_ANY of vsock(7)
)

// vhost-user is in the machine's byte order, virtio in little endian: on x86 both
// are the same.
var le = binary.LittleEndian
