package tdx

import (
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/leaves"
	"keel/hcl/tdx/l2"
)

// VP is a virtual processor of the guest. Between two runs its general-purpose registers
// are in state, what the processor has only once in context, and all else in the VMCS,
// from where it is fetched when it is asked for.
type VP struct {
	p     *Partition
	hw    Hardware
	index int
	cpuid leaves.Table

	stateGPA x86.GPA // of page
	page     []byte  // L2_ENTER_GUEST_STATE
	apic     []byte  // the virtual APIC page
	state    l2.EnterState
	context  l2.Context
	exit     l2.Exit
	cs, cpl  uint32 // access rights of CS, and the privilege level, at the exit

	registers l2.Registers // of the call that is made
	failed    error        // of a call

	special  hcl.SpecialRegisters
	known    bool // special is what the VMCS has
	blocking uint64
	blocked  bool // blocking is interruptibility as the VMCS has it
	nxe      bool // EFER.NXE as the guest sees it: it is always set

	event      l2.Event // for the next entry, if pending
	pending    bool
	nmi        bool // one waits
	window     bool
	windows    uint64 // the processor controls for windows that are set
	threshold  uint8  // of the task priority, as it is set
	invalidate uint64 // tdx.INVALIDATE_NONE and so on, for the next entry

	running sync.Mutex  // held while the guest runs
	stale   atomic.Bool // translations of guest-physical addresses are to be forgotten

	answer answer
	data   [4]byte // of port I/O
}

var _ hcl.VP = (*VP)(nil)

// answer is what the last exit waits for.
type answer struct {
	kind      hcl.ExitKind // ExitPIO, ExitMSRRead or ExitMSRWrite, else nothing
	write     bool         // of port I/O
	size      uint8
	rip, next uint64 // of the instruction, and of the one behind it
	value     uint64 // of an MSR
	fault     bool
}

// NewVP makes a VP of the calling thread.
// Preconditions: the goroutine is locked to its thread.
func (p *Partition) NewVP(config hcl.VPConfig) (hcl.VP, error) {
	if err := p.take(config.Index); err != nil {
		return nil, err
	}
	vp := &VP{p: p, hw: p.hw, index: config.Index, cpuid: config.CPUID}
	var apicGPA x86.GPA
	for _, page := range [...]struct {
		what  string
		gpa   *x86.GPA
		bytes *[]byte
	}{{"state", &vp.stateGPA, &vp.page}, {"virtual APIC page", &apicGPA, &vp.apic}} {
		var err error
		if *page.gpa, *page.bytes, err = p.hw.NewPage(); err != nil {
			return nil, fmt.Errorf("%w %d: its %s: %w", ErrVP, config.Index, page.what, err)
		}
		if len(*page.bytes) != x86.PageSize {
			return nil, fmt.Errorf("%w %d: its %s has %d bytes", ErrVP, config.Index, page.what, len(*page.bytes))
		}
	}
	if err := p.hw.NewVP(config); err != nil {
		return nil, fmt.Errorf("%w %d: %w", ErrVP, config.Index, err)
	}
	if err := vp.setUp(apicGPA); err != nil {
		return nil, err
	}
	if err := vp.Reset(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.vps = append(p.vps, vp)
	p.mu.Unlock()
	return vp, nil
}

// Kick makes Run return.
func (vp *VP) Kick() { vp.hw.Kick(vp.index) }

// TSC reads the guest's time stamp counter.
func (vp *VP) TSC() uint64 { return vp.hw.TSC(vp.index) }

// Registers reads the general-purpose registers.
func (vp *VP) Registers() (hcl.Registers, error) { return vp.state.Registers, nil }

// SetRegisters writes them. Another RIP means that Keel has executed an instruction, which
// ends a shadow of STI or MOV SS.
func (vp *VP) SetRegisters(r *hcl.Registers) error {
	if vp.state.Registers.RIP != r.RIP {
		vp.setInterruptibility(vp.interruptibility() &^ shadow)
	}
	vp.state.Registers = *r
	return vp.failure(ErrVP)
}

// SpecialRegisters reads the control and segment registers. EFER.NXE is what the
// processor goes by, always set, whatever the guest has written there.
func (vp *VP) SpecialRegisters() (hcl.SpecialRegisters, error) {
	vp.fetch()
	s := vp.special
	s.CR2 = vp.context.CR2
	return s, vp.failure(ErrVP)
}

// SetSpecialRegisters writes them, those that change.
func (vp *VP) SetSpecialRegisters(s *hcl.SpecialRegisters) error {
	vp.fetch()
	vp.store(s)
	return vp.failure(ErrVP)
}

// SetMSR writes a model-specific register: where the guest has it, or where the machine
// keeps it.
func (vp *VP) SetMSR(index uint32, value uint64) error {
	if field := vp.contextMSR(index); field != nil {
		*field = value
		return nil
	}
	if code, ok := fieldMSR(index); ok {
		vp.set(code, value)
		vp.known = false // bases of segments are among them
		return vp.failure(ErrVP)
	}
	return vp.hw.SetMSR(vp.index, index, value)
}

// guest is RCX of TDG.VP.ENTER.
const guest = VM << tdx.VM_FLAGS_VM_SHIFT
