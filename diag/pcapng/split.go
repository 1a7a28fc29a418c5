package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrBlock says that something is no row of whole blocks.
var ErrBlock = errors.New("malformed pcapng block")

// Block is a block of a capture in little-endian.
type Block struct {
	Kind uint32
	Body []byte
}

// Split takes apart what is a row of whole blocks. It does not look into them.
func Split(b []byte) (all []Block, err error) {
	for len(b) > 0 {
		if len(b) < 12 {
			return nil, fmt.Errorf("%w: %d bytes", ErrBlock, len(b))
		}
		n := binary.LittleEndian.Uint32(b[4:])
		if n < 12 || n%4 != 0 || uint64(n) > uint64(len(b)) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			return nil, fmt.Errorf("%w: a length of %d in %d bytes", ErrBlock, n, len(b))
		}
		all = append(all, Block{binary.LittleEndian.Uint32(b), b[8 : n-4]})
		b = b[n:]
	}
	return all, nil
}
