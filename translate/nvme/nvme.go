// Package nvme drives NVM Express controllers (base specification 1.4) that the
// host assigned. Its namespaces are disks. The controller is hostile: what it says
// is copied, checked and bounded, and it can make requests fail, never more.
//
// A request is cut into parts, one command each. Parts that find no slot wait in the
// lane of their namespace and queue pair. A slot keeps its command, lists and copied
// data until the request was told, so that after a reset the command is issued again
// as it is.
//
// Goroutines: one a queue pair waits for its interrupt and completes requests; the
// watchdog keeps the time, aborts, resets and replays; the scanner handles
// asynchronous events and tells watchers.
//
// Locks, outermost first: Controller.scanning, Controller.mu, queue.reaping,
// queue.mu, adminQueue.reaping, adminQueue.mu. Done is called with at most reaping
// held, which Submit and Cancel do not take.
//
// Memory that the controller may reach is given back only after a completion, after
// it said that it is disabled, or after bus mastering was taken from it.
package nvme

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"keel/hcl/pci"
	"keel/translate/blk"
	"keel/translate/tap"
)

// Errors of Open. What fails wraps one of them and adds its cause.
var (
	// ErrNotNVMe says that the function is something else.
	ErrNotNVMe = errors.New("not an NVMe controller")
	// ErrController says that the controller cannot be driven or does not work.
	ErrController = errors.New("NVMe controller")
)

var (
	errNoAnswer = errors.New("no answer")
	errInactive = errors.New("namespace is not active")
	errClosed   = fmt.Errorf("%w: controller is closed", blk.ErrRemoved)
	errRemoved  = fmt.Errorf("%w: %w", blk.ErrRemoved, pci.ErrGone)
	errReset    = errors.New("controller was reset")
)

// Config says how a controller is driven. Zeroes stand for the defaults.
type Config struct {
	Log    *slog.Logger
	Queues int // I/O queue pairs wanted; 1
	Depth  int // entries of each I/O queue; 128, at most 1024
	// MaxTransfer is the most that one command moves, in bytes: 512 KiB, at most
	// 2 MiB. The controller may have a lower bound.
	MaxTransfer int
	// Bounce is the memory of each queue pair for data that the controller cannot
	// reach or address, in bytes: 1 MiB, at most 128 MiB.
	Bounce int
	// Poll is how long a queue is looked at before its interrupt is waited for: 5
	// µs where there is more than one CPU. Negative for never.
	Poll time.Duration

	IOTimeout       time.Duration // until a command is aborted; 30 s
	AbortTimeout    time.Duration // from there until the controller is reset; 5 s
	AdminTimeout    time.Duration // of an admin command; 10 s
	ReadyTimeout    time.Duration // bounds what the controller wants for becoming ready; 60 s
	StartTimeout    time.Duration // of all that the controller is asked before it is in use; 60 s
	ShutdownTimeout time.Duration // of each of the two steps of Close; 5 s
	Retries         int           // of a command that ended with a transient status; 5
	Resets          int           // attempts in a row that give the controller up; 5
	MaxNamespaces   int           // others are ignored; 256
	// Added is told of namespaces that appear after Open, from a goroutine of the
	// controller's own. It may call Watch and Submit, not Close.
	Added func(*Namespace)
}

// Bounds of Config.
const (
	maxDepth    = 1024
	maxTransfer = 2 << 20
	maxBounce   = 128 << 20
	maxQueues   = 128
	// bouncedTransfer is the most that one command copies; a pool has room for
	// several of them.
	bouncedTransfer = 128 << 10
	// ticksOfTimeout is how many ticks of the watchdog an I/O time-out has, and maxTick
	// the longest.
	ticksOfTimeout = 16
	maxTick        = 250 * time.Millisecond
)

