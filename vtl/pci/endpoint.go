// Package pci is a PCI function as the guest sees it: a type 0 configuration
// header, BARs, capabilities, and MSI-X. What the function does stands behind its
// BARs, in packages of its own.
//
// A host bridge reaches a function through ReadConfig, WriteConfig, DecodeMMIO and
// DecodePIO. Only configuration accesses take a lock; decoding and signalling
// take none and allocate nothing.
package pci

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/bus"
	"keel/vtl/irq"
)

// ErrConfig is the stage of a function that cannot be made.
var ErrConfig = errors.New("PCI function")

var (
	errBAR        = errors.New("malformed BAR")
	errKind       = errors.New("neither memory nor ports")
	errCapability = errors.New("capabilities do not fit")
	errVectors    = errors.New("malformed MSI-X table")
	errState      = errors.New("saved state of another function")
)

// BAR is a base address register, and who answers there: a Device in memory, or Ports.
type BAR struct {
	Size     uint64 // a power of two: at least 16 bytes, or 4 to 256 ports; 0 for no BAR
	Wide     bool   // 64 bits: it takes the place of the next BAR too
	Prefetch bool   // reads have no side effects
	Device   bus.MMIODevice
	Ports    bus.PIODevice
}

// Capability is an element of the capability list.
type Capability struct {
	ID   uint8
	Body []byte // what follows the ID and the pointer
	// Handler answers all accesses but those to the first dword, nil for a
	// read-only Body.
	Handler CapabilityHandler
}

// CapabilityHandler is a capability that does something. Offsets are relative to
// its start, at least 4; sizes are 1, 2 or 4 bytes, naturally aligned. Methods may
// be called from several VPs at once.
type CapabilityHandler interface {
	ReadCapability(offset, size int) uint32
	WriteCapability(offset, size int, value uint32)
}

// Config says what a function is.
type Config struct {
	Vendor, Device             uint16
	SubsystemVendor, Subsystem uint16
	Class                      uint32 // base class, subclass, interface: 24 bits
	Revision                   uint8
	BARs                       [6]BAR
	Capabilities               []Capability
	Vectors                    int // of MSI-X, 0 to 2048
	VectorBAR                  int // an unused BAR, which holds the MSI-X table
	MSI                        irq.MSITarget
}

// Stats counts what a function refused.
type Stats struct {
	Refused    uint64 // malformed accesses to the MSI-X table
	Dropped    uint64 // interrupts while MSI-X or bus mastering is off
	NoVector   uint64 // interrupts for vectors that do not exist
	Signalled  uint64 // messages sent
	ConfigLost uint64 // configuration accesses that are malformed
}

// Endpoint is the function. It implements the accessors that a host bridge wants,
// and bus.Resetter.
type Endpoint struct {
	template [headerSpace]byte // what never changes
	handlers []placed
	bars     []decoder // those that exist, in order
	msix     *msix
	msixAt   int // offset of the MSI-X capability
	lost     atomic.Uint64

	mu        sync.Mutex
	command   uint16
	cacheLine uint8
	line      uint8
	control   uint16 // of MSI-X: enable and mask
}

// placed is a capability with a handler, and where it is.
type placed struct {
	first, last int
	handler     CapabilityHandler
}

// decoder is a BAR at run time.
type decoder struct {
	index  int
	size   uint64
	wide   bool
	flags  uint32
	device bus.MMIODevice
	ports  bus.PIODevice // instead of device
	value  uint64        // of the register, without flags; guarded by Endpoint.mu
	// active is value with bit 0 set while the function decodes it.
	active atomic.Uint64
}

