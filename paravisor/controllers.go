package paravisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keel/diag/inspect"
	"keel/hcl/pci"
	"keel/translate/nvme"
)

// Devices are the PCI functions that the host assigned to the VM.
type Devices interface {
	// NVMe lists the NVMe controllers that are there now.
	NVMe() ([]Assigned, error)
	// Open takes a function over. It reaches the guest's memory, at the guest's own
	// addresses, and what it allocates.
	Open(address string) (pci.Function, error)
}

// Assigned is a function that the host assigned. One that is plugged in later at the
// same address has another Instance.
type Assigned struct {
	Address  string
	Instance uint64
}

// Memory of a controller: the launcher sizes the VM for it.
const (
	// bounce is for data that a controller cannot address where the guest has it, in
	// bytes of each queue pair. Guests rarely have such data.
	bounce = 128 << 10
	// slots are requests under way at once, over all queue pairs; each has a page.
	slots = 128
)

// plugPeriod is how often a controller that was plugged in is looked for.
const plugPeriod = 50 * time.Millisecond

// controllers are the NVMe controllers in use, by the serial numbers that they
// give themselves.
type controllers struct {
	devices Devices
	queues  int
	log     *slog.Logger
	// lost, unless it is nil, is told of a controller that the host took away,
	// before it is closed.
	lost func(serial string)

	mu       sync.Mutex
	seen     map[Assigned]bool // that are in use or were refused
	bySerial map[string]*controller
	past     refusals // of those that are closed
}

// controller is an NVMe controller and its function.
type controller struct {
	*nvme.Controller
	function pci.Function
	address  string
	closed   chan struct{}
}

func newControllers(d Devices, queues int, log *slog.Logger) *controllers {
	return &controllers{devices: d, queues: queues, log: log, seen: map[Assigned]bool{}, bySerial: map[string]*controller{}, past: refusals{}}
}

// find opens the controllers that are new, all at once. One that does not work is
// logged, and no concern of the others.
func (c *controllers) find() error {
	there, err := c.devices.NVMe()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	c.mu.Lock()
	for _, a := range there {
		if !c.seen[a] {
			wg.Go(func() { c.open(a.Address) })
		}
	}
	clear(c.seen)
	for _, a := range there {
		c.seen[a] = true
	}
	c.mu.Unlock()
	wg.Wait()
	return nil
}

func (c *controllers) open(address string) {
	f, err := c.devices.Open(address)
	if err != nil {
		c.log.Error("refused a controller", inspect.PublicAttr("address", address), inspect.PublicAttr("error", err))
		return
	}
	ctl, err := nvme.Open(f, nvme.Config{
		Log: c.log, Queues: c.queues, Depth: max(slots/c.queues, 16), Bounce: bounce,
	})
	if err != nil {
		c.log.Error("refused a controller", inspect.PublicAttr("address", address), inspect.PublicAttr("error", errors.Join(err, f.Close())))
		return
	}
	a := &controller{Controller: ctl, function: f, address: address, closed: make(chan struct{})}
	serial := ctl.Serial()
	c.mu.Lock()
	twice := c.bySerial[serial] != nil
	if !twice {
		c.bySerial[serial] = a
	}
	c.mu.Unlock()
	if twice {
		c.log.Error("refused a controller with the serial number of another one", inspect.PublicAttr("address", address), inspect.PublicAttr("error", ctl.Close()))
		return
	}
	c.log.Info("found a controller", inspect.PublicAttr("address", address), inspect.PublicAttr("serial", serial),
		inspect.PublicAttr("model", ctl.Model()), inspect.PublicAttr("queues", ctl.Queues()))
	go c.attend(serial, a)
}

// attend closes a controller that the host takes away: the host waits for that.
func (c *controllers) attend(serial string, a *controller) {
	select {
	case <-a.closed:
	case <-a.function.Gone():
		c.log.Warn("the host took a controller away", inspect.PublicAttr("address", a.address), inspect.PublicAttr("serial", serial))
		if c.lost != nil {
			c.lost(serial)
		}
		if err := c.release([]string{serial}); err != nil {
			c.log.Error("cannot close a controller", inspect.PublicAttr("serial", serial), inspect.PublicAttr("error", err))
		}
	}
}

// get returns a controller, nil when it is not there.
func (c *controllers) get(serial string) *controller {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bySerial[serial]
}

// wait returns the controllers once all are there.
func (c *controllers) wait(ctx context.Context, serials []string) ([]*controller, error) {
	for {
		if err := c.find(); err != nil {
			return nil, err
		}
		var found []*controller
		for _, s := range serials {
			if a := c.get(s); a != nil {
				found = append(found, a)
			}
		}
		if len(found) == len(serials) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the host attached %d of the controllers %q: %w", len(found), serials, context.Cause(ctx))
		case <-time.After(plugPeriod):
		}
	}
}

// release closes controllers, those that are there, and gives their functions back.
func (c *controllers) release(serials []string) error {
	var errs []error
	for _, s := range serials {
		c.mu.Lock()
		a := c.bySerial[s]
		delete(c.bySerial, s)
		c.mu.Unlock()
		if a != nil {
			close(a.closed)
			errs = append(errs, a.Close())
			c.mu.Lock()
			c.past.nvme(a.Stats())
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// refused adds what all controllers did wrong, also those that are gone.
func (c *controllers) refused(r refusals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for reason, n := range c.past {
		r.add(reason, n)
	}
	for _, a := range c.bySerial {
		r.nvme(a.Stats())
	}
}

// close closes all controllers.
func (c *controllers) close() error {
	c.mu.Lock()
	var all []string
	for s := range c.bySerial {
		all = append(all, s)
	}
	c.mu.Unlock()
	return c.release(all)
}
