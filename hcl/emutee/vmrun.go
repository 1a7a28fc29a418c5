package emutee

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// maxRetries bounds how often a VP is sent back to a page that it may use.
const maxRetries = 1000

// Run enters a VP from its VMSA, until it leaves to the paravisor, and stores why. The
// error says that the VP could not be run at all.
// Preconditions: the thread is that of NewVP.
func (m *Machine) Run(vp int) error {
	p := m.processor(vp)
	if p == nil {
		return fmt.Errorf("%w %d: there is none", ErrVP, vp)
	}
	if !m.rmp.EnterVMSA(p.gpa) {
		return fmt.Errorf("%w %d: no VMSA at %#x, or one in use", ErrVP, vp, p.gpa)
	}
	defer m.rmp.LeaveVMSA(p.gpa)
	if err := p.area.Decode(p.page); err != nil {
		return err
	}
	violation := p.area.Violation(Features)
	if violation == vmsa.ViolationNone && p.area.VMPL != GuestVMPL {
		violation = vmsa.ViolationVMPL
	}
	if violation != vmsa.ViolationNone {
		p.refuse(violation.ExitCode())
		return nil
	}
	if err := p.load(); err != nil {
		return err
	}
	if err := m.enter(p); err != nil {
		return err
	}
	p.store(vp)
	p.area.Exit.IntInfo = wordOf(p.state.Event)
	return p.area.Encode(p.page)
}

// enter runs until an exit that the paravisor sees.
func (m *Machine) enter(p *processor) error {
	for range maxRetries {
		e, err := p.vp.RunState(&p.state)
		if err != nil {
			return err
		}
		// The exit is described in terms of the registers.
		p.area.SetRegisters(&p.state.Registers, &p.state.Special)
		switch e.Kind {
		case hcl.ExitMemoryFault:
			if !m.fault(p, e.GPA) {
				continue
			}
		case hcl.ExitMMIO:
			if !m.unreserved(p, &e) {
				continue
			}
		case hcl.ExitPIO:
			m.port(p, &e)
		case hcl.ExitHalt: // one byte, and behind it by now
			next := p.state.Registers.RIP
			p.state.Registers.RIP--
			p.area.SetExit(&e, next)
		default:
			p.area.SetExit(&e, p.state.Next)
		}
		return err
	}
	return fmt.Errorf("%w: page after page is denied that the RMP allows", ErrVP)
}

// port describes an access to a port. A string has RIP and Next equal (hcl.StateRunner).
func (m *Machine) port(p *processor, e *hcl.Exit) {
	next, str := p.state.Next, p.state.Next == p.state.Registers.RIP
	switch {
	case str && !e.Write:
		p.area.SetExit(e, 0)
		p.area.Exit.Info1 |= snp.IOIO_STRING
		return
	case str && !p.output(e):
		m.lost.Add(1)
		e = &hcl.Exit{Kind: hcl.ExitEmulationFailed}
	}
	p.area.SetExit(e, next)
}

// fault describes an access to a page that the guest is denied. It returns false when
// it need not have been: the RMP has changed since.
func (m *Machine) fault(p *processor, gpa x86.GPA) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	access := m.explain(p, gpa)
	if own := (span{m.config.Own, m.config.Own + x86.GPA(len(m.own))}); !m.isRAM(gpa) && !own.has(gpa) {
		p.area.Exit = vmsa.ExitInfo{Code: snp.EXIT_NPF, Info1: vmsa.MMIOFault(access&Write != 0) | fetchBit(access), Info2: uint64(gpa)}
		return true
	}
	f := m.rmp.Check(gpa, access, GuestVMPL)
	if f.OK() {
		if r, _ := m.rmp.Reach(gpa, GuestVMPL); r == ReachAll {
			return false
		}
		// Whole pages are denied: what the guest might do with it, it may not here.
		f = Fault{FaultNPF, errorCode(access) | snp.NPF_ENC | snp.NPF_VMPL}
	}
	p.area.Exit, _ = f.Exit(gpa)
	return true
}

func fetchBit(a Access) uint64 {
	if a&Fetch != 0 {
		return snp.NPF_ID
	}
	return 0
}

// Bits of control registers (APM vol. 2 §3.1).
const cr0PG = 1 << 31

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
func (m *Machine) unreserved(p *processor, e *hcl.Exit) bool {
	if p.state.Next == p.state.Registers.RIP {
		m.dropped.Add(1)
		return false
	}
	m.undone.Add(1)
	p.area.Exit = vmsa.ExitInfo{Code: snp.EXIT_NPF, Info1: vmsa.MMIOFault(e.Write), Info2: uint64(e.GPA)}
	return true
}
