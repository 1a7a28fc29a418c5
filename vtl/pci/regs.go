package pci

// Registers of a type 0 configuration header: "PCI Local Bus Specification" 3.0
// chapter 6; capabilities: §6.7, MSI-X: §6.8.2.
const (
	regVendor      = 0x00
	regDevice      = 0x02
	regCommand     = 0x04
	regStatus      = 0x06
	regRevision    = 0x08
	regClass       = 0x09 // three bytes: interface, subclass, base class
	regCacheLine   = 0x0c
	regHeaderType  = 0x0e
	regBAR         = 0x10 // six dwords
	regSubVendor   = 0x2c
	regSubsystem   = 0x2e
	regCapability  = 0x34
	regInterrupt   = 0x3c // line: software's own; the pin beside it reads 0
	regFirstCap    = 0x40
	headerSpace    = 0x100 // what the ports reach; the rest reads as zero
	bytesPerBAR    = 4
	capHeaderSize  = 2 // ID, next
	capabilityMSIX = 0x11
)

// CapabilityVendor is the ID of a vendor-specific capability (PCI 3.0 appendix H).
const CapabilityVendor = 0x09

// Command register (PCI 3.0 §6.2.2). Other bits read as zero.
const (
	commandPorts       = 1 << 0
	commandMemory      = 1 << 1
	commandMaster      = 1 << 2
	commandINTxDisable = 1 << 10
	commandWritable    = commandPorts | commandMemory | commandMaster | commandINTxDisable
)

// statusCapabilities says that there is a list of them (PCI 3.0 §6.2.3).
const statusCapabilities = 1 << 4

// Base address registers (PCI 3.0 §6.2.5.1): what the low four bits say.
const (
	barPorts     = 1 << 0
	barWide      = 2 << 1
	barPrefetch  = 1 << 3
	minBARSize   = 16
	minPorts     = 4
	maxPorts     = 256
	maxNarrowBAR = 1 << 31
	maxBARSize   = 1 << 40 // no guest address space is large enough for more
)

// MSI-X capability (PCI 3.0 §6.8.2).
const (
	msixControl        = 2 // offset of the message control word
	msixCapSize        = 12
	msixControlEnable  = 1 << 15
	msixControlMask    = 1 << 14
	msixPBAField       = 8
	msixTableField     = 4
	maxVectors         = 2048
	vectorSize         = 16 // bytes of a table entry
	minTableSpace      = 2048
	vectorsPerWord     = 64
	entryAddressLow    = 0 // dwords of an entry
	entryAddressHigh   = 1
	entryData          = 2
	entryControl       = 3
	entryControlMasked = 1 << 0
)
