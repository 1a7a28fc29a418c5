// Package virtioscsi is a virtio SCSI host device (virtio 1.2 §5.6): it takes
// commands and task management functions from a guest's queues to a SCSI target,
// and the target's changes to the guest.
package virtioscsi

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/translate/scsi"
	"keel/translate/virtio"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
	"keel/vtl/pci"
)

// ErrConfig is the stage of a controller that cannot be made.
var ErrConfig = errors.New("virtio-scsi controller")

var (
	errTarget    = errors.New("no target")
	errQueues    = errors.New("request queues out of bounds")
	errInitiator = errors.New("initiator out of bounds")
)

// Target is what executes commands: a scsi.Controller.
type Target interface {
	Submit(c *scsi.Command)
	Manage(t *scsi.Task)
	LUNs() []uint16
}

var _ Target = (*scsi.Controller)(nil)

const (
	controlSize      = 64
	eventQueueSize   = 64
	defaultQueueSize = 256
	defaultSectors   = 0xffff
	maxRequestQueues = 64
)

// Config says what a controller is.
type Config struct {
	Target    Target
	Initiator uint8 // the guest's I_T nexus at the target
	// RequestQueues is how many there are, usually one a VP; 0 stands for 1.
	RequestQueues int
	QueueSize     uint16 // of a request queue, a power of two from 4 on; 0 for 256
	MaxSectors    uint32 // hint for the longest transfer, of 512 bytes; 0 for 65,535
	Platform      bool   // as in virtio.Config
	DirectDMA     bool   // as in virtio.Config
	Memory        *guestmem.Memory
	MSI           irq.MSITarget
}

// Controller is the device. Its methods may be called from any goroutine.
type Controller struct {
	target    Target
	initiator uint8
	device    *virtio.Device
	config    [cfgSize / 4]uint32 // but what follows
	senseSize atomic.Uint32
	cdbSize   atomic.Uint32
	used      atomic.Bool // commands were given to the target since the last reset

	requests  [][]command // by queue and slot
	controls  []control   // by slot
	subscribe [scsi.MaxLUNs]atomic.Uint32
	counters  counters

	mu      sync.Mutex
	pending [maxPending]event // ring
	first   int
	count   int
	missed  bool
}

