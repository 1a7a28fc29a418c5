package vfio

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
)

// fakeBAR is the size of the registers of a fakeDevice. The MSI-X table is in its
// second page, as that of QEMU's NVMe controller.
const (
	fakeBAR    = 4 * pageSize
	fakeTable  = pageSize + 256
	fakeVector = 8
)

// fakeDevice is a device of the kernel's with a file as its registers. Its
// interrupts are raised by raise.
type fakeDevice struct {
	t testing.TB

	mu       sync.Mutex
	config   [cfgSize]byte
	regions  map[uint32]region
	counts   map[uint32]uint32
	fails    map[uint32]error // of signal, by index
	eventfds map[uint32][]int
	flag     uint32
	bar      int // file
	mmaps    int
	resets   int
	closed   bool
	one      [8]byte // what is written to eventfds
}

func newFakeDevice(tb testing.TB) *fakeDevice {
	tb.Helper()
	bar, err := unix.MemfdCreate("bar", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Ftruncate(bar, fakeBAR); err != nil {
		tb.Fatal(err)
	}
	d := &fakeDevice{
		t: tb, bar: bar, one: [8]byte{1}, flag: vfio.DEVICE_FLAGS_PCI | vfio.DEVICE_FLAGS_RESET,
		fails: map[uint32]error{}, eventfds: map[uint32][]int{},
		counts: map[uint32]uint32{vfio.PCI_MSIX_IRQ_INDEX: fakeVector, vfio.PCI_REQ_IRQ_INDEX: 1, vfio.PCI_ERR_IRQ_INDEX: 1},
		regions: map[uint32]region{
			0:                            {size: fakeBAR, areas: []span{{0, fakeBAR}}},
			2:                            {size: 64, offset: 1 << 20}, // ports
			vfio.PCI_CONFIG_REGION_INDEX: {size: cfgSize, offset: 7 << 40},
		},
	}
	tb.Cleanup(func() { _ = unix.Close(bar) })
	d.put16(cfgVendorID, 0x1b36)
	d.put16(cfgDeviceID, 0x0010)
	d.put32(cfgClass, 0x010802<<8|2)
	d.put32(cfgBAR0+4*2, barIO)
	d.put16(cfgStatus, statusCapabilities)
	d.put16(cfgCommand, commandMaster)
	d.config[cfgCapabilities] = 0x41 // low bits are reserved
	d.config[0x40], d.config[0x41] = 1, 0x50
	d.config[0x50] = capabilityMSIX
	d.put16(0x50+msixControl, fakeVector-1)
	d.put32(0x50+msixTable, fakeTable)
	return d
}

func (d *fakeDevice) put16(at int, v uint16) { binary.LittleEndian.PutUint16(d.config[at:], v) }
func (d *fakeDevice) put32(at int, v uint32) { binary.LittleEndian.PutUint32(d.config[at:], v) }

// command reads the command register.
func (d *fakeDevice) command() uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return binary.LittleEndian.Uint16(d.config[cfgCommand:])
}

// raise signals an interrupt.
func (d *fakeDevice) raise(index uint32, vector int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fds := d.eventfds[index]; vector < len(fds) {
		if _, err := unix.Write(fds[vector], d.one[:]); err != nil {
			d.t.Error(err)
		}
	}
}

// revoke takes the registers away as the kernel does.
func (d *fakeDevice) revoke() {
	if err := unix.Ftruncate(d.bar, 0); err != nil {
		d.t.Error(err)
	}
}

func (d *fakeDevice) flags() (uint32, error) { return d.flag, nil }

func (d *fakeDevice) region(index uint32) (region, error) { return d.regions[index], nil }

func (d *fakeDevice) interrupts(index uint32) (uint32, error) {
	n, ok := d.counts[index]
	if !ok {
		return 0, unix.EINVAL
	}
	return n, nil
}

func (d *fakeDevice) signal(index uint32, eventfds []int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails[index]; err != nil {
		return err
	}
	if d.closed || uint32(len(eventfds)) > d.counts[index] || len(eventfds) == 0 && d.eventfds[index] == nil {
		return unix.EINVAL
	}
	for _, fd := range d.eventfds[index] {
		_ = unix.Close(fd)
	}
	// The kernel holds on to eventfds, also when they are closed here.
	var held []int
	for _, fd := range eventfds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			d.t.Fatal(err)
		}
		held = append(held, dup)
	}
	d.eventfds[index] = held
	return nil
}

