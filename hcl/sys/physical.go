package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// ErrNotPresent says that a page of a mapping has no memory behind it.
var ErrNotPresent = errors.New("page not present")

// Pagemap translates addresses of mappings of this process to physical ones
// (Linux Documentation/admin-guide/mm/pagemap.rst; needs CAP_SYS_ADMIN).
type Pagemap struct{ file *os.File }

// OpenPagemap opens the page map of this process.
func OpenPagemap() (*Pagemap, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, fmt.Errorf("page map: %w", err)
	}
	return &Pagemap{f}, nil
}

// Close closes the page map.
func (p *Pagemap) Close() error { return p.file.Close() }

// Physical returns the physical address of the first byte of a mapping. The
// answer holds as long as the kernel does not move the page: large pages and a
// kernel without page migration.
func (p *Pagemap) Physical(mapping []byte) (uint64, error) {
	const pageSize, present, frameMask = 4096, 1 << 63, 1<<55 - 1
	address := uint64(AddressOf(mapping))
	var entry [8]byte
	if _, err := p.file.ReadAt(entry[:], int64(address/pageSize*8)); err != nil {
		return 0, fmt.Errorf("page map at %#x: %w", address, err)
	}
	e := binary.LittleEndian.Uint64(entry[:])
	if e&present == 0 || e&frameMask == 0 {
		return 0, fmt.Errorf("%w: %#x", ErrNotPresent, address)
	}
	return e&frameMask*pageSize + address%pageSize, nil
}
