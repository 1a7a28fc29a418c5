package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/vfio"
	"keel/hcl/sys"
)

// container is the kernel's side of a Domain, /dev/vfio/vfio. Tests bring their own.
type container interface {
	// join puts an IOMMU group into the container. The IOMMU's requests, info to
	// unmap, need a group in it; when the last one leaves, all mappings are gone.
	join(number int) (group, error)
	info() (iommuInfo, error)
	mapDMA(iova uint64, memory []byte) error
	unmapDMA(iova, size uint64) error
	close() error
}

// group is a group that has joined, /dev/vfio/N.
type group interface {
	device(address string) (device, error)
	// leave takes the group out. All its devices are closed.
	leave() error
}

// device is the kernel's side of a Function.
type device interface {
	flags() (uint32, error)
	region(index uint32) (region, error)
	// interrupts returns how many interrupts of a kind there are.
	interrupts(index uint32) (uint32, error)
	// signal makes interrupts 0 to len(eventfds)-1 of a kind signal eventfds; none
	// turns the kind off.
	signal(index uint32, eventfds []int) error
	readAt(p []byte, offset uint64) error
	writeAt(p []byte, offset uint64) error
	mmap(offset uint64, size int) ([]byte, error)
	reset() error
	close() error
}

// kernelContainer is a container of Linux's.
type kernelContainer struct {
	machine Machine
	fd      int
	groups  int
}

// openContainer opens a container. The error wraps hcl.ErrNotSupported where the
// kernel has no VFIO.
func openContainer(m Machine) (*kernelContainer, error) {
	path := m.vfio("vfio")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", hcl.ErrNotSupported, err)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &kernelContainer{machine: m, fd: fd}
	version, err := sys.Ioctl(fd, vfio.GET_API_VERSION, 0)
	if err == nil && version != vfio.API_VERSION {
		err = fmt.Errorf("%w: API version %d, want %d", hcl.ErrNotSupported, version, vfio.API_VERSION)
	}
	if err == nil {
		var ok int
		if ok, err = sys.Ioctl(fd, vfio.CHECK_EXTENSION, vfio.TYPE1v2_IOMMU); err == nil && ok == 0 {
			err = fmt.Errorf("%w: no type 1 IOMMU", hcl.ErrNotSupported)
		}
	}
	if err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

func (c *kernelContainer) join(number int) (group, error) {
	path := c.machine.vfio(strconv.Itoa(number))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.enter(fd); err != nil {
		_ = unix.Close(fd) // which takes it out of the container as well
		return nil, fmt.Errorf("group %d: %w", number, err)
	}
	c.groups++
	return &kernelGroup{c, fd}, nil
}

// enter puts a group into the container.
func (c *kernelContainer) enter(fd int) error {
	status := make([]byte, vfio.SizeofGroupStatus)
	if _, err := sys.IoctlSized(fd, vfio.GROUP_GET_STATUS, status); err != nil {
		return fmt.Errorf("VFIO_GROUP_GET_STATUS: %w", err)
	}
	if binary.NativeEndian.Uint32(status[vfio.InfoFlags:])&vfio.GROUP_FLAGS_VIABLE == 0 {
		return fmt.Errorf("%w: the kernel says that another driver is in it", ErrGroup)
	}
	container := int32(c.fd)
	if _, err := sys.IoctlPtr(fd, vfio.GROUP_SET_CONTAINER, &container); err != nil {
		return fmt.Errorf("VFIO_GROUP_SET_CONTAINER: %w", err)
	}
	if c.groups > 0 {
		return nil
	}
	if _, err := sys.Ioctl(c.fd, vfio.SET_IOMMU, vfio.TYPE1v2_IOMMU); err != nil {
		return fmt.Errorf("VFIO_SET_IOMMU: %w", err)
	}
	return nil
}

func (c *kernelContainer) info() (iommuInfo, error) {
	b, err := query(c.fd, vfio.IOMMU_GET_INFO, func([]byte) {})
	if err != nil {
		return iommuInfo{}, fmt.Errorf("VFIO_IOMMU_GET_INFO: %w", err)
	}
	return parseIOMMU(b)
}

func (c *kernelContainer) mapDMA(iova uint64, memory []byte) error {
	m := vfio.DMAMap{
		Argsz: vfio.SizeofDMAMap,
		Flags: vfio.DMA_MAP_FLAG_READ | vfio.DMA_MAP_FLAG_WRITE,
		Vaddr: uint64(sys.AddressOf(memory)),
		Iova:  iova,
		Size:  uint64(len(memory)),
	}
	if _, err := sys.IoctlPtr(c.fd, vfio.IOMMU_MAP_DMA, &m); err != nil {
		return fmt.Errorf("VFIO_IOMMU_MAP_DMA %#x+%#x: %w", iova, len(memory), err)
	}
	return nil
}

func (c *kernelContainer) unmapDMA(iova, size uint64) error {
	u := vfio.DMAUnmap{Argsz: vfio.SizeofDMAUnmap, Iova: iova, Size: size}
	if _, err := sys.IoctlPtr(c.fd, vfio.IOMMU_UNMAP_DMA, &u); err != nil {
		return fmt.Errorf("VFIO_IOMMU_UNMAP_DMA %#x+%#x: %w", iova, size, err)
	}
	if u.Size != size {
		return fmt.Errorf("VFIO_IOMMU_UNMAP_DMA %#x+%#x: only %#x were mapped", iova, size, u.Size)
	}
	return nil
}

func (c *kernelContainer) close() error { return unix.Close(c.fd) }

// kernelGroup is a group of Linux's.
type kernelGroup struct {
	container *kernelContainer
	fd        int
}

func (g *kernelGroup) device(address string) (device, error) {
	var name [32]byte // NUL-terminated; checkAddress bounds the address
	copy(name[:len(name)-1], address)
	fd, err := sys.IoctlPtr(g.fd, vfio.GROUP_GET_DEVICE_FD, &name)
	if err != nil {
		return nil, fmt.Errorf("VFIO_GROUP_GET_DEVICE_FD %s: %w", address, err)
	}
	return kernelDevice(fd), nil
}

func (g *kernelGroup) leave() error {
	g.container.groups--
	_, err := sys.Ioctl(g.fd, vfio.GROUP_UNSET_CONTAINER, 0)
	return errors.Join(err, unix.Close(g.fd))
}

// query asks for an information structure, with more room while its capabilities
// do not fit.
func query(fd int, request uintptr, prepare func(b []byte)) ([]byte, error) {
	const most = 1 << 16
	for size := uint32(512); size <= most; {
		b := make([]byte, size)
		prepare(b)
		if _, err := sys.IoctlSized(fd, request, b); err != nil {
			return nil, err
		}
		need := binary.NativeEndian.Uint32(b[vfio.InfoArgsz:])
		if need <= size {
			return b, nil
		}
		size = need
	}
	return nil, fmt.Errorf("%w: more than %d bytes", ErrCapabilities, most)
}
