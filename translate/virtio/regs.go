package virtio

// Numbers of "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS).

// Status is the device status field (§2.1).
type Status uint8

// Bits of the device status.
const (
	StatusAcknowledge Status = 1 << 0
	StatusDriver      Status = 1 << 1
	StatusDriverOK    Status = 1 << 2
	StatusFeaturesOK  Status = 1 << 3
	StatusNeedsReset  Status = 1 << 6
	StatusFailed      Status = 1 << 7

	statusByDriver = StatusAcknowledge | StatusDriver | StatusDriverOK | StatusFeaturesOK | StatusFailed
)

// Features are feature bits (§2.2): those of the device type below bit 24, those
// of rings and transport above (§6).
type Features uint64

// Feature bits of rings and transport.
const (
	FeatureIndirect       Features = 1 << 28 // VIRTIO_F_INDIRECT_DESC
	FeatureEventIndex     Features = 1 << 29 // VIRTIO_F_EVENT_IDX
	FeatureVersion1       Features = 1 << 32 // VIRTIO_F_VERSION_1
	FeatureAccessPlatform Features = 1 << 33 // VIRTIO_F_ACCESS_PLATFORM
	FeatureOrderPlatform  Features = 1 << 36 // VIRTIO_F_ORDER_PLATFORM
	FeatureRingReset      Features = 1 << 40 // VIRTIO_F_RING_RESET

	typeFeatures Features = 1<<24 - 1
)

// NoVector is a vector register that names none (§4.1.5.1.2).
const NoVector = 0xffff

// PCI identity (§4.1.2).
const (
	pciVendor       = 0x1af4
	pciDeviceBase   = 0x1040
	pciSubsystem    = 0x1100 // at least 0x40, which tells it from older devices
	pciRevision     = 1
	registerBAR     = 0 // and 1: 64 bits
	vectorBAR       = 2
	portBAR         = 3
	portBARSize     = 4
	registerBARSize = 4 * regionSize
)

// Where the structures lie in the BAR: a page each.
const (
	regionSize   = 0x1000
	regionCommon = 0x0000
	regionISR    = 0x1000
	regionDevice = 0x2000
	regionNotify = 0x3000

	notifyMultiplier = 4
	maxQueues        = regionSize / notifyMultiplier
	maxQueueSize     = 32768 // §2.7
)

// Vendor-specific capabilities (§4.1.4): offsets from their start, and types.
const (
	capLength     = 2
	capType       = 3
	capBAR        = 4
	capOffset     = 8
	capSize       = 12
	capExtra      = 16 // multiplier of notifications, or data of configuration access
	capPlain      = 16 // bytes of one without extra
	capWithExtra  = 20
	capHeader     = 2 // what the PCI function fills in
	capTypeCommon = 1
	capTypeNotify = 2
	capTypeISR    = 3
	capTypeDevice = 4
	capTypeAccess = 5
)

// Common configuration structure (§4.1.4.3).
const (
	regDeviceFeatureSelect = 0x00
	regDeviceFeature       = 0x04
	regDriverFeatureSelect = 0x08
	regDriverFeature       = 0x0c
	regConfigVector        = 0x10
	regNumQueues           = 0x12
	regStatus              = 0x14
	regGeneration          = 0x15
	regQueueSelect         = 0x16
	regQueueSize           = 0x18
	regQueueVector         = 0x1a
	regQueueEnable         = 0x1c
	regQueueNotifyOffset   = 0x1e
	regQueueDesc           = 0x20
	regQueueDriver         = 0x28
	regQueueDevice         = 0x30
	regQueueNotifyData     = 0x38
	regQueueReset          = 0x3a
	commonSize             = 0x3c
)

// ISR status (§4.1.4.5).
const (
	isrQueue  = 1 << 0
	isrConfig = 1 << 1
)

// Descriptors (§2.7.5).
const (
	descSize     = 16
	descLength   = 8
	descFlags    = 12
	descNext     = 14
	flagNext     = 1 << 0
	flagWrite    = 1 << 1
	flagIndirect = 1 << 2

	// MaxIndirect is how many descriptors an indirect table may have here. The
	// specification allows as many as the queue has, but drivers exceed that.
	MaxIndirect = 1024
	maxBytes    = 1 << 32 // of a chain
)

// Available ring (§2.7.6) and used ring (§2.7.8): offsets, and what a ring has
// beside its entries.
const (
	ringFlags       = 0
	ringIndex       = 2
	ringEntries     = 4
	ringExtra       = 6 // flags, index, event
	availEntry      = 2
	usedEntry       = 8
	usedEntryLength = 4

	availNoInterrupt = 1 << 0
	usedNoNotify     = 1 << 0

	alignDesc  = 16
	alignAvail = 2
	alignUsed  = 4
)
