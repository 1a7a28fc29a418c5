// Package virtio is a virtio device over PCI (virtio 1.2, modern interface only)
// with split virtqueues. What the device does is a Handler's business: it takes
// descriptor chains from queues and completes them, in any order and on any
// goroutine.
//
// Everything that the guest writes is copied once, and the copy is checked. A ring
// that makes no sense stops the device until the driver resets it; it is counted.
// Taking and completing chains needs only locks of the queue and allocates nothing
// once the queue is warm.
package virtio

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"keel/vtl/guestmem"
	"keel/vtl/irq"
	"keel/vtl/pci"
)

// ErrConfig is the stage of a device that cannot be made.
var ErrConfig = errors.New("virtio device")

var (
	errQueues  = errors.New("queues out of bounds")
	errMissing = errors.New("memory or handler missing")
	errLayout  = errors.New("device configuration out of bounds")
)

// Handler is what a type of devices does.
type Handler interface {
	// Available says that a queue may have chains: Handler takes them with Next
	// until that returns nil, or leaves them. One goroutine at a time calls it
	// for a queue, often a VP's: it does not block.
	Available(q *Queue)
	// Cancel asks for an early end of the chains that were taken from a queue,
	// or from all when queue is negative. It does not wait for them.
	Cancel(queue int)
	// Reset restores the defaults of the device's configuration. No chain is
	// taken. It calls nothing of the Device.
	Reset()
	// ReadConfig and WriteConfig access the configuration of the device's type:
	// 1, 2 or 4 bytes, inside its length. Several VPs may call them at once.
	ReadConfig(offset, size int) uint32
	WriteConfig(offset, size int, value uint32)
}

// Config says what a device is.
type Config struct {
	Type       uint8    // §5
	Class      uint32   // PCI class code
	Features   Features // of the type
	ConfigSize int      // bytes of the type's configuration
	Queues     []uint16 // their largest sizes, powers of two
	// Platform makes the driver go through its platform's DMA interface, as a
	// confidential guest must: ACCESS_PLATFORM and ORDER_PLATFORM are offered,
	// and a driver that refuses the first is refused.
	Platform bool
	// DirectDMA says that assigned devices reach guest memory at the guest's own
	// addresses.
	DirectDMA bool
	Memory    *guestmem.Memory
	MSI       irq.MSITarget
	Handler   Handler
}

// Device is a virtio device. Its methods may be called from any goroutine.
type Device struct {
	memory    *guestmem.Memory
	handler   Handler
	direct    bool
	endpoint  *pci.Endpoint
	queues    []*Queue
	offered   Features
	required  Features
	configLen uint64
	vectors   uint32
	access    configAccess

	status       atomic.Uint32
	features     atomic.Uint64 // what the driver and the device agreed on
	isr          atomic.Uint32
	configVector atomic.Uint32
	counters     counters

	mu           sync.Mutex
	deviceSelect uint32
	driverSelect uint32
	driver       Features // as the driver writes them
	selected     uint16   // queue
	resetting    bool
	idle         sync.Cond // resetting has become false
}

// New makes a device in its power-on state.
func New(c Config) (*Device, error) {
	switch {
	case c.Memory == nil || c.Handler == nil:
		return nil, fmt.Errorf("%w: %w", ErrConfig, errMissing)
	case len(c.Queues) == 0 || len(c.Queues) > maxQueues:
		return nil, fmt.Errorf("%w: %w: %d", ErrConfig, errQueues, len(c.Queues))
	case c.ConfigSize < 0 || c.ConfigSize > regionSize:
		return nil, fmt.Errorf("%w: %w: %d bytes", ErrConfig, errLayout, c.ConfigSize)
	}
	d := &Device{
		memory: c.Memory, handler: c.Handler, direct: c.DirectDMA,
		offered:   c.Features&typeFeatures | FeatureIndirect | FeatureEventIndex | FeatureVersion1 | FeatureRingReset,
		required:  FeatureVersion1,
		configLen: uint64(c.ConfigSize),
		vectors:   uint32(len(c.Queues) + 1),
	}
	if c.Platform {
		d.offered |= FeatureAccessPlatform | FeatureOrderPlatform
		d.required |= FeatureAccessPlatform
	}
	d.idle.L = &d.mu
	for i, size := range c.Queues {
		if size == 0 || size > maxQueueSize || bits.OnesCount16(size) != 1 {
			return nil, fmt.Errorf("%w: %w: size %d", ErrConfig, errQueues, size)
		}
		d.queues = append(d.queues, &Queue{device: d, index: i, max: size, chains: make([]Chain, size)})
	}
	d.access.device = d
	var err error
	d.endpoint, err = pci.New(pci.Config{
		Vendor: pciVendor, Device: pciDeviceBase + uint16(c.Type),
		SubsystemVendor: pciVendor, Subsystem: pciSubsystem,
		Class: c.Class, Revision: pciRevision,
		BARs: [6]pci.BAR{
			registerBAR: {Size: registerBARSize, Wide: true, Device: registers{d}},
			portBAR:     {Size: portBARSize, Ports: ports{d}},
		},
		Capabilities: d.capabilities(),
		Vectors:      int(d.vectors), VectorBAR: vectorBAR, MSI: c.MSI,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	d.mu.Lock()
	d.defaults()
	d.mu.Unlock()
	return d, nil
}

// PCI returns the device's PCI function, for the host bridge.
func (d *Device) PCI() *pci.Endpoint { return d.endpoint }

// Queue returns a queue by its number.
func (d *Device) Queue(index int) *Queue { return d.queues[index] }

// Features returns what driver and device agreed on, 0 before they did.
func (d *Device) Features() Features { return Features(d.features.Load()) }

// Running reports whether the driver has set the device going and nothing has
// stopped it.
func (d *Device) Running() bool {
	return Status(d.status.Load())&(StatusDriverOK|StatusNeedsReset) == StatusDriverOK
}

// interruptConfig sends the driver the interrupt that makes it look at the status.
func (d *Device) interruptConfig() {
	d.isr.Or(isrConfig)
	if v := d.configVector.Load(); v != NoVector {
		d.endpoint.Signal(int(v))
	}
}

// interrupt tells the driver of used chains.
func (d *Device) interrupt(q *Queue) {
	if !d.endpoint.MSIX() {
		d.isr.Or(isrQueue)
		return
	}
	if v := q.vector.Load(); v != NoVector {
		q.interrupts.Add(1)
		d.endpoint.Signal(int(v))
	}
}

// fail stops the device until the driver resets it (§2.1.2).
func (d *Device) fail(cause error) {
	d.counters.broken.Add(1)
	d.counters.cause.Store(&cause)
	old := Status(d.status.Or(uint32(StatusNeedsReset)))
	if old&StatusNeedsReset == 0 && old&StatusDriverOK != 0 {
		d.interruptConfig()
	}
}
