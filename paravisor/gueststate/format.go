package gueststate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Layout of the disk. The places are in bytes and do not depend on the disk's blocks nor
// on its size: the image of a disk may grow and change its block size.
const (
	SlotBytes  = 2 << 20           // of a slot; slot A is at 0, slot B follows
	MinDisk    = slots * SlotBytes // bytes
	MaxContent = SlotBytes - headerBytes - tagBytes
	MaxVM      = 64 // bytes of a VM's identity
	MaxName    = 16 // bytes of a provider's name

	slots    = 2
	tagBytes = 16 // AES-GCM
)

// Format is the version of the layout that is written.
//
// It is the first one, so there is no older one to read yet. Whatever a later version
// changes, it keeps the envelope (magic, version, checksum over the first 256 bytes), so
// that this one can refuse it by name, and it reads testdata/v1.slots.
const Format = 1

// A slot is a header, the sealed content, its authentication tag, and zeroes up to the
// next block. Integers are little-endian, texts are padded with zeroes.
const (
	offMagic    = 0   // 8 bytes
	offVersion  = 8   // u32
	offSum      = 12  // u32, CRC-32C of the header with this field zero
	offSequence = 16  // u64, one more than that of the slot before
	offLength   = 24  // u32, bytes of the content; 0: nothing was committed yet
	offSlot     = 28  // u32, 0 or 1
	offProvider = 32  // MaxName bytes
	offVM       = 48  // MaxVM bytes
	offHint     = 112 // 32 bytes of the provider's
	offSalt     = 144 // 32 bytes, of this commit's key
	offCheck    = 176 // 16 bytes that tell a wrong key from a damaged content
	offParent   = 192 // 32 bytes, the salt of the slot before
	offZero     = 224

	headerBytes = 256
)

const magic = "KEELSTAT"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is a header of version 1. All of it is authenticated with the content; before
// that, nothing in it can be relied on.
type header struct {
	version  uint32
	sequence uint64
	length   uint32
	slot     uint32
	provider string
	vm       string
	hint     Hint
	salt     [32]byte
	check    [16]byte
	parent   [32]byte
}

// Why a header is none. The checksum sorts accidents from intent: a header that was
// damaged must not pass for one of another VM or of a newer format.
var (
	errBlank     = errors.New("empty")
	errNoMagic   = errors.New("no header")
	errSum       = errors.New("header is damaged")
	errMalformed = errors.New("header is malformed")
)

// put writes the header. Preconditions: texts fit, b has headerBytes.
func (h *header) put(b []byte) {
	clear(b)
	le := binary.LittleEndian
	copy(b[offMagic:], magic)
	le.PutUint32(b[offVersion:], h.version)
	le.PutUint64(b[offSequence:], h.sequence)
	le.PutUint32(b[offLength:], h.length)
	le.PutUint32(b[offSlot:], h.slot)
	copy(b[offProvider:offVM], h.provider)
	copy(b[offVM:offHint], h.vm)
	copy(b[offHint:], h.hint[:])
	copy(b[offSalt:], h.salt[:])
	copy(b[offCheck:], h.check[:])
	copy(b[offParent:], h.parent[:])
	le.PutUint32(b[offSum:], sum(b))
}

// parse reads a header. Of a newer format it reads the version alone.
// Preconditions: b has headerBytes.
func (h *header) parse(b []byte, slot uint32) error {
	b = b[:headerBytes]
	le := binary.LittleEndian
	switch {
	case zero(b):
		return errBlank
	case string(b[offMagic:offMagic+len(magic)]) != magic:
		return errNoMagic
	case le.Uint32(b[offSum:]) != sum(b):
		return errSum
	}
	h.version = le.Uint32(b[offVersion:])
	if h.version > Format {
		return fmt.Errorf("%w: %d, this Keel knows %d", ErrNewer, h.version, Format)
	}
	h.sequence, h.length, h.slot = le.Uint64(b[offSequence:]), le.Uint32(b[offLength:]), le.Uint32(b[offSlot:])
	provider, ok1 := text(b[offProvider:offVM])
	vm, ok2 := text(b[offVM:offHint])
	h.provider, h.vm = provider, vm
	copy(h.hint[:], b[offHint:])
	copy(h.salt[:], b[offSalt:])
	copy(h.check[:], b[offCheck:])
	copy(h.parent[:], b[offParent:])
	switch {
	case h.version == 0 || !ok1 || !ok2 || !zero(b[offZero:]):
		return errMalformed
	case h.length > MaxContent || h.sequence == ^uint64(0):
		return fmt.Errorf("%w: %d bytes, sequence %d", errMalformed, h.length, h.sequence)
	case h.slot != slot:
		return fmt.Errorf("%w: it is that of the other slot", errMalformed)
	}
	return nil
}

// sum is the checksum of a header.
func sum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b[:offSum])
	c = crc32.Update(c, castagnoli, make([]byte, offSequence-offSum))
	return crc32.Update(c, castagnoli, b[offSequence:headerBytes])
}

// text reads a padded text and tells whether it is one.
func text(b []byte) (string, bool) {
	s, rest, _ := bytes.Cut(b, []byte{0})
	return string(s), printable(string(s), len(b)) && zero(rest)
}

// printable tells whether s has 1 to most bytes of printable ASCII.
func printable(s string, most int) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// zero tells whether all of b is zero: it is when it begins so and equals itself one
// byte further on.
func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

func slotName(slot uint32) string { return string(rune('A' + slot)) }
