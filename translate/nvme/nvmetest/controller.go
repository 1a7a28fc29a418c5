// Package nvmetest is an NVM Express controller (base specification 1.4) for tests:
// it runs in the test's process, behind pci.Function, and misbehaves when told to.
// It reaches only memory that it was given, and fails the test of a driver that
// names other addresses.
package nvmetest

import (
	"sync"
	"testing"
	"time"

	"keel/hcl/pci"
)

// Config is what the controller is. Zeroes stand for the defaults.
type Config struct {
	Vectors    int    // MSI-X; 4
	Queues     int    // I/O queue pairs that are offered; 16
	Entries    int    // of a queue, at most; 256
	MDTS       byte   // power of two of pages, 0 for no bound
	SGL        uint32 // the SGLS field
	ONCS       uint16 // optional commands; all that there are
	NoCache    bool   // no volatile write cache
	ACL, AERL  byte   // 3 each
	NN         uint32 // highest namespace; 1024
	OldLists   bool   // no active namespace list
	Serial     string
	Model      string
	CAP        uint64 // the whole register instead of a sound one
	VS         uint32 // version; 1.4
	Size       int    // bytes of registers; 8 KiB
	Class      uint32 // class code; NVMe
	Sync       bool   // commands run within the doorbell write
	Namespaces []Namespace
}

// Namespace is memory that a controller offers.
type Namespace struct {
	ID        uint32
	Blocks    uint64
	BlockSize int // 512
	NGUID     [16]byte
	EUI64     [8]byte
	UUID      [16]byte
	ReadOnly  bool
	DLFEAT    byte // 9: deallocated blocks read as zeroes, also by Write Zeroes
	data      []byte
}

// Controller is the fake. It is a pci.Function.
type Controller struct {
	t      testing.TB
	config Config
	work   chan struct{}
	done   chan struct{}
	gone   chan struct{}
	ended  sync.WaitGroup

	mu         sync.Mutex
	memory     []region
	nextDMA    uint64
	interrupts []*interrupt
	namespaces map[uint32]*Namespace
	changed    map[uint32]bool
	master     bool
	closed     bool
	faults     Faults
	counts     Counts

	cc, csts, aqa uint32
	asq, acq      uint64
	incarnation   int
	sqs           map[uint16]*submission
	cqs           map[uint16]*completionQueue
	features      map[uint32]uint32
	waiting       []waiter // Asynchronous Event Requests
	events        []uint32
	hung          map[[2]uint16]*held // commands without an answer
	late          []*held             // those that a controller which did not stop still has
	vanished      bool
	extra         bool // completions, or their statuses, were made up
}

// waiter is a command that is answered later.
type waiter struct {
	sq *submission
	id uint16
}

// held is a command that is executed later, or never.
type held struct {
	sq      *submission
	command Command
	raw     [entrySize]byte
	action  Action
}

// Counts says what the driver did.
type Counts struct {
	Commands   int // I/O
	Doorbells  int // of I/O submission queues
	Resets     int // through the function
	Disables   int // through CC.EN
	Aborts     int
	Shutdowns  int
	Strays     int // accesses outside of the memory
	Barred     int // accesses without bus mastering
	Flushes    int
	Opcodes    [256]int // of I/O commands
	Scattered  int      // I/O commands with a scatter gather list
	MasterOffs int
}

// Faults is how the controller misbehaves.
type Faults struct {
	// Hook sees every command before it runs and may change what becomes of it. It
	// must not call the controller.
	Hook func(Command) Action

	NeverReady   bool // CSTS.RDY stays 0 after CC.EN is set
	StuckReady   bool // and 1 after it is cleared
	IgnoreAborts bool
	IgnoreReset  bool // the function's own reset does nothing
	MasterFails  bool // bus mastering cannot be changed
	NoInterrupts bool // completions are there, but nobody is told
	NoShutdown   bool
}

// Command is a command on its way to the controller.
type Command struct {
	Queue  uint16
	ID     uint16
	Opcode byte
	NSID   uint32
	LBA    uint64
	Blocks uint32 // 1 for commands without
	DW10   uint32
	DW11   uint32
	DW12   uint32
}

