package tdxmodule

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/diag/inspect"
	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Errors of a machine, which wrap the cause.
var (
	ErrMachine = errors.New("emulated TD: memory")
	ErrFault   = errors.New("emulated TD: the host does not go along")
	ErrVP      = errors.New("emulated TD: VP")
)

// GuestVM is the L2 VM that a machine runs.
const GuestVM = 1

// MachineConfig says what is fixed when a machine is made.
type MachineConfig struct {
	// TD is what the host fixes. It has at least one L2 VM.
	TD Config
	// Own is where the pages of the paravisor itself lie, a multiple of 4 KiB within the
	// TD's memory and no guest memory, and OwnPages how many it can have.
	Own      x86.GPA
	OwnPages int
	// Clear makes accepting a page zero it, as hardware does. Without it, what Keel wrote
	// there before is kept.
	Clear bool
	// Explain tells what an instruction does to a page that it is denied, for the exit
	// qualification. Without it, or where it returns false, a fault is that of a fetch
	// where this can be seen, and else of a read.
	Explain func(s *hcl.State, page x86.GPA) (Access, bool)
}

// Machine is a TD with one guest in L2 VM 1, over a partition whose guest can be denied
// pages. What the TD's pages and their attributes do not let the VM do, it denies. It
// plays the host too, an honest one: it adds pages that are asked for, splits what is too
// large, and sends back to L1 what is no memory.
//
// What differs from hardware: x87, SSE and AVX registers, debug registers, DEBUGCTL, XCR0
// and XSS stay in the processor between two runs, and model-specific registers of the
// VMCS and of the context are loaded when the paravisor changes them, but not stored.
// CPUID, XSETBV, accesses to EFER and writes of control registers are executed by the
// partition and never exit, and page-directory pointers are read by it. The address of an
// EPT violation names the page only. An NMI window that opens when the guest has handled
// an NMI is seen at its next exit. OUTS exits as OUT, element by element. Where INS exits,
// the guest's memory holds zeroes until the string was read. A write to what is neither
// memory nor reserved was executed by the partition and is dropped; a read of such an
// address is undone.
type Machine struct {
	raw    hcl.RawFaults
	td     *TD
	config MachineConfig
	own    []byte // the paravisor's pages

	mu       sync.RWMutex // orders changes of the pages and of what the guest is denied
	ram      []area
	reserved []area
	pages    int // of own, that are taken

	vpMu sync.RWMutex
	vps  map[int]*processor

	undone, dropped, lost atomic.Uint64
}

// area is a range of addresses, with memory if it has any.
type area struct {
	first, end x86.GPA
	bytes      []byte
}

func (a *area) has(gpa x86.GPA) bool { return gpa >= a.first && gpa < a.end }

// areaAt returns the area at an address, or nil.
func areaAt(areas []area, gpa x86.GPA) *area {
	for i := range areas {
		if areas[i].has(gpa) {
			return &areas[i]
		}
	}
	return nil
}

// NewMachine makes a machine of a partition without memory and VPs, which it closes
// when it is closed, but not when this fails.
func NewMachine(raw hcl.RawFaults, config MachineConfig) (*Machine, error) {
	td, err := New(config.TD)
	if err != nil {
		return nil, err
	}
	if config.TD.VMs < GuestVM {
		return nil, fmt.Errorf("%w: a TD without an L2 VM: use 1 to %d", ErrConfig, tdx.L2_VMS)
	}
	length := uint64(config.OwnPages) * x86.PageSize
	if config.OwnPages <= 0 || config.Own%x86.PageSize != 0 || length > config.TD.Memory || uint64(config.Own) > config.TD.Memory-length {
		return nil, fmt.Errorf("%w: %d pages of the paravisor at %#x: place them in the %#x bytes of memory", ErrMachine, config.OwnPages, config.Own, config.TD.Memory)
	}
	m := &Machine{raw: raw, td: td, config: config, vps: map[int]*processor{}}
	if m.own, err = unix.Mmap(-1, 0, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("%w: pages of the paravisor: %w", ErrMachine, err)
	}
	// The guest's addresses reach these pages too: only the denial keeps it out.
	if err := errors.Join(m.place(config.Own, m.own), m.build(config.Own, length)); err != nil {
		return nil, errors.Join(err, unix.Munmap(m.own))
	}
	return m, nil
}