// defaults fills in what was left out and enforces the bounds.
func (c Config) defaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Poll == 0 && runtime.GOMAXPROCS(0) > 1 {
		c.Poll = 5 * time.Microsecond
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.IOTimeout, 30 * time.Second},
		{&c.AbortTimeout, 5 * time.Second},
		{&c.AdminTimeout, 10 * time.Second},
		{&c.ReadyTimeout, 60 * time.Second},
		{&c.StartTimeout, 60 * time.Second},
		{&c.ShutdownTimeout, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	for _, n := range []struct {
		value      *int
		or, lowest int
		highest    int
	}{
		{&c.Queues, 1, 1, maxQueues},
		{&c.Depth, 128, 2, maxDepth},
		{&c.MaxTransfer, 512 << 10, pageSize, maxTransfer},
		{&c.Bounce, 1 << 20, pageSize, maxBounce},
		{&c.Retries, 5, 1, 16},
		{&c.Resets, 5, 1, 100},
		{&c.MaxNamespaces, 256, 1, 1024},
	} {
		if *n.value == 0 {
			*n.value = n.or
		}
		*n.value = min(max(*n.value, n.lowest), n.highest)
	}
	c.MaxTransfer = c.MaxTransfer / pageSize * pageSize
	c.Bounce = c.Bounce / pageSize * pageSize
	return c
}

// Controller is an NVMe controller. It owns its function.
type Controller struct {
	f      pci.Function
	regs   pci.Registers
	config Config
	log    *slog.Logger
	caps   capabilities
	period time.Duration // of ticks
	// In ticks: until a command is late, and until its abort is.
	patience, abortPatience uint64

	identity controllerData
	aborter  int // Abort commands at once
	admin    *adminQueue
	queues   []*queue
	sharing  bool // the one vector serves both queues

	tick                   atomic.Uint64
	aborts, refused        atomic.Uint64
	events, broken         atomic.Uint64
	resets                 rarely
	failures, scans, swaps rarely                 // resets and scans that failed, namespaces that were replaced
	reason                 atomic.Pointer[string] // of a reset that is wanted

	woken    chan struct{} // the watchdog has something to do
	scan     chan struct{} // so has the scanner
	closing  chan struct{}
	shutting sync.Once
	running  sync.WaitGroup // watchdog and scanner
	waiting  sync.WaitGroup // for interrupts
	credit   credit
	tap      atomic.Pointer[tap.Tap] // nil while nobody captures

	scanning sync.Mutex // held while namespaces are identified; taken before mu

	mu         sync.Mutex
	namespaces map[uint32]*Namespace
	order      []*Namespace // as found
	fresh      []*Namespace // that Added has not heard of
	pending    []*Namespace // with events that nobody was told of
	told       map[uint32]bool
	ended      error // nil as long as the controller works
}

// Open starts the controller of a function. The function belongs to it from then
// on, also when Open fails: then it is closed.
func Open(f pci.Function, config Config) (*Controller, error) {
	c := &Controller{
		f:          f,
		config:     config.defaults(),
		woken:      make(chan struct{}, 1),
		scan:       make(chan struct{}, 1),
		closing:    make(chan struct{}),
		namespaces: make(map[uint32]*Namespace),
		told:       make(map[uint32]bool),
	}
	c.log = c.config.Log.With("function", f.ID().Address)
	c.period = min(max(c.config.IOTimeout/ticksOfTimeout, time.Millisecond), maxTick)
	c.patience = c.ticks(c.config.IOTimeout)
	c.abortPatience = c.ticks(c.config.AbortTimeout)
	c.credit.left = c.config.Resets
	if err := c.open(); err != nil {
		c.halt()
		return nil, err
	}
	c.running.Go(c.watchdog)
	c.running.Go(c.scanner)
	return c, nil
}

// ticks returns how many ticks a time is at least.
func (c *Controller) ticks(d time.Duration) uint64 {
	return uint64((d+c.period-1)/c.period) + 1
}

