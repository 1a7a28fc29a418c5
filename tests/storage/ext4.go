package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The ext4 superblock (Linux Documentation/filesystems/ext4/super.rst).
const (
	superblockAt    = 1024
	superblockBytes = 1024
	offMagic        = 0x38 // s_magic, 16 bits
	offState        = 0x3a // s_state, 16 bits
	offIncompat     = 0x60 // s_feature_incompat, 32 bits
	offMountCount   = 0x34 // s_mnt_count, 16 bits
	magicExt        = 0xef53
	stateClean      = 1 << 0
	stateErrors     = 1 << 1
	incompatRecover = 1 << 2 // the journal has to be replayed
)

// ErrNotClean says that a file system was not unmounted, or has errors.
var ErrNotClean = errors.New("file system is not clean")

// CleanExt4 returns nil when an image is an ext4 file system that was mounted for
// writing at least once and whose last user unmounted it without an error.
func CleanExt4(image io.ReaderAt) error {
	b := make([]byte, superblockBytes)
	if _, err := image.ReadAt(b, superblockAt); err != nil {
		return fmt.Errorf("%w: %w", ErrNotClean, err)
	}
	word := func(at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
	state, incompat := word(offState), binary.LittleEndian.Uint32(b[offIncompat:])
	switch {
	case word(offMagic) != magicExt:
		return fmt.Errorf("%w: no superblock", ErrNotClean)
	case state&stateErrors != 0:
		return fmt.Errorf("%w: the kernel found errors", ErrNotClean)
	case state&stateClean == 0 || incompat&incompatRecover != 0:
		return fmt.Errorf("%w: it was not unmounted (state %#x, features %#x)", ErrNotClean, state, incompat)
	case word(offMountCount) == 0:
		return fmt.Errorf("%w: it was never mounted for writing", ErrNotClean)
	}
	return nil
}
