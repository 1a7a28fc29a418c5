// Package storvsp is Hyper-V's synthetic SCSI controller as a device on VMBus: the
// one that Linux's hv_storvsc and Windows' storvsc drive. It takes SCSI commands
// out of rings and hands them to a target; data goes straight between the guest's
// pages and the disk.
//
// The controller has one channel, and as many sub-channels as the guest asks for,
// up to one for each further VP. Each has its own commands, locks and answers. What
// a channel may have under way is bounded: further packets stay in its ring.
package storvsp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/translate/scsi"
	"keel/translate/vmbus"
	"keel/vtl/guestmem"
)

// ErrConfig says that a controller cannot be made as asked.
var ErrConfig = errors.New("synthetic SCSI controller")

// Bounds.
const (
	// DefaultTransfer and MaxTransfer are the usual and the largest number of bytes
	// of one command.
	DefaultTransfer = 1 << 20
	MaxTransfer     = 8 << 20
	// DefaultDepth and MaxDepth are the usual and the largest number of commands
	// that a channel has under way.
	DefaultDepth = 256
	MaxDepth     = 1024

	maxVPs     = 64
	packetRoom = 128 // of a packet beside its page numbers
)

// Target is what runs the commands; *scsi.Controller is one.
type Target interface {
	// Submit runs a command. It does not block; Done may be called before it
	// returns.
	Submit(c *scsi.Command)
	// Manage runs a task management function, likewise.
	Manage(t *scsi.Task)
}

// Config is what a controller needs.
type Config struct {
	Bus      *vmbus.Server
	Memory   *guestmem.Memory
	Target   Target
	Instance vmbus.GUID // unlike that of any other device; the same at each start
	VPs      int        // of the guest
	// Transfer bounds the bytes of one command: a multiple of 4096, 0 for
	// DefaultTransfer.
	Transfer int
	// Depth bounds the commands under way on a channel, 0 for DefaultDepth.
	Depth     int
	Initiator uint8 // the I_T nexus that the guest is to the target
	// PollDepth, unless it is 0, is how many commands of a channel have to be under
	// way for the guest not to be asked to signal further ones: they are found when
	// a command ends. It saves exits under load and may delay a command.
	PollDepth int
	// DirectDMA says that assigned devices reach guest memory at its guest physical
	// addresses. Otherwise data is copied.
	DirectDMA bool
}

// phase is how far the guest has come with the initialization.
type phase uint8

const (
	phaseBegin phase = iota
	phaseVersion
	phaseProperties
	phaseEnd
	phaseReady
)

// Controller is one controller.
type Controller struct {
	Config
	kind  vmbus.GUID
	main  queue
	phase atomic.Uint32
	n     counters

	mu      sync.Mutex
	channel *vmbus.Channel
	subs    []*vmbus.Channel
	removed bool
}

// New makes a controller and offers it to the guest.
func New(c Config) (*Controller, error) {
	if c.Transfer == 0 {
		c.Transfer = DefaultTransfer
	}
	if c.Depth == 0 {
		c.Depth = DefaultDepth
	}
	switch {
	case c.Bus == nil || c.Memory == nil || c.Target == nil || c.VPs < 1 || c.VPs > maxVPs:
		return nil, fmt.Errorf("%w: %d VPs", ErrConfig, c.VPs)
	case c.Transfer < x86.PageSize || c.Transfer > MaxTransfer || c.Transfer%x86.PageSize != 0:
		return nil, fmt.Errorf("%w: transfers of %d bytes", ErrConfig, c.Transfer)
	case c.Depth < 1 || c.Depth > MaxDepth || c.PollDepth < 0:
		return nil, fmt.Errorf("%w: %d commands, polling from %d on", ErrConfig, c.Depth, c.PollDepth)
	}
	kind, err := vmbus.ParseGUID(interfaceSCSI)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ct := &Controller{Config: c, kind: kind}
	ct.main.init(ct)
	channel, err := ct.offer(0, &ct.main)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ct.mu.Lock()
	ct.channel = channel
	ct.mu.Unlock()
	return ct, nil
}

// offer offers a channel.
func (ct *Controller) offer(sub uint16, q *queue) (*vmbus.Channel, error) {
	return ct.Bus.Offer(vmbus.Offer{
		Interface: ct.kind, Instance: ct.Instance, Sub: sub,
		MaxPacket: packetRoom + 8*ct.largestList(),
	}, q)
}

// largestList is how many pages a command's data can touch.
func (ct *Controller) largestList() int { return ct.Transfer/x86.PageSize + 1 }

// Event tells the guest that something has changed: it looks for new disks, and for
// those that are gone or have another size. It fits the notify function of
// scsi.New.
func (ct *Controller) Event(scsi.Event) {
	if ct.ready() {
		ct.main.enumerate()
	}
}

// Remove takes the controller away from the guest. Its commands are aborted.
func (ct *Controller) Remove() {
	ct.mu.Lock()
	gone := ct.removed
	ct.removed = true
	channel := ct.channel
	ct.mu.Unlock()
	if !gone {
		channel.Rescind()
	}
}

// closed forgets what the guest agreed on. Its sub-channels end with the channel.
func (ct *Controller) closed() {
	// Linux expects rescinds of the sub-channels, and so makes new ones when its
	// driver is bound again.
	ct.mu.Lock()
	subs := ct.subs
	ct.subs = nil
	ct.mu.Unlock()
	ct.phase.Store(uint32(phaseBegin))
	for _, c := range subs {
		c.Rescind()
	}
}

// createSubs offers so many sub-channels.
func (ct *Controller) createSubs(n int) uint32 {
	if n > ct.VPs-1 {
		return ntInvalidParam
	}
	ct.mu.Lock()
	again := len(ct.subs) > 0
	ct.mu.Unlock()
	if again {
		return ntInvalidState
	}
	subs := make([]*vmbus.Channel, 0, n)
	for i := range n {
		q := &queue{}
		q.init(ct)
		c, err := ct.offer(uint16(i+1), q)
		if err != nil {
			for _, c := range subs {
				c.Rescind()
			}
			return ntInvalidParam
		}
		subs = append(subs, c)
	}
	ct.mu.Lock()
	ct.subs = subs
	ct.mu.Unlock()
	return ntSuccess
}
