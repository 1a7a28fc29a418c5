package nvme

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"keel/translate/blk"
)

// identifySize is the length of every Identify data structure.
const identifySize = 4096

// controllerData is what the driver uses of the Identify Controller data structure
// (NVMe §5.15.2.2).
type controllerData struct {
	serial, model string
	maxTransfer   int // bytes of one command, 0 for no bound
	aborts        int // Abort commands at once
	events        int // Asynchronous Event Requests at once
	notices       uint32
	commands      uint16 // ONCS
	namespaces    uint32
	cache         bool // a volatile write cache is present
	atomic        uint32
	sgl           sglSupport
}

// sglSupport is how far the controller takes scatter gather lists.
type sglSupport uint8

const (
	sglNone    sglSupport = iota
	sglAnyByte            // no bound on alignment
	sglDwords             // addresses and lengths are multiples of four
)

// Bits of ONCS.
const (
	oncsCompare     = 1 << 0
	oncsDataset     = 1 << 2
	oncsWriteZeroes = 1 << 3
)

// parseController reads an Identify Controller data structure.
func parseController(b []byte) (controllerData, error) {
	if len(b) < identifySize {
		return controllerData{}, fmt.Errorf("%d bytes of Identify data", len(b))
	}
	c := controllerData{
		serial:     printable(b[4:24]),
		model:      printable(b[24:64]),
		aborts:     int(b[258]) + 1,
		events:     int(b[259]) + 1,
		notices:    binary.LittleEndian.Uint32(b[92:]),
		commands:   binary.LittleEndian.Uint16(b[520:]),
		namespaces: binary.LittleEndian.Uint32(b[516:]),
		cache:      b[525]&1 != 0,
		atomic:     uint32(binary.LittleEndian.Uint16(b[528:])) + 1,
	}
	// MDTS is a power of two of pages. What would not fit is no bound.
	if mdts := b[77]; mdts != 0 && mdts < 20 {
		c.maxTransfer = pageSize << mdts
	}
	switch binary.LittleEndian.Uint32(b[536:]) & 3 {
	case 1:
		c.sgl = sglAnyByte
	case 2:
		c.sgl = sglDwords
	}
	for _, size := range []struct {
		name   string
		offset int
		want   byte
	}{{"submission", 512, 6}, {"completion", 513, 4}} {
		if v := b[size.offset]; v&0xf > size.want || v>>4 < size.want {
			return c, fmt.Errorf("sizes of %s queue entries are %#02x", size.name, v)
		}
	}
	return c, nil
}

// printable makes text of a field that is padded with spaces. Other characters
// than printable ASCII become underscores.
func printable(field []byte) string {
	field = bytes.Trim(field, " \x00")
	clean := make([]byte, len(field))
	for i, c := range field {
		if c < 0x20 || c > 0x7e {
			c = '_'
		}
		clean[i] = c
	}
	return string(clean)
}

// identity is what a namespace says that it is. All zeroes stand for not said.
type identity struct {
	nguid, uuid [16]byte
	eui64       [8]byte
}

// namespaceData is what the driver uses of the Identify Namespace data structure
// (NVMe §5.15.2.1).
type namespaceData struct {
	info       blk.Info // without ID and serial
	identity   identity
	deallocate bool // Write Zeroes may give the space back
}

// Bits of NSFEAT and DLFEAT.
const (
	nsfeatAtomic      = 1 << 1
	nsfeatOptimal     = 1 << 4
	dlfeatReadMask    = 7
	dlfeatReadsZeroes = 1
	dlfeatDeallocate  = 1 << 3
)

// Bounds of what a namespace may ask for.
const (
	maxPhysical = 64 << 10 // bytes
	maxUnit     = 1 << 16  // blocks of discards and optimal transfers
)

// maxRequest is the most that one request moves, in bytes. It bounds the number of
// commands that a request is made of.
const maxRequest = 16 << 20

