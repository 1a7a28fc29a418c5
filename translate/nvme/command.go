package nvme

import "encoding/binary"

// Admin commands (NVMe §5).
const (
	adminDeleteSQ    = 0x00
	adminCreateSQ    = 0x01
	adminGetLog      = 0x02
	adminDeleteCQ    = 0x04
	adminCreateCQ    = 0x05
	adminIdentify    = 0x06
	adminAbort       = 0x08
	adminSetFeatures = 0x09
	adminGetFeatures = 0x0a
	adminAsyncEvent  = 0x0c
)

// Commands of the NVM command set (NVMe §6).
const (
	cmdFlush       = 0x00
	cmdWrite       = 0x01
	cmdRead        = 0x02
	cmdCompare     = 0x05
	cmdWriteZeroes = 0x08
	cmdDataset     = 0x09
)

// Fields of commands.
const (
	flagSGL = 1 << 6 // PSDT in the flags byte: DPTR is a scatter gather list

	dw12FUA         = 1 << 30
	dw12Deallocate  = 1 << 25
	dw11Deallocate  = 1 << 2 // Dataset Management
	dw11Contiguous  = 1 << 0 // Create I/O Queue
	dw11Interrupts  = 1 << 1 // Create I/O Completion Queue
	dw11Namespaces  = 1 << 8 // Asynchronous Event Configuration
	everyNamespace  = 0xffffffff
	maxZeroBlocks   = 1 << 16 // NLB has 16 bits
	maxRangeBlocks  = 1 << 31 // of one range of Dataset Management, which has 32 bits
	maxRanges       = 256     // of one Dataset Management command
	rangeSize       = 16
	descriptorSize  = 16 // of a scatter gather list
	addressSize     = 8  // of a PRP list
	sglData         = 0x00
	sglLastSegment  = 0x30
	cnsNamespace    = 0x00
	cnsController   = 0x01
	cnsActive       = 0x02
	cnsDescriptors  = 0x03
	logErrors       = 0x01
	logHealth       = 0x02
	logFirmware     = 0x03
	logNamespaces   = 0x04
	featureCache    = 0x06
	featureQueues   = 0x07
	featureEvents   = 0x0b
	eventError      = 0
	eventHealth     = 1
	eventNotice     = 2
	noticeNamespace = 0
	noticeFirmware  = 1
)

// entry is a command as the submission queue holds it (NVMe §4.2).
type entry [entrySize]byte

// start makes an empty command.
func (e *entry) start(opcode byte, nsid uint32) {
	*e = entry{opcode}
	binary.LittleEndian.PutUint32(e[4:], nsid)
}

// opcode returns what the command does.
func (e *entry) opcode() byte { return e[0] }

// identify sets the command identifier.
func (e *entry) identify(id uint16) { binary.LittleEndian.PutUint16(e[2:], id) }

// id returns the command identifier.
func (e *entry) id() uint16 { return binary.LittleEndian.Uint16(e[2:]) }

// dword sets one of the command's sixteen words.
func (e *entry) dword(n int, value uint32) { binary.LittleEndian.PutUint32(e[4*n:], value) }

// prp sets both entries of the data pointer.
func (e *entry) prp(first, second uint64) {
	binary.LittleEndian.PutUint64(e[24:], first)
	binary.LittleEndian.PutUint64(e[32:], second)
}

// sgl makes the data pointer a descriptor of a scatter gather list.
func (e *entry) sgl(address uint64, length uint32, kind byte) {
	e[1] |= flagSGL
	descriptor(e[24:40], address, length, kind)
}

// blocks sets the run of blocks of a command of the NVM command set.
func (e *entry) blocks(lba uint64, count uint32, flags uint32) {
	binary.LittleEndian.PutUint64(e[40:], lba)
	e.dword(12, count-1|flags)
}

// count returns how many blocks the command moves.
func (e *entry) count() uint64 { return uint64(binary.LittleEndian.Uint16(e[4*12:])) + 1 }

// descriptor writes a descriptor of a scatter gather list (NVMe §4.4).
func descriptor(to []byte, address uint64, length uint32, kind byte) {
	binary.LittleEndian.PutUint64(to, address)
	binary.LittleEndian.PutUint32(to[8:], length)
	binary.LittleEndian.PutUint32(to[12:], uint32(kind)<<24)
}

// completion is an entry of a completion queue, copied (NVMe §4.6).
type completion struct {
	result uint32
	head   uint16 // of the submission queue
	queue  uint16
	id     uint16
	status status
}