// New makes a controller in its power-on state.
func New(c Config) (*Controller, error) {
	if c.RequestQueues == 0 {
		c.RequestQueues = 1
	}
	if c.QueueSize == 0 {
		c.QueueSize = defaultQueueSize
	}
	if c.MaxSectors == 0 {
		c.MaxSectors = defaultSectors
	}
	switch {
	case c.Target == nil:
		return nil, fmt.Errorf("%w: %w", ErrConfig, errTarget)
	case c.RequestQueues < 0 || c.RequestQueues > maxRequestQueues || c.QueueSize < 4 || c.QueueSize > virtio.MaxIndirect:
		return nil, fmt.Errorf("%w: %w: %d of size %d", ErrConfig, errQueues, c.RequestQueues, c.QueueSize)
	case c.Initiator >= scsi.MaxInitiators:
		return nil, fmt.Errorf("%w: %w: %d", ErrConfig, errInitiator, c.Initiator)
	}
	ct := &Controller{target: c.Target, initiator: c.Initiator, controls: make([]control, controlSize)}
	ct.config = [cfgSize / 4]uint32{
		cfgNumQueues / 4: uint32(c.RequestQueues),
		// Request and response take a descriptor each, of a chain that may be as
		// long as the queue.
		cfgSegMax / 4:     uint32(c.QueueSize) - 2,
		cfgMaxSectors / 4: c.MaxSectors,
		cfgCmdPerLUN / 4:  uint32(c.QueueSize),
		cfgEventSize / 4:  eventSize,
		cfgMaxChannel / 4: 0, // one channel, one target
		cfgMaxLUN / 4:     scsi.MaxLUNs - 1,
	}
	for i := range ct.controls {
		ct.controls[i].init(ct)
	}
	queues := []uint16{queueControl: controlSize, queueEvent: eventQueueSize}
	for i := range c.RequestQueues {
		queues = append(queues, c.QueueSize)
		ct.requests = append(ct.requests, make([]command, c.QueueSize))
		for s := range ct.requests[i] {
			ct.requests[i][s].init(ct, i)
		}
	}
	var err error
	ct.device, err = virtio.New(virtio.Config{
		Type: deviceType, Class: pciClass, Features: featureInOut | featureHotplug | featureChange,
		ConfigSize: cfgSize, Queues: queues, Platform: c.Platform, DirectDMA: c.DirectDMA,
		Memory: c.Memory, MSI: c.MSI, Handler: handler{ct},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return ct, nil
}

// PCI returns the controller's PCI function, for the host bridge.
func (ct *Controller) PCI() *pci.Endpoint { return ct.device.PCI() }

// Reset puts controller and target into their power-on state. It waits for the
// commands in flight: afterwards none moves data to or from guest memory.
// Preconditions: no VP runs, and no other front end uses the target.
func (ct *Controller) Reset() {
	ct.device.Reset()
	ct.target.Manage(&scsi.Task{Function: scsi.PowerOn, Initiator: ct.initiator, Done: ignore})
}

func ignore(*scsi.Task) {}

// handler is the controller as its virtio device sees it.
type handler struct{ *Controller }

// Available takes requests from a queue, or brings events to it.
func (h handler) Available(q *virtio.Queue) {
	switch n := q.Index(); n {
	case queueControl:
		for c := q.Next(); c != nil; c = q.Next() {
			h.controls[c.Slot()].start(c)
		}
	case queueEvent:
		h.deliver(q)
	default:
		commands := h.requests[n-queueRequest]
		for c := q.Next(); c != nil; c = q.Next() {
			commands[c.Slot()].start(c)
		}
	}
}

// Cancel aborts commands. Those that come a moment later run to their end. Queue
// resets are rare: the tasks are made when they are needed.
func (h handler) Cancel(queue int) {
	switch {
	case queue < 0:
		if h.used.Swap(false) {
			h.target.Manage(&scsi.Task{Function: scsi.NexusReset, Initiator: h.initiator, Done: ignore})
		}
	case queue >= queueRequest:
		commands := h.requests[queue-queueRequest]
		for i := range commands {
			c := &commands[i]
			if !c.busy.Load() {
				continue
			}
			h.target.Manage(&scsi.Task{
				Function: scsi.AbortTask, LUN: uint16(c.lun.Load()), Initiator: h.initiator, Tag: c.tag.Load(), Done: ignore,
			})
		}
	}
}

// Reset restores the defaults of the configuration.
func (h handler) Reset() {
	h.senseSize.Store(defaultSense)
	h.cdbSize.Store(defaultCDB)
	for i := range h.subscribe {
		h.subscribe[i].Store(0)
	}
	h.mu.Lock()
	h.first, h.count, h.missed = 0, 0, false
	h.mu.Unlock()
}

// ReadConfig reads the configuration, in pieces of any size.
func (h handler) ReadConfig(offset, size int) uint32 {
	v := h.config[offset/4]
	switch offset &^ 3 {
	case cfgSenseSize:
		v = h.senseSize.Load()
	case cfgCDBSize:
		v = h.cdbSize.Load()
	}
	return v >> (8 * (offset & 3)) & uint32(1<<(8*size)-1)
}

// WriteConfig writes the two sizes that the driver may choose.
func (h handler) WriteConfig(offset, size int, value uint32) {
	switch {
	case offset == cfgSenseSize && size == 4 && value <= maxSense:
		h.senseSize.Store(value)
	case offset == cfgCDBSize && size == 4 && value >= 1 && value <= maxCDB:
		h.cdbSize.Store(value)
	default:
		h.counters.config.Add(1)
	}
}