// build gives the paravisor its pages, as those of the TD's image are its own from the
// start.
func (m *Machine) build(gpa x86.GPA, length uint64) error {
	if status := m.td.Give(gpa, length); status != tdx.STATUS_SUCCESS {
		return fmt.Errorf("%w: pages of the paravisor: status %#x", ErrMachine, status)
	}
	for end := gpa + x86.GPA(length); gpa < end; {
		at := m.td.Page(gpa).Level
		r, err := m.td.Accept(operand(gpa, at), nil)
		if err != nil || !r.OK() {
			return fmt.Errorf("%w: pages of the paravisor: %w, status %#x", ErrMachine, err, r.Status)
		}
		gpa += 1 << shiftOf(at)
	}
	return nil
}

// place denies a range and then puts memory there.
func (m *Machine) place(gpa x86.GPA, memory []byte) error {
	if err := m.raw.Deny(gpa, uint64(len(memory))); err != nil {
		return err
	}
	return m.raw.MapMemory(gpa, memory)
}

// MapMemory puts memory at gpa. The host adds its pages to the TD when it is asked for
// them.
func (m *Machine) MapMemory(gpa x86.GPA, memory []byte) error {
	end := gpa + x86.GPA(len(memory))
	if !m.td.covered(end-1) || end < gpa {
		return fmt.Errorf("%w: %#x+%#x: the TD has %#x bytes", ErrMachine, gpa, len(memory), m.config.TD.Memory)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range append([]area{m.ownArea()}, m.ram...) {
		if gpa < a.end && a.first < end {
			return fmt.Errorf("%w: %#x+%#x: there is memory already", ErrMachine, gpa, len(memory))
		}
	}
	if err := m.place(gpa, memory); err != nil {
		return err
	}
	m.ram = append(m.ram, area{gpa, end, memory})
	return nil
}

func (m *Machine) ownArea() area {
	return area{m.config.Own, m.config.Own + x86.GPA(len(m.own)), m.own}
}

// Reserve makes a range without memory one where the guest's accesses are raw faults.
func (m *Machine) Reserve(gpa x86.GPA, length uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.raw.Reserve(gpa, length); err != nil {
		return err
	}
	m.reserved = append(m.reserved, area{gpa, gpa + x86.GPA(length), nil})
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

// TD is the machine's TD, to look at.
func (m *Machine) TD() *TD { return m.td }

// Undone counts exits that this machine cannot have as hardware has them: reads of what
// is neither memory nor reserved, which were undone, and those that ended in a failed
// entry.
func (m *Machine) Undone() (undone, lost uint64) { return m.undone.Load(), m.lost.Load() }

// Dropped counts writes to what is neither memory nor reserved.
func (m *Machine) Dropped() uint64 { return m.dropped.Load() }

// Inspect writes the counters of the machine, and that it is no real one.
func (m *Machine) Inspect(f *inspect.Fields) {
	s := m.td.Stats()
	undone, lost := m.Undone()
	f.Bool("emulated", inspect.Public, true, "no processor protects the guest from the host")
	count := func(name string, n uint64, help string) { f.Uint(name, inspect.Public, inspect.Count, n, help) }
	count("l1_exits", s.L1Exits, "accesses that a page's attributes forbid, or to pages that were not accepted")
	count("host_exits", s.HostExits, "accesses and calls that went to the host first")
	count("already_accepted", s.AlreadyAccepted, "acceptances of pages that were in that state already")
	count("size_mismatches", s.SizeMismatch, "calls on a page of another size")
	count("refused_fields", s.Field, "accesses to metadata fields that were refused")
	count("failed_entries", s.EntryFailed, "states of the guest that VM entry refused")
	count("undone_reads", undone, "reads of what is neither memory nor reserved, which hardware would not have begun")
	count("dropped_writes", m.Dropped(), "writes to what is neither memory nor reserved, of which no exit tells")
	count("lost_exits", lost, "exits that this machine cannot have as hardware has them, and which ended the guest")
}

// Close ends the machine with its partition.
func (m *Machine) Close() error {
	err := errors.Join(m.raw.Close(), unix.Munmap(m.own))
	m.own = nil
	return err
}
