package emutee

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Errors of a machine, which wrap the cause.
var (
	ErrMachine = errors.New("emulated SNP machine: memory")
	ErrFault   = errors.New("emulated SNP machine: the instruction faults")
	ErrVP      = errors.New("emulated SNP machine: VP")
)

// GuestVMPL is the privilege level whose VPs a machine runs.
const GuestVMPL = snp.VMPL2

// Features are the SEV_FEATURES with which a machine runs a VP.
const Features = snp.SEV_FEATURE_SNP_ACTIVE | snp.SEV_FEATURE_VTOM | snp.SEV_FEATURE_REFLECT_VC |
	snp.SEV_FEATURE_ALTERNATE_INJ | snp.SEV_FEATURE_DEBUG_SWAP | snp.SEV_FEATURE_GUEST_INTERCEPT_CTL

// MachineConfig says what is fixed when a machine is made.
type MachineConfig struct {
	// Memory is how much the RMP covers, in bytes from address 0, a multiple of 2 MiB.
	Memory uint64
	// Own is where the pages of the paravisor itself lie, a multiple of 4 KiB that the
	// RMP covers and no guest memory, and OwnPages how many it can have.
	Own      x86.GPA
	OwnPages int
	// Explain tells what an instruction does to a page that it is denied, for
	// EXITINFO1. Without it, or where it returns false, a fault is that of a fetch
	// where this can be seen, and else of a read.
	Explain func(s *hcl.State, page x86.GPA) (Access, bool)
}

// Machine is an SNP machine with one guest, over a partition whose guest can be denied
// pages. What the RMP does not let the guest's VMPL do, it denies. It plays the host
// too, an honest one: it gives pages that are asked for, and splits what is too large.
//
// What differs from hardware: x87, SSE and AVX registers, debug registers and XCR0
// stay in the processor between two runs, and model-specific registers of a VMSA
// are loaded when the paravisor changes them, but not stored; a VMSA that RMPADJUST
// makes anew is loaded in full. CPUID and writes of control registers are executed
// by the partition and never exit. EXITINFO2 of EXIT_NPF names the page only. OUTS
// exits as OUT, element by element. Where INS exits, the guest's memory holds zeroes
// until the string was read. A write to what is neither memory nor reserved was
// executed by the partition and is dropped; a read of such an address is undone.
type Machine struct {
	raw    hcl.RawFaults
	rmp    *RMP
	config MachineConfig
	own    []byte // the paravisor's pages

	mu       sync.RWMutex // orders changes of the RMP and of what the guest is denied
	ram      []span
	reserved []span
	pages    int // of own, that are taken

	vpMu sync.RWMutex
	vps  map[int]*processor

	undone, dropped, lost atomic.Uint64
}

// span is a range of addresses.
type span struct{ first, end x86.GPA }

func (s span) has(gpa x86.GPA) bool { return gpa >= s.first && gpa < s.end }

func anyHas(spans []span, gpa x86.GPA) bool {
	for i := range spans {
		if spans[i].has(gpa) {
			return true
		}
	}
	return false
}

// NewMachine makes a machine of a partition without memory and VPs, which it closes
// when it is closed, but not when this fails.
func NewMachine(raw hcl.RawFaults, config MachineConfig) (*Machine, error) {
	rmp, err := NewRMP(config.Memory, false)
	if err != nil {
		return nil, err
	}
	length := uint64(config.OwnPages) * x86.PageSize
	if config.OwnPages <= 0 || config.Own%x86.PageSize != 0 || length > config.Memory || uint64(config.Own) > config.Memory-length {
		return nil, fmt.Errorf("%w: %d pages of the paravisor at %#x: place them in the %#x bytes of memory", ErrMachine, config.OwnPages, config.Own, config.Memory)
	}
	m := &Machine{raw: raw, rmp: rmp, config: config, vps: map[int]*processor{}}
	if m.own, err = unix.Mmap(-1, 0, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("%w: pages of the paravisor: %w", ErrMachine, err)
	}
	// The guest's addresses reach these pages too: only the denial keeps it out.
	if err := m.place(config.Own, m.own); err != nil {
		return nil, errors.Join(err, unix.Munmap(m.own))
	}
	for gpa := config.Own; gpa < config.Own+x86.GPA(length); gpa += x86.PageSize {
		rmp.RMPUpdate(gpa, snp.RMP_PG_SIZE_4K, OwnerGuest)
		rmp.PValidate(snp.VMPL0, gpa, snp.RMP_PG_SIZE_4K, true)
	}
	return m, nil
}

// place denies a range and then puts memory there.
func (m *Machine) place(gpa x86.GPA, memory []byte) error {
	if err := m.raw.Deny(gpa, uint64(len(memory))); err != nil {
		return err
	}
	return m.raw.MapMemory(gpa, memory)
}

// MapMemory puts memory at gpa. It belongs to the host, which gives its pages to the
// guest when it is asked for them.
func (m *Machine) MapMemory(gpa x86.GPA, memory []byte) error {
	end := gpa + x86.GPA(len(memory))
	if !m.rmp.covered(end-1) || end < gpa {
		return fmt.Errorf("%w: %#x+%#x: the RMP covers %#x bytes", ErrMachine, gpa, len(memory), m.config.Memory)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	own := span{m.config.Own, m.config.Own + x86.GPA(len(m.own))}
	for _, s := range append([]span{own}, m.ram...) {
		if gpa < s.end && s.first < end {
			return fmt.Errorf("%w: %#x+%#x: there is memory already", ErrMachine, gpa, len(memory))
		}
	}
	if err := m.place(gpa, memory); err != nil {
		return err
	}
	m.ram = append(m.ram, span{gpa, end})
	return nil
}

// Reserve makes a range without memory one where the guest's accesses are raw faults.
func (m *Machine) Reserve(gpa x86.GPA, length uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.raw.Reserve(gpa, length); err != nil {
		return err
	}
	m.reserved = append(m.reserved, span{gpa, gpa + x86.GPA(length)})
	return nil
}

// NewPage returns a page of the paravisor's own.
func (m *Machine) NewPage() (x86.GPA, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pages == m.config.OwnPages {
		return 0, nil, fmt.Errorf("%w: all %d pages of the paravisor are taken", ErrMachine, m.pages)
	}
	at := m.pages * x86.PageSize
	m.pages++
	return m.config.Own + x86.GPA(at), m.own[at : at+x86.PageSize : at+x86.PageSize], nil
}

// TSCHz is the frequency of the guest's time stamp counter.
func (m *Machine) TSCHz() uint64 { return m.raw.TSCHz() }

// SupportedCPUID lists what the partition can give a guest.
func (m *Machine) SupportedCPUID() ([]hcl.CPUIDEntry, error) { return m.raw.SupportedCPUID() }

// RMP is the machine's table, to look at.
func (m *Machine) RMP() *RMP { return m.rmp }

// Undone counts exits that this machine cannot have as hardware has them: reads of what
// is neither memory nor reserved, which were undone, and those that ended in
// EXIT_INVALID.
func (m *Machine) Undone() (undone, lost uint64) { return m.undone.Load(), m.lost.Load() }

// Dropped counts writes to what is neither memory nor reserved.
func (m *Machine) Dropped() uint64 { return m.dropped.Load() }

// Close ends the machine with its partition.
func (m *Machine) Close() error {
	err := errors.Join(m.raw.Close(), unix.Munmap(m.own))
	m.own = nil
	return err
}