// open does the work of Open.
func (c *Controller) open() error {
	if id := c.f.ID(); id.Class != classCode {
		return fmt.Errorf("%w: class %06x", ErrNotNVMe, id.Class)
	}
	var err error
	if c.regs, err = c.f.Registers(registerBAR); err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	if c.regs.Size() < regDoorbells {
		return fmt.Errorf("%w: %d bytes of registers", ErrController, c.regs.Size())
	}
	c.caps = capabilities(c.regs.Read64(regCAP))
	if err = c.caps.check(c.regs.Read32(regVS), c.regs.Size()); err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	interrupts, err := c.f.Interrupts(min(c.config.Queues+1, max(c.f.MaxInterrupts(), 1)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	if len(interrupts) == 0 {
		return fmt.Errorf("%w: no interrupts", ErrController)
	}
	c.sharing = len(interrupts) == 1
	if err = c.quiesce(); err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	if c.admin, err = newAdminQueue(c); err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	// With one vector the I/O queue's goroutine starts when there is the queue.
	stop := make(chan struct{})
	if c.sharing {
		c.waiting.Go(func() { c.reapUntil(stop) })
	} else {
		c.waiting.Go(func() { c.wait(interrupts[0], true, nil) })
	}
	err = c.setUp(max(len(interrupts)-1, 1))
	close(stop)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	for i, q := range c.queues {
		in := interrupts[0]
		if !c.sharing {
			in = interrupts[i+1]
		}
		c.waiting.Go(func() { c.wait(in, c.sharing, q) })
	}
	by := time.Now().Add(c.config.StartTimeout)
	if err = c.rescan(by); err != nil {
		return fmt.Errorf("%w: %w", ErrController, err)
	}
	c.mu.Lock()
	c.fresh = nil
	c.mu.Unlock()
	c.subscribe(by)
	c.listen(by)
	return nil
}

// setUp enables the controller for the first time, and allocates and makes the I/O
// queues, at most n.
func (c *Controller) setUp(n int) error {
	if err := c.enable(); err != nil {
		return err
	}
	by := time.Now().Add(c.config.StartTimeout)
	data, err := c.identifyController(by)
	if err != nil {
		return err
	}
	c.identity, c.aborter = data, data.aborts
	if n, err = c.offered(min(n, c.config.Queues), by); err != nil {
		return err
	}
	depth := min(c.config.Depth, c.caps.entries())
	l := limits{transfer: c.config.MaxTransfer, sgl: data.sgl}
	if data.maxTransfer != 0 {
		l.transfer = min(l.transfer, data.maxTransfer)
	}
	l.list = listSize(l.transfer)
	l.bounce = min(bouncedTransfer, l.transfer, max(c.config.Bounce/4/pageSize, 1)*pageSize)
	for i := range n {
		if c.caps.doorbells(i+1) > c.regs.Size() {
			break
		}
		q, err := newQueue(c, i, depth, l, c.config.Bounce)
		if err != nil {
			return err
		}
		c.queues = append(c.queues, q)
	}
	if len(c.queues) == 0 {
		return fmt.Errorf("%w: no room for an I/O queue", pci.ErrLimit)
	}
	if err = c.createQueues(by); err != nil {
		return err
	}
	for _, q := range c.queues {
		q.live = true
	}
	return nil
}

// Namespaces returns those that can be used now.
func (c *Controller) Namespaces() []*Namespace {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*Namespace
	for _, n := range c.order {
		if !n.gone.Load() {
			list = append(list, n)
		}
	}
	return list
}

// Serial returns the serial number of the controller.
func (c *Controller) Serial() string { return c.identity.serial }

// Model returns the model of the controller.
func (c *Controller) Model() string { return c.identity.model }

// Queues returns how many I/O queue pairs there are.
func (c *Controller) Queues() int { return len(c.queues) }

// Err returns why the controller does not work any more, nil as long as it does.
func (c *Controller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// wake lets the watchdog look around.
func (c *Controller) wake() { poke(c.woken) }

// wakeScanner lets the scanner look around.
func (c *Controller) wakeScanner() { poke(c.scan) }

// poke leaves a token in a channel of one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wantReset lets the watchdog reset the controller.
func (c *Controller) wantReset(reason string) {
	c.reason.CompareAndSwap(nil, &reason)
	c.wake()
}
