package vsock

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// ErrMemory says that the front end's memory cannot be used.
var ErrMemory = errors.New("guest memory cannot be shared")

// maxMemory bounds what is mapped in all, in bytes.
const maxMemory = 1 << 40

// region is a piece of guest memory, mapped.
type region struct {
	gpa, user, size uint64
	data            []byte
}

// memory is the guest's, as the last table said.
type memory struct {
	regions []region
}

// mapTable maps the regions of a SET_MEM_TABLE payload. The descriptors stay the
// caller's.
func mapTable(payload []byte, fds []int) (m memory, err error) {
	defer func() {
		if err != nil {
			m.unmap()
			m, err = memory{}, fmt.Errorf("%w: %w", ErrMemory, err)
		}
	}()
	if len(payload) < tableHeader {
		return m, errShort
	}
	n := int(le.Uint32(payload))
	if n > maxRegions || n != len(fds) || len(payload) != tableHeader+n*regionBytes {
		return m, fmt.Errorf("%d regions, %d descriptors, %d bytes", n, len(fds), len(payload))
	}
	total := uint64(0)
	for i, fd := range fds {
		p := payload[tableHeader+i*regionBytes:]
		r := region{gpa: le.Uint64(p), size: le.Uint64(p[8:]), user: le.Uint64(p[16:])}
		offset := le.Uint64(p[24:])
		if r.size == 0 || r.size > maxMemory-total || r.gpa > math.MaxUint64-r.size || r.user > math.MaxUint64-r.size {
			return m, fmt.Errorf("region %d of %#x bytes at %#x, %#x", i, r.size, r.gpa, r.user)
		}
		total += r.size
		for j := range m.regions {
			if o := &m.regions[j]; r.gpa < o.gpa+o.size && o.gpa < r.gpa+r.size {
				return m, fmt.Errorf("regions %d and %d overlap", j, i)
			}
		}
		if r.data, err = mapRegion(fd, offset, r.size); err != nil {
			return m, fmt.Errorf("region %d: %w", i, err)
		}
		m.regions = append(m.regions, r)
	}
	return m, nil
}

// mapRegion maps memory that its other owners cannot make smaller: an access
// behind the end of a file is a SIGBUS.
func mapRegion(fd int, offset, size uint64) ([]byte, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return nil, errors.New("it is no sealed memory file: use -object memory-backend-memfd,share=on")
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if end := uint64(stat.Size); size > end || offset > end-size || offset%uint64(unix.Getpagesize()) != 0 {
		return nil, fmt.Errorf("%#x bytes at %#x of a file of %#x", size, offset, end)
	}
	b, err := unix.Mmap(fd, int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP) // the guest's secrets stay out of our cores, where the kernel can
	return b, nil
}

func (m *memory) unmap() {
	for i := range m.regions {
		_ = unix.Munmap(m.regions[i].data) // it was mapped
	}
	m.regions = nil
}

// guest returns the longest piece of memory at guest address gpa that has at most
// n bytes; it is empty when there is none.
func (m *memory) guest(gpa uint64, n uint32) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if at := gpa - r.gpa; gpa >= r.gpa && at < r.size {
			end := at + min(uint64(n), r.size-at)
			return r.data[at:end:end]
		}
	}
	return nil
}

// user returns n bytes at an address of the front end, nil when they are not in
// one region.
func (m *memory) user(address uint64, n int) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if at := address - r.user; address >= r.user && at < r.size {
			if uint64(n) > r.size-at {
				return nil
			}
			end := at + uint64(n)
			return r.data[at:end:end]
		}
	}
	return nil
}