// parseNamespace reads an Identify Namespace data structure.
func parseNamespace(b []byte, c *controllerData) (namespaceData, error) {
	if len(b) < identifySize {
		return namespaceData{}, fmt.Errorf("%d bytes of Identify data", len(b))
	}
	half := func(offset int) uint32 { return uint32(binary.LittleEndian.Uint16(b[offset:])) }
	var n namespaceData
	blockSize, err := blockSize(b)
	if err != nil {
		return n, err
	}
	blocks := binary.LittleEndian.Uint64(b)
	if blocks == 0 {
		return n, errInactive
	}
	if blocks > math.MaxInt64/uint64(blockSize) {
		return n, fmt.Errorf("size of %d blocks", blocks)
	}
	n.info = blk.Info{
		Blocks:        blocks,
		BlockSize:     blockSize,
		PhysicalSize:  blockSize,
		MaxBlocks:     maxRequest / blockSize,
		ReadOnly:      b[99]&1 != 0,
		Volatile:      c.cache,
		Discard:       c.commands&oncsDataset != 0,
		DiscardUnit:   1,
		MaxRanges:     maxRanges,
		DiscardZeroes: b[33]&dlfeatReadMask == dlfeatReadsZeroes,
		WriteZeroes:   c.commands&oncsWriteZeroes != 0,
		Compare:       c.commands&oncsCompare != 0,
	}
	n.deallocate = b[33]&dlfeatDeallocate != 0
	// A block of a file system that fits into the physical size must be written as a
	// whole or not at all, so that the smaller of the two counts.
	features, atomic, preferred := b[24], c.atomic, uint32(1)
	if features&nsfeatAtomic != 0 {
		atomic = half(36) + 1
	}
	optimal := half(46) // NOIOB
	if features&nsfeatOptimal != 0 {
		preferred = half(64) + 1
		n.info.DiscardUnit = min(half(68)+1, maxUnit)
		if nows := half(72); nows != 0 {
			optimal = nows + 1
		}
	}
	if physical := min(atomic, preferred, maxPhysical/blockSize); physical > 0 {
		n.info.PhysicalSize = blockSize << (bits.Len32(physical) - 1)
	}
	n.info.Optimal = min(optimal, n.info.MaxBlocks)
	copy(n.identity.nguid[:], b[104:120])
	copy(n.identity.eui64[:], b[120:128])
	return n, nil
}

// blockSize finds the LBA format in use (NVMe figure 246).
func blockSize(b []byte) (uint32, error) {
	const formats, formatTable = 64, 128
	index, count := int(b[26]&0xf), int(b[25])+1
	if count > 16 { // NVMe 2.0
		index |= int(b[26]>>5&3) << 4
	}
	if index >= count || count > formats {
		return 0, fmt.Errorf("LBA format %d of %d", index, count)
	}
	f := binary.LittleEndian.Uint32(b[formatTable+4*index:])
	if metadata := f & 0xffff; metadata != 0 {
		return 0, fmt.Errorf("blocks with %d bytes of metadata", metadata)
	}
	switch shift := f >> 16 & 0xff; shift {
	case 9, 12:
		return 1 << shift, nil
	default:
		return 0, fmt.Errorf("blocks of 2^%d bytes", shift)
	}
}

// parseList reads an active namespace list, whose entries are greater than after
// and rise (NVMe §5.15.2.3). It returns what it read before the first that breaks
// the rule.
func parseList(b []byte, after uint32) (list []uint32, full bool) {
	for i := 0; i+4 <= len(b); i += 4 {
		id := binary.LittleEndian.Uint32(b[i:])
		if id <= after || id >= 0xfffffffe {
			return list, false
		}
		list, after = append(list, id), id
	}
	return list, true
}

// Types of namespace identification descriptors (NVMe figure 248).
const (
	descriptorEUI64 = 1
	descriptorNGUID = 2
	descriptorUUID  = 3
)

// parseDescriptors adds to an identity what a list of descriptors says.
func parseDescriptors(b []byte, to *identity) {
	for len(b) >= 4 && b[1] != 0 {
		kind, length := b[0], int(b[1])
		b = b[4:]
		if length > len(b) {
			return
		}
		into := []byte(nil)
		switch kind {
		case descriptorEUI64:
			into = to.eui64[:]
		case descriptorNGUID:
			into = to.nguid[:]
		case descriptorUUID:
			into = to.uuid[:]
		}
		if length == len(into) {
			copy(into, b)
		}
		b = b[length:]
	}
}
