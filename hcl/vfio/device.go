package vfio

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
	"keel/hcl/sys"
)

// kernelDevice is the file of an assigned function.
type kernelDevice int

func (d kernelDevice) flags() (uint32, error) {
	b := make([]byte, vfio.DeviceIRQs+4)
	if _, err := sys.IoctlSized(int(d), vfio.DEVICE_GET_INFO, b); err != nil {
		return 0, fmt.Errorf("VFIO_DEVICE_GET_INFO: %w", err)
	}
	return binary.NativeEndian.Uint32(b[vfio.InfoFlags:]), nil
}

func (d kernelDevice) region(index uint32) (region, error) {
	b, err := query(int(d), vfio.DEVICE_GET_REGION_INFO, func(b []byte) {
		binary.NativeEndian.PutUint32(b[vfio.RegionIndex:], index)
	})
	if err != nil {
		return region{}, fmt.Errorf("VFIO_DEVICE_GET_REGION_INFO %d: %w", index, err)
	}
	return parseRegion(b)
}

func (d kernelDevice) interrupts(index uint32) (uint32, error) {
	b := make([]byte, vfio.SizeofIRQInfo)
	binary.NativeEndian.PutUint32(b[vfio.IRQIndex:], index)
	if _, err := sys.IoctlSized(int(d), vfio.DEVICE_GET_IRQ_INFO, b); err != nil {
		return 0, fmt.Errorf("VFIO_DEVICE_GET_IRQ_INFO %d: %w", index, err)
	}
	if binary.NativeEndian.Uint32(b[vfio.InfoFlags:])&vfio.IRQ_INFO_EVENTFD == 0 {
		return 0, nil
	}
	return binary.NativeEndian.Uint32(b[vfio.IRQCount:]), nil
}

func (d kernelDevice) signal(index uint32, eventfds []int) error {
	const action = vfio.IRQ_SET_ACTION_TRIGGER
	b := make([]byte, vfio.IRQSetData, vfio.IRQSetData+4*len(eventfds))
	flags := uint32(action | vfio.IRQ_SET_DATA_NONE)
	if len(eventfds) > 0 {
		flags = action | vfio.IRQ_SET_DATA_EVENTFD
	}
	binary.NativeEndian.PutUint32(b[vfio.InfoFlags:], flags)
	binary.NativeEndian.PutUint32(b[vfio.IRQSetIndex:], index)
	binary.NativeEndian.PutUint32(b[vfio.IRQSetCount:], uint32(len(eventfds)))
	for _, fd := range eventfds {
		b = binary.NativeEndian.AppendUint32(b, uint32(fd))
	}
	if _, err := sys.IoctlSized(int(d), vfio.DEVICE_SET_IRQS, b); err != nil {
		return fmt.Errorf("VFIO_DEVICE_SET_IRQS %d, %d of them: %w", index, len(eventfds), err)
	}
	return nil
}

func (d kernelDevice) readAt(p []byte, offset uint64) error {
	return whole(unix.Pread(int(d), p, int64(offset)))(len(p))
}

func (d kernelDevice) writeAt(p []byte, offset uint64) error {
	return whole(unix.Pwrite(int(d), p, int64(offset)))(len(p))
}

// whole turns a transfer that came out shorter than asked into an error.
func whole(n int, err error) func(want int) error {
	return func(want int) error {
		if err == nil && n != want {
			return io.ErrUnexpectedEOF
		}
		return err
	}
}

func (d kernelDevice) mmap(offset uint64, size int) ([]byte, error) {
	return unix.Mmap(int(d), int64(offset), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (d kernelDevice) reset() error {
	if _, err := sys.Ioctl(int(d), vfio.DEVICE_RESET, 0); err != nil {
		return fmt.Errorf("VFIO_DEVICE_RESET: %w", err)
	}
	return nil
}

func (d kernelDevice) close() error { return unix.Close(int(d)) }