// in tells whether an access lies in a region, and at which offset of it.
func (d *fakeDevice) in(index uint32, n int, offset uint64) (int, bool) {
	r := d.regions[index]
	return int(offset - r.offset), offset >= r.offset && offset+uint64(n) <= r.offset+r.size
}

func (d *fakeDevice) readAt(p []byte, offset uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := d.in(vfio.PCI_CONFIG_REGION_INDEX, len(p), offset); ok {
		copy(p, d.config[at:])
		return nil
	}
	if _, ok := d.in(0, len(p), offset); ok {
		return whole(unix.Pread(d.bar, p, int64(offset)))(len(p))
	}
	return unix.EINVAL
}

func (d *fakeDevice) writeAt(p []byte, offset uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := d.in(vfio.PCI_CONFIG_REGION_INDEX, len(p), offset); ok {
		copy(d.config[at:], p)
		return nil
	}
	if _, ok := d.in(0, len(p), offset); ok {
		return whole(unix.Pwrite(d.bar, p, int64(offset)))(len(p))
	}
	return unix.EINVAL
}

func (d *fakeDevice) mmap(offset uint64, size int) ([]byte, error) {
	d.mmaps++
	return unix.Mmap(d.bar, int64(offset), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (d *fakeDevice) reset() error {
	d.resets++
	return nil
}

func (d *fakeDevice) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		d.t.Error("the device is closed twice")
	}
	d.closed = true
	for _, fds := range d.eventfds {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// fakeContainer is a container whose IOMMU remembers what is mapped.
type fakeContainer struct {
	t       testing.TB
	iommu   iommuInfo
	devices map[string]*fakeDevice
	groups  map[int]bool
	mapped  map[uint64]uint64 // size by address
	closed  bool
	full    error // of the next mappings
}

func newFakeContainer(tb testing.TB) *fakeContainer {
	tb.Helper()
	return &fakeContainer{
		t:       tb,
		iommu:   iommuInfo{pageSizes: pageSize | 2<<20, ranges: []span{{0, 0xfee00000}, {0xfef00000, 1 << 39}}, limited: true, available: 100},
		devices: map[string]*fakeDevice{}, groups: map[int]bool{}, mapped: map[uint64]uint64{},
	}
}

func (c *fakeContainer) join(number int) (group, error) {
	if c.groups[number] {
		c.t.Errorf("group %d joins twice", number)
	}
	c.groups[number] = true
	return &fakeGroup{c, number}, nil
}

func (c *fakeContainer) info() (iommuInfo, error) {
	if len(c.groups) == 0 {
		c.t.Error("the IOMMU is asked without a group")
	}
	return c.iommu, nil
}

func (c *fakeContainer) mapDMA(iova uint64, memory []byte) error {
	if len(c.groups) == 0 {
		c.t.Error("a mapping without a group")
	}
	if c.full != nil {
		return c.full
	}
	s := span{iova, iova + uint64(len(memory))}
	for start, size := range c.mapped {
		if s.overlaps(span{start, start + size}) {
			return unix.EEXIST
		}
	}
	if !slices.ContainsFunc(c.iommu.ranges, func(r span) bool { return r.holds(s) }) {
		return unix.EINVAL
	}
	c.mapped[iova] = uint64(len(memory))
	return nil
}

func (c *fakeContainer) unmapDMA(iova, size uint64) error {
	if c.mapped[iova] != size {
		c.t.Errorf("%#x+%#x is unmapped, %#x bytes are mapped", iova, size, c.mapped[iova])
		return errors.New("not mapped")
	}
	delete(c.mapped, iova)
	return nil
}

func (c *fakeContainer) close() error {
	c.closed = true
	return nil
}

type fakeGroup struct {
	c      *fakeContainer
	number int
}

func (g *fakeGroup) device(address string) (device, error) {
	d := g.c.devices[address]
	if d == nil {
		return nil, unix.ENODEV
	}
	return d, nil
}

func (g *fakeGroup) leave() error {
	delete(g.c.groups, g.number)
	if len(g.c.groups) == 0 {
		clear(g.c.mapped)
	}
	return nil
}
