package tdxmodule

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// maxRetries bounds how often a VP is sent back to a page that it may use, or past what
// the module handles itself.
const maxRetries = 1000

// Run is TDG.VP.ENTER of the paravisor, between a load and a store of the context: it
// enters the guest until it leaves to L1. The error says that the VP could not be run at
// all.
// Preconditions: the thread is that of NewVP.
func (m *Machine) Run(vp int, r *l2.Registers, c *l2.Context) error {
	p, err := m.known(vp)
	if err != nil {
		return err
	}
	rcx := r.RCX
	if r.RAX != tdx.TDG_VP_ENTER {
		return fmt.Errorf("%w %d: leaf %#x is not TDG.VP.ENTER", ErrVP, vp, r.RAX)
	}
	if called, err := p.module.Call(r, nil, false); err != nil || called.Outcome != OutcomeEnter {
		if called.Outcome == OutcomeFault {
			err = fmt.Errorf("%w: VP %d: page %#x of the paravisor", ErrFault, vp, called.GPA)
		}
		return err
	}
	v := p.module
	if vm := v.Current(); vm != GuestVM {
		v.current = tdx.VM_L1
		return fmt.Errorf("%w %d: VM %d: only %d is run", ErrVP, vp, vm, GuestVM)
	}
	m.mu.RLock()
	page := m.bytes(v.StateGPA(), tdx.L2_STATE_SIZE)
	apic := m.bytes(x86.GPA(v.get(GuestVM, tdx.VMCS_VIRTUAL_APIC)), x86.PageSize)
	m.mu.RUnlock()
	if page == nil || apic == nil {
		v.current = tdx.VM_L1
		return fmt.Errorf("%w %d: no memory for its state", ErrVP, vp)
	}
	if err := p.enter.Decode(page); err != nil {
		return err
	}
	v.Load(GuestVM, &p.enter)
	x := EntryFailure()
	if v.Violation(GuestVM) == ViolationNone {
		if err := p.load(c, apic, rcx); err != nil {
			return err
		}
		if x, err = m.enter(p); err != nil {
			return err
		}
		p.store(c, apic)
	}
	v.Save(GuestVM, &p.enter)
	o := v.Leave(&x)
	r.Returned(&o)
	return p.enter.Encode(page)
}

// enter runs until an exit that L1 sees.
func (m *Machine) enter(p *processor) (l2.Exit, error) {
	controls := p.module.get(GuestVM, tdx.VMCS_PROCESSOR_CONTROLS)
	nmi := controls&tdx.PROCESSOR_NMI_WINDOW != 0
	for range maxRetries {
		if nmi && p.takesNMI() {
			return l2.Exit{Reason: tdx.EXIT_NMI_WINDOW}, nil
		}
		// The end of a shadow shows by the window of interrupts.
		p.state.Window = controls&tdx.PROCESSOR_INTERRUPT_WINDOW != 0 || nmi && !p.state.NMIMasked
		e, err := p.vp.RunState(&p.state)
		if err != nil {
			return l2.Exit{}, err
		}
		x, ok, err := m.exit(p, &e)
		if err != nil {
			return l2.Exit{}, err
		}
		if ok && x.Reason == tdx.EXIT_INTERRUPT_WINDOW && controls&tdx.PROCESSOR_INTERRUPT_WINDOW == 0 {
			continue
		}
		if ok {
			x.IDTVectoring, x.IDTError = infoOf(p.state.Event)
			return x, nil
		}
	}
	return l2.Exit{}, fmt.Errorf("%w: it comes back again and again", ErrVP)
}

// takesNMI tells whether an NMI window is open.
func (p *processor) takesNMI() bool {
	s := &p.state
	return !s.NMIMasked && !s.Shadow && s.Event.Kind == hcl.EventNone
}

// exit makes an exit of VMX of one of the partition. It returns false when the guest is
// to go on.
func (m *Machine) exit(p *processor, e *hcl.Exit) (l2.Exit, bool, error) {
	s := &p.state
	length := lengthOf(s.Registers.RIP, s.Next)
	switch e.Kind {
	case hcl.ExitMemoryFault:
		x, ok := m.fault(p, e.GPA)
		return x, ok, nil
	case hcl.ExitMMIO:
		x, ok := m.unreserved(p, e)
		return x, ok, nil
	case hcl.ExitPIO:
		switch {
		case s.Next != s.Registers.RIP:
		case !e.Write: // a string, of which nothing is done: its length is not known
			x, _ := l2.FromHCL(e, 0)
			x.Qualification |= tdx.IO_STRING
			return x, true, nil
		case !p.output(e):
			m.lost.Add(1)
			return EntryFailure(), true, nil
		default:
			length = 1
		}
	case hcl.ExitHalt: // one byte, and behind it by now
		s.Registers.RIP--
		length = 1
	case hcl.ExitTPR:
		if uint64(s.CR8) >= p.module.get(GuestVM, tdx.VMCS_TPR_THRESHOLD) {
			return l2.Exit{}, false, nil
		}
	default:
	}
	x, _ := l2.FromHCL(e, length)
	r := &s.Registers
	if p.module.Route(GuestVM, &x, r.RAX, r.RCX, 0) == RouteModule {
		// A register that the processor does not have.
		s.Event = hcl.Event{Kind: hcl.EventException, Vector: vectorGP, HasCode: s.Special.CR0&cr0PE != 0}
		return l2.Exit{}, false, nil
	}
	return x, true, nil
}

const vectorGP = 13

// fault describes an access to a page that the guest is denied. It returns false when
// it need not have been: the TD's pages have changed since.
func (m *Machine) fault(p *processor, gpa x86.GPA) (l2.Exit, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	access := m.explain(p, gpa)
	own := m.ownArea()
	if !m.isRAM(gpa) && !own.has(gpa) {
		return FaultExit(Fault{Kind: FaultHost, Qualification: qualification(access)}, gpa, 0), true
	}
	f := p.module.Check(gpa, access)
	if f.OK() {
		if r, _ := m.td.Reach(gpa, GuestVM); r == ReachAll {
			return l2.Exit{}, false
		}
		// Whole pages are denied: what the guest might do with it, it may not here.
		f = Fault{Kind: FaultL1, Qualification: qualification(access)}
	}
	return FaultExit(f, gpa, 0), true
}

// explain says what the access was.
func (m *Machine) explain(p *processor, gpa x86.GPA) Access {
	if m.config.Explain != nil {
		if a, ok := m.config.Explain(&p.state, gpa); ok {
			return a
		}
	}
	s := &p.state
	linear := x86.GPA(uint32(s.Special.CS.Base + s.Registers.RIP))
	if s.Special.CR0&cr0PG == 0 && linear^gpa < x86.PageSize {
		return Fetch
	}
	return 0
}

// unreserved handles an access to where nothing is. It returns false for a write: the
// partition has executed it, and nobody would have seen it.
func (m *Machine) unreserved(p *processor, e *hcl.Exit) (l2.Exit, bool) {
	if p.state.Next == p.state.Registers.RIP {
		m.dropped.Add(1)
		return l2.Exit{}, false
	}
	m.undone.Add(1)
	return m.td.MMIOFault(e.GPA, e.Write), true
}