// Action is what becomes of a command. The zero Action executes it.
type Action struct {
	Status uint16        // ends the command with a status field
	Drop   bool          // never answers
	Delay  time.Duration // until it runs
	Twice  bool          // answers once more
	// What the completion says instead of the truth.
	ID, Queue, Head *uint16
	Result          *uint32
	Data            func([]byte) // changes what Identify, Get Log and Read give
}

// New starts a controller. It is stopped by Close, or with the test.
func New(tb testing.TB, config Config) *Controller {
	tb.Helper()
	for _, n := range []struct {
		value *int
		or    int
	}{{&config.Vectors, 4}, {&config.Queues, 16}, {&config.Entries, 256}, {&config.Size, 8192}} {
		if *n.value == 0 {
			*n.value = n.or
		}
	}
	setDefault(&config.ONCS, 0x0d)
	setDefault(&config.ACL, 3)
	setDefault(&config.AERL, 3)
	setDefault(&config.NN, 1024)
	setDefault(&config.VS, 0x10400)
	setDefault(&config.Class, 0x010802)
	setDefault(&config.Serial, "KEEL0001")
	setDefault(&config.Model, "Keel fake controller")
	c := &Controller{
		t:          tb,
		config:     config,
		work:       make(chan struct{}, 1),
		done:       make(chan struct{}),
		gone:       make(chan struct{}),
		nextDMA:    firstDMA,
		namespaces: make(map[uint32]*Namespace),
		changed:    make(map[uint32]bool),
	}
	c.clear()
	for _, n := range config.Namespaces {
		c.add(n)
	}
	c.ended.Go(c.engine)
	tb.Cleanup(func() { c.Close() })
	return c
}

func setDefault[T comparable](value *T, or T) {
	var zero T
	if *value == zero {
		*value = or
	}
}

// ID implements pci.Function.
func (c *Controller) ID() pci.ID {
	return pci.ID{Vendor: 0x1b36, Device: 0x0010, Class: c.config.Class, Address: "0000:00:03.0"}
}

// MaxInterrupts implements pci.Function.
func (c *Controller) MaxInterrupts() int { return c.config.Vectors }

// Interrupts implements pci.Function.
func (c *Controller) Interrupts(n int) ([]pci.Interrupt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.config.Vectors {
		return nil, pci.ErrLimit
	}
	c.interrupts = nil
	var list []pci.Interrupt
	for range n {
		in := &interrupt{c: c, pulse: make(chan struct{}, 1)}
		c.interrupts = append(c.interrupts, in)
		list = append(list, in)
	}
	return list, nil
}

// Master implements pci.Function.
func (c *Controller) Master(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return pci.ErrClosed
	}
	if c.faults.MasterFails && !on {
		return pci.ErrLimit
	}
	if c.master && !on {
		c.counts.MasterOffs++
	}
	c.master = on
	return nil
}

// Reset implements pci.Function.
func (c *Controller) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Resets++
	if c.faults.IgnoreReset {
		return pci.ErrLimit
	}
	c.clear()
	return nil
}

// clear is what a reset does to the registers and queues.
func (c *Controller) clear() {
	c.incarnation++
	c.cc, c.csts = 0, 0
	c.sqs, c.cqs = make(map[uint16]*submission), make(map[uint16]*completionQueue)
	c.features = map[uint32]uint32{featureCache: 1}
	c.hung, c.late = make(map[[2]uint16]*held), nil
	c.waiting, c.events = nil, nil
}

// Gone implements pci.Function.
func (c *Controller) Gone() <-chan struct{} { return c.gone }

// Close implements pci.Function.
func (c *Controller) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed, c.master = true, false
	c.incarnation++
	close(c.done)
	c.mu.Unlock()
	c.ended.Wait()
	return nil
}

// Closed tells whether the driver gave the function back.
func (c *Controller) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// interrupt is an MSI-X vector.
type interrupt struct {
	c     *Controller
	pulse chan struct{}
}

// Wait implements pci.Interrupt.
func (i *interrupt) Wait() error {
	select {
	case <-i.pulse:
		return nil
	case <-i.c.gone:
		return pci.ErrGone
	case <-i.c.done:
		return pci.ErrClosed
	}
}

// Set changes how the controller misbehaves from now on.
func (c *Controller) Set(change func(*Faults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.faults)
}

// Counts returns what the driver did so far.
func (c *Controller) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}