// New makes a function in its power-on state.
func New(c Config) (*Endpoint, error) {
	e := &Endpoint{}
	e.fill(&c)
	if c.Vectors != 0 {
		if err := e.addVectors(&c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if err := e.addBARs(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := e.addCapabilities(c.Capabilities); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	e.Reset()
	return e, nil
}

func (e *Endpoint) fill(c *Config) {
	put16(e.template[regVendor:], c.Vendor)
	put16(e.template[regDevice:], c.Device)
	put16(e.template[regSubVendor:], c.SubsystemVendor)
	put16(e.template[regSubsystem:], c.Subsystem)
	e.template[regRevision] = c.Revision
	for i := range 3 {
		e.template[regClass+i] = byte(c.Class >> (8 * i))
	}
}

func (e *Endpoint) addVectors(c *Config) error {
	if c.Vectors < 0 || c.Vectors > maxVectors || c.MSI == nil ||
		c.VectorBAR < 0 || c.VectorBAR >= len(c.BARs) || c.BARs[c.VectorBAR] != (BAR{}) {
		return fmt.Errorf("%w: %d vectors in BAR %d", errVectors, c.Vectors, c.VectorBAR)
	}
	e.msix = newMSIX(c.Vectors, c.MSI)
	c.BARs[c.VectorBAR] = BAR{Size: e.msix.size(), Device: e.msix}
	body := make([]byte, msixCapSize-capHeaderSize)
	put16(body[msixControl-capHeaderSize:], uint16(c.Vectors-1))
	put32(body[msixTableField-capHeaderSize:], uint32(c.VectorBAR))
	put32(body[msixPBAField-capHeaderSize:], uint32(e.msix.pba)|uint32(c.VectorBAR))
	c.Capabilities = append([]Capability{{ID: capabilityMSIX, Body: body}}, c.Capabilities...)
	return nil
}

func (e *Endpoint) addBARs(c *Config) error {
	for i := 0; i < len(c.BARs); i++ {
		b := &c.BARs[i]
		if *b == (BAR{}) {
			continue
		}
		flags, err := b.flags()
		if err != nil {
			return fmt.Errorf("%w %d: %w", errBAR, i, err)
		}
		if b.Wide && (i+1 == len(c.BARs) || c.BARs[i+1] != (BAR{})) {
			return fmt.Errorf("%w %d: no room for 64 bits", errBAR, i)
		}
		e.bars = append(e.bars, decoder{index: i, size: b.Size, wide: b.Wide, flags: flags, device: b.Device, ports: b.Ports})
		if b.Wide {
			i++
		}
	}
	return nil
}

// flags checks a BAR and returns the low bits of its register.
func (b *BAR) flags() (flags uint32, err error) {
	least, most := uint64(minBARSize), uint64(maxBARSize)
	switch {
	case (b.Device == nil) == (b.Ports == nil) || b.Ports != nil && (b.Wide || b.Prefetch):
		return 0, errKind
	case b.Ports != nil:
		flags, least, most = barPorts, minPorts, maxPorts
	case !b.Wide:
		most = maxNarrowBAR
	default:
		flags = barWide
	}
	if b.Prefetch {
		flags |= barPrefetch
	}
	if bits.OnesCount64(b.Size) != 1 || b.Size < least || b.Size > most {
		return 0, fmt.Errorf("size %#x", b.Size)
	}
	return flags, nil
}

func (e *Endpoint) addCapabilities(list []Capability) error {
	link, at := regCapability, regFirstCap
	for _, c := range list {
		end := at + capHeaderSize + len(c.Body)
		if end > headerSpace {
			return fmt.Errorf("%w: ID %#x ends at %#x", errCapability, c.ID, end)
		}
		e.template[regStatus] |= statusCapabilities
		e.template[link] = byte(at)
		e.template[at] = c.ID
		copy(e.template[at+capHeaderSize:], c.Body)
		if c.Handler != nil {
			e.handlers = append(e.handlers, placed{at, end - 1, c.Handler})
		}
		if c.ID == capabilityMSIX {
			e.msixAt = at
		}
		link, at = at+1, (end+3)&^3
	}
	return nil
}

// Reset puts the header, the BARs and MSI-X into their power-on state. Handlers
// and the devices behind BARs are reset by their owners.
func (e *Endpoint) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.command, e.control, e.cacheLine, e.line = 0, 0, 0, 0
	for i := range e.bars {
		e.bars[i].value = 0
	}
	if e.msix != nil {
		e.msix.reset()
	}
	e.apply()
}

// apply makes what the registers say effective. The caller holds mu.
func (e *Endpoint) apply() {
	for i := range e.bars {
		b := &e.bars[i]
		active, enable := b.value, uint16(commandMemory)
		if b.ports != nil {
			enable = commandPorts
		}
		if e.command&enable != 0 {
			active |= 1
		}
		b.active.Store(active)
	}
	if e.msix != nil {
		e.msix.enabled.Store(e.control&msixControlEnable != 0)
		e.msix.setGate(e.control&msixControlEnable != 0 && e.command&commandMaster != 0, e.control&msixControlMask != 0)
	}
}

// DecodeMMIO tells which device answers an access of size bytes, and at which
// offset of its BAR. It takes no lock: it may see a BAR just before or just after
// another VP moves it.
func (e *Endpoint) DecodeMMIO(gpa x86.GPA, size int) (d bus.MMIODevice, offset uint64, ok bool) {
	for i := range e.bars {
		b := &e.bars[i]
		if at, ok := b.holds(uint64(gpa), size); ok && b.device != nil {
			return b.device, at, true
		}
	}
	return nil, 0, false
}

// DecodePIO is DecodeMMIO for ports.
func (e *Endpoint) DecodePIO(port uint16, size int) (d bus.PIODevice, offset uint16, ok bool) {
	for i := range e.bars {
		b := &e.bars[i]
		if at, ok := b.holds(uint64(port), size); ok && b.ports != nil {
			return b.ports, uint16(at), true
		}
	}
	return nil, 0, false
}

// holds tells whether a decoded BAR has an address, and its offset.
func (b *decoder) holds(address uint64, size int) (offset uint64, ok bool) {
	v := b.active.Load()
	at := address - v&^1
	return at, v&1 != 0 && at < b.size && b.size-at >= uint64(size)
}

// BAR returns the device behind a memory BAR and its length, nil when there is none:
// for capabilities that reach BARs through configuration space.
func (e *Endpoint) BAR(index int) (d bus.MMIODevice, size uint64) {
	for i := range e.bars {
		if e.bars[i].index == index {
			return e.bars[i].device, e.bars[i].size
		}
	}
	return nil, 0
}

// Signal sends an MSI-X vector, or leaves it pending while it is masked. It may be
// called from any goroutine.
func (e *Endpoint) Signal(vector int) {
	if e.msix != nil {
		e.msix.signal(vector)
	}
}

// MSIX reports whether the guest has enabled MSI-X.
func (e *Endpoint) MSIX() bool { return e.msix != nil && e.msix.enabled.Load() }

// Stats returns the counters.
func (e *Endpoint) Stats() Stats {
	s := Stats{ConfigLost: e.lost.Load()}
	if m := e.msix; m != nil {
		s.Refused, s.Dropped = m.refused.Load(), m.dropped.Load()
		s.NoVector, s.Signalled = m.noVector.Load(), m.signalled.Load()
	}
	return s
}

// ClearPending forgets interrupts that wait for a mask to go, as a device does
// when its driver resets it.
func (e *Endpoint) ClearPending() {
	if e.msix == nil {
		return
	}
	for i := range e.msix.pending {
		e.msix.pending[i].Store(0)
	}
}
