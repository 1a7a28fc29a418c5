// Package hv gives a guest the hypervisor interface that it knows as Hyper-V:
// CPUID leaves, synthetic model-specific registers, a reference clock, the
// synthetic interrupt controller (SynIC) with its timers, and hypercalls. Stock
// Linux binds hv_vmbus and hv_storvsc to it. Nothing of it exists in a machine
// that does not make a Hypervisor.
//
// Overlay pages lie in the guest's own RAM: there is no memory beside it. Enabling
// the hypercall page or the reference TSC page writes their contents there, and
// disabling puts back what was there before, unless the guest has written to the
// page in between, which it can.
//
// Specification: Hypervisor Top Level Functional Specification (TLFS) 6.0b and its
// online edition of 2024; sections are named where they apply.
package hv

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
)

// MaxVPs is the largest number of virtual processors: one bank of a set.
const MaxVPs = 64

// Errors. ErrBusy, ErrOff and ErrInvalid are what servers get from the SynIC.
var (
	ErrConfig  = errors.New("hypervisor interface")
	ErrBusy    = errors.New("message queue is full")
	ErrOff     = errors.New("the guest has not enabled its synthetic interrupts")
	ErrInvalid = errors.New("no such VP, interrupt source, flag or message")
)

// Interrupts delivers fixed, edge-triggered interrupts to local APICs. Raise may be
// called from any goroutine, also on the VP's own thread; it does not block and
// does not call back into the Hypervisor.
type Interrupts interface {
	Raise(vp int, vector irq.Vector)
}

// LocalAPIC is what the interrupt control registers of a VP stand for, which spare the
// guest the emulation of an access to memory. It is called on the VP's thread.
type LocalAPIC interface {
	EndOfInterrupt()
	// ICR and WriteICR have the layout of the xAPIC in either mode.
	ICR() uint64
	WriteICR(uint64)
	TPR() uint8
	WriteTPR(uint8)
}

// VPSet is a set of VPs: bit n stands for VP n.
type VPSet uint64

// TLB flushes what VPs remember of their page tables.
type TLB interface {
	// FlushTLB returns when no VP of the set can use a translation that it had
	// before the call, global ones included. from is the VP on whose thread the
	// call is made; it may be in the set.
	FlushTLB(from int, set VPSet)
}

// Ports is what guest hypercalls reach. Its methods are called on the VP's thread,
// with no lock held.
type Ports interface {
	// PostMessage takes a message of at most 240 bytes, which is the callee's own.
	PostMessage(vp int, connection uint32, kind uint32, payload []byte) Status
	SignalEvent(vp int, connection uint32, flag uint16) Status
}

// Crash is what a guest says of its own crash. All of it is the guest's choice.
type Crash struct {
	P       [5]uint64 // the crash parameters
	Message []byte    // at most 4096 bytes, nil when there is none
}

// Config says what the interface stands on.
type Config struct {
	VPs        int
	Memory     *guestmem.Memory
	Interrupts Interrupts
	// Now is monotonic time in nanoseconds, the base of TimerDeadline.
	Now func() int64

	// TSC is the guest's time stamp counter on a VP. SetTSCHz tells its frequency;
	// without it the guest gets no reference TSC page and no frequencies.
	TSC func(vp int) uint64
	// APICHz is the frequency of the APIC timer's input clock, 0 when unknown.
	APICHz uint64

	// APIC, unless it is nil, finds the local APIC of a VP.
	APIC func(vp int) LocalAPIC

	// TLB, unless it is nil, serves the flush hypercalls.
	TLB TLB

	// Crash, unless it is nil, is told of the guest's crashes, Reset of its wish
	// to start over. Both are called on a VP's thread.
	Crash func(Crash)
	Reset func()
}

// Hypervisor is the interface of one guest.
type Hypervisor struct {
	config    Config
	ports     atomic.Pointer[Ports]
	vps       []*vp
	reference reference
	stats     counters

	callable atomic.Bool // the hypercall page is enabled

	mu        sync.Mutex // guards what the VPs share
	osID      uint64
	hypercall pageRegister
	tscPage   pageRegister
	invariant uint64
	crash     [5]uint64
	crashes   int // reports since the last reset
}

// vp is what a VP has of its own.
type vp struct {
	index int

	// Read by servers without the lock, written under it.
	control atomic.Uint64
	sints   [hv.SINT_COUNT]atomic.Uint64
	events  atomic.Pointer[page]

	// The hypercall under way. The VP's thread alone uses them.
	regs  hcl.Registers
	call  call
	input [inputSize]byte

	assistPage *page // nil unless the guest has one; the VP's thread alone uses it

	mu       sync.Mutex
	simp     uint64
	siefp    uint64
	assist   uint64
	messages *page
	queues   [hv.SINT_COUNT]queue
	timers   [hv.STIMER_COUNT]timer
	deadline atomic.Int64 // of the earliest timer, in the time of Now; 0 for none
}

// New makes the interface of a guest, in power-on state.
func New(c Config) (*Hypervisor, error) {
	switch {
	case c.VPs < 1 || c.VPs > MaxVPs:
		return nil, fmt.Errorf("%w: %d VPs, want 1 to %d", ErrConfig, c.VPs, MaxVPs)
	case c.Memory == nil, c.Interrupts == nil, c.Now == nil:
		return nil, fmt.Errorf("%w: memory, interrupts and a clock are needed", ErrConfig)
	}
	h := &Hypervisor{config: c}
	h.reference.start = c.Now()
	for i := range c.VPs {
		v := &vp{index: i}
		v.resetSynIC()
		h.vps = append(h.vps, v)
	}
	return h, nil
}

// SetPorts says what the hypercalls HvCallPostMessage and HvCallSignalEvent reach;
// nil for nothing. It may be called at any time.
func (h *Hypervisor) SetPorts(p Ports) {
	if p == nil {
		h.ports.Store(nil)
		return
	}
	h.ports.Store(&p)
}

// Reset puts everything into power-on state, but for the reference time, which goes
// on. It implements bus.Resetter.
// Preconditions: no VP runs.
func (h *Hypervisor) Reset() {
	h.mu.Lock()
	h.hypercall.disable(h.config.Memory)
	h.tscPage.disable(h.config.Memory)
	h.hypercall, h.tscPage = pageRegister{}, pageRegister{}
	h.osID, h.invariant, h.crash, h.crashes = 0, 0, [5]uint64{}, 0
	h.callable.Store(false)
	h.mu.Unlock()
	for _, v := range h.vps {
		v.mu.Lock()
		v.resetSynIC()
		v.timers = [hv.STIMER_COUNT]timer{}
		h.rearm(v)
		v.mu.Unlock()
	}
}

// vp returns a VP by its number, or nil.
func (h *Hypervisor) vp(i int) *vp {
	if i < 0 || i >= len(h.vps) {
		return nil
	}
	return h.vps[i]
}

// all is the set of every VP.
func (h *Hypervisor) all() VPSet { return ^VPSet(0) >> (MaxVPs - len(h.vps)) }
