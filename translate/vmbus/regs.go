package vmbus

// Message types of the channel protocol (Linux include/linux/hyperv.h, enum
// vmbus_channel_message_type). A message starts with its type and four bytes of
// padding.
const (
	msgOfferChannel       = 1
	msgRescindOffer       = 2
	msgRequestOffers      = 3
	msgAllOffersDelivered = 4
	msgOpenChannel        = 5
	msgOpenResult         = 6
	msgCloseChannel       = 7
	msgGPADLHeader        = 8
	msgGPADLBody          = 9
	msgGPADLCreated       = 10
	msgGPADLTeardown      = 11
	msgGPADLTorndown      = 12
	msgRelIDReleased      = 13
	msgInitiateContact    = 14
	msgVersionResponse    = 15
	msgUnload             = 16
	msgUnloadResponse     = 17
	msgTLConnectRequest   = 21
	msgModifyChannel      = 22
	msgTLConnectResult    = 23
	msgModifyResponse     = 24
)

// Least sizes of the guest's messages and sizes of the server's, in bytes.
const (
	sizeHeader          = 8
	sizeOffer           = 196
	sizeRelID           = 12 // RESCIND, CLOSE and RELID_RELEASED: the header and a channel
	sizeOpen            = 148
	sizeOpenResult      = 20
	sizeGPADLHeader     = 20 // without the ranges
	sizeGPADLBody       = 16 // without the page numbers
	sizeGPADLCreated    = 20
	sizeGPADLTeardown   = 16
	sizeGPADLTorndown   = 12
	sizeContact         = 40
	sizeVersionResponse = 16
	sizeTLConnect       = 40
	sizeTLConnectResult = 44
	sizeModify          = 16
	sizeModifyResponse  = 16
)

// Addresses of the bus in the SynIC (TLFS §11.8).
const (
	// MessageSINT is the synthetic interrupt that messages and channel
	// interrupts arrive on.
	MessageSINT = 2
	// MessageSize is the payload of a SynIC message, in bytes.
	MessageSize = 240

	messageKind       = 1 // HvMessageType of channel messages
	connectionOld     = 1 // where guests post messages up to version 4.1
	connectionNew     = 4 // and from version 5.0 on
	eventConnection   = MessageSINT << 12
	maxRelID          = 2047 // event flags of a SINT (TLFS §11.10.2)
	noVP              = 0xFFFFFFFF
	contactVTLShift   = 8
	contactSINTMask   = 0xFF
	synicSINTs        = 16
	offerDedicated    = 1 // is_dedicated_interrupt
	versionSupported  = 1
	connectionFailed  = 2 // connection_state: unknown failure
	maxFramesOfGPADL  = 8190
	frameBits         = 40 // of a page number: 52-bit physical addresses
	offsetOpenUser    = 28
	offsetOfferSub    = 180
	offsetOfferRelID  = 184
	offsetOfferShared = 190
	offsetOfferConn   = 192
)

// Versions of the protocol, major in the high half (Linux include/linux/hyperv.h,
// VERSION_*).
const (
	version24 = 2<<16 | 4 // Windows 8
	version30 = 3 << 16   // Windows 8.1
	version40 = 4 << 16   // Windows 10
	version41 = 4<<16 | 1
	version50 = 5 << 16
	version51 = 5<<16 | 1
	version52 = 5<<16 | 2
	version53 = 5<<16 | 3
)

// versions are those that the server speaks. Older ones (0.13, 1.1) signal through
// a page shared by all channels, which none of today's guests needs; newer ones
// (6.0) negotiate features that the server has not.
var versions = []uint32{version24, version30, version40, version41, version50, version51, version52, version53}

// Status words of answers. The guest tells zero from the rest.
const (
	statusSuccess           = 0
	statusUnsuccessful      = 0x8000FFFF
	statusConnectionRefused = 0xC0000236
)

// Words of a ring's control page (Linux struct hv_ring_buffer), in units of four
// bytes.
const (
	ctlWrite    = 0
	ctlRead     = 1
	ctlMask     = 2
	ctlPending  = 3
	ctlFeatures = 16

	featurePending = 1
)

// Types and sizes of ring packets (enum vmbus_packet_type, struct
// vmpacket_descriptor). Lengths in descriptors are in units of eight bytes.
const (
	packetInBand     = 6
	packetGPADirect  = 9
	packetCompletion = 11

	flagCompletion = 1

	sizeDescriptor = 16
	sizeGPAHeader  = 24 // descriptor, reserved, count of ranges
	sizeTrailer    = 8
	packetUnit     = 8
)
