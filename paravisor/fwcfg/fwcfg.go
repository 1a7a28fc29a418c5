// Package fwcfg reads the files that the host passes through QEMU's firmware
// configuration device. Large files go by DMA straight into guest memory. All
// that comes from the device is untrusted: sizes are bounded by what the caller
// asks for, never by what the device says.
//
// Specification: QEMU docs/specs/fw_cfg.rst.
package fwcfg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// Errors of the device and of its files.
var (
	ErrDevice   = errors.New("fw_cfg device")
	ErrNotFound = errors.New("fw_cfg file not found")
	ErrBounds   = errors.New("outside of the fw_cfg file")
)

const (
	maxFiles = 4096             // entries that are looked at
	timeout  = 30 * time.Second // for one transfer
	pageSize = 4096
)

// File is one entry of the directory.
type File struct {
	Name string
	Size uint32
	key  uint16
}

// Device is the fw_cfg device of the VM.
type Device struct {
	pagemap *sys.Pagemap
	// page holds the access structure at its start and a bounce buffer after
	// it. It is locked, and the VTL2 kernel does not migrate pages.
	page  []byte
	files map[string]File
}

// Open finds the device and reads its directory.
// Preconditions: the goroutine stays locked to its thread as long as the device
// is used, because port access is granted to a thread.
func Open() (*Device, error) {
	if err := sys.AllowPorts(portSelector, portCount); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	pagemap, err := sys.OpenPagemap()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	page, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED|unix.MAP_POPULATE)
	if err != nil {
		_ = pagemap.Close()
		return nil, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	d := &Device{pagemap: pagemap, page: page}
	if err := d.probe(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// Close frees the device's buffers.
func (d *Device) Close() error {
	return errors.Join(unix.Munmap(d.page), d.pagemap.Close())
}

// probe checks that there is a device with DMA and reads the directory.
func (d *Device) probe() error {
	// Without a device the port reads ones, and a transfer would never end:
	// the selector and data ports tell before any DMA is tried.
	sys.OutW(portSelector, keySignature)
	for _, c := range []byte("QEMU") {
		if sys.InB(portSelector+1) != c {
			return fmt.Errorf("%w: no signature", ErrDevice)
		}
	}
	sys.OutW(portSelector, keyID)
	if sys.InB(portSelector+1)&idDMA == 0 {
		return fmt.Errorf("%w: no DMA", ErrDevice)
	}
	var count [4]byte
	if err := d.read(keyDirectory, 0, count[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(count[:])
	if n > maxFiles {
		return fmt.Errorf("%w: directory of %d files", ErrDevice, n)
	}
	raw := make([]byte, int(n)*entrySize)
	if err := d.read(keyDirectory, 4, raw); err != nil {
		return err
	}
	d.files = parseDirectory(raw)
	return nil
}

// parseDirectory decodes whole entries; the first of a name counts.
func parseDirectory(raw []byte) map[string]File {
	files := make(map[string]File, len(raw)/entrySize)
	for ; len(raw) >= entrySize; raw = raw[entrySize:] {
		name, _, _ := bytes.Cut(raw[8:8+nameSize], []byte{0})
		f := File{
			Name: string(name),
			Size: binary.BigEndian.Uint32(raw),
			key:  binary.BigEndian.Uint16(raw[4:]),
		}
		if _, taken := files[f.Name]; !taken {
			files[f.Name] = f
		}
	}
	return files
}

// Find returns the file of that name. The error wraps ErrNotFound.
func (d *Device) Find(name string) (File, error) {
	f, ok := d.files[name]
	if !ok {
		return File{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return f, nil
}

// Read copies the bytes of a file from offset on into p.
func (d *Device) Read(f File, offset uint64, p []byte) error {
	if err := f.check(offset, len(p)); err != nil {
		return err
	}
	return d.read(f.key, offset, p)
}

// ReadDMA lets the device write the bytes of a file from offset on into a
// mapping made of pages of the given size, in bytes. The mapping must be
// locked memory; its pages are touched first.
func (d *Device) ReadDMA(f File, offset uint64, mapping []byte, granule int) error {
	if err := f.check(offset, len(mapping)); err != nil {
		return err
	}
	if err := d.seek(f.key, offset); err != nil {
		return err
	}
	for len(mapping) > 0 {
		mapping[0] = 0 // a page that nobody touched has no address
		n := granule - int(sys.AddressOf(mapping))%granule
		n = min(n, len(mapping))
		at, err := d.pagemap.Physical(mapping)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDevice, err)
		}
		if err := d.transfer(accessRead, n, at); err != nil {
			return err
		}
		mapping = mapping[n:]
	}
	return nil
}

func (f File) check(offset uint64, n int) error {
	if offset > uint64(f.Size) || uint64(n) > uint64(f.Size)-offset {
		return fmt.Errorf("%w: %s has %d bytes, wanted %d at %d", ErrBounds, f.Name, f.Size, n, offset)
	}
	return nil
}

// read copies through the bounce buffer.
func (d *Device) read(key uint16, offset uint64, p []byte) error {
	if err := d.seek(key, offset); err != nil {
		return err
	}
	bounce := d.page[accessSize:]
	at, err := d.pagemap.Physical(bounce)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDevice, err)
	}
	for len(p) > 0 {
		n := min(len(p), len(bounce))
		if err := d.transfer(accessRead, n, at); err != nil {
			return err
		}
		copy(p, bounce[:n])
		p = p[n:]
	}
	return nil
}

// seek selects an item and moves to an offset in it.
func (d *Device) seek(key uint16, offset uint64) error {
	if err := d.transfer(uint32(key)<<16|accessSelect|accessSkip, int(offset), 0); err != nil {
		return err
	}
	return nil
}

// transfer runs one DMA operation to its end.
func (d *Device) transfer(control uint32, n int, address uint64) error {
	at, err := d.pagemap.Physical(d.page)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDevice, err)
	}
	binary.BigEndian.PutUint32(d.page[4:], uint32(n))
	binary.BigEndian.PutUint64(d.page[8:], address)
	binary.BigEndian.PutUint32(d.page, control)
	var pointer [8]byte
	binary.BigEndian.PutUint64(pointer[:], at)
	sys.OutL(portDMA, binary.LittleEndian.Uint32(pointer[:]))
	sys.OutL(portDMA+4, binary.LittleEndian.Uint32(pointer[4:]))
	for deadline := time.Now().Add(timeout); ; {
		switch sys.LoadUint32(d.page) {
		case 0:
			return nil
		case accessError << 24: // big-endian
			return fmt.Errorf("%w: transfer refused", ErrDevice)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: no answer in %v", ErrDevice, timeout)
		}
	}
}
