package tdx

import (
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Partition is a guest that is L2 VM 1 of a TD. Every access to what is not its memory is an
// hcl.ExitMemoryFault.
type Partition struct {
	hw Hardware

	mu    sync.Mutex // orders changes of the memory's state
	ram   []*memory
	taken map[int]bool // VPs
	vps   []*VP

	shared           x86.GPA // where private addresses end
	xfam, attributes uint64  // of the TD

	// epoch changes with the memory's state: a fault that is older may be out of date.
	epoch atomic.Uint64
	stats counters
}

var (
	_ hcl.RawFaults = (*Partition)(nil)
	_ hcl.Accepter  = (*Partition)(nil)
)

// Open makes a partition on a machine, which it closes when it is closed, but not when
// this fails. The error wraps hcl.ErrNotSupported where the TD has no L2 VM.
func Open(hw Hardware) (*Partition, error) {
	if hw == nil {
		return nil, fmt.Errorf("%w: no machine", ErrOpen)
	}
	p := &Partition{hw: hw, taken: map[int]bool{}}
	var vms, width uint64
	for _, f := range [...]struct {
		id uint64
		to *uint64
	}{{tdx.TD_NUM_L2_VMS, &vms}, {tdx.TD_GPAW, &width}, {tdx.TD_XFAM, &p.xfam}, {tdx.TD_ATTRIBUTES, &p.attributes}} {
		var err error
		if *f.to, err = p.field(f.id); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpen, err)
		}
	}
	if vms < VM {
		return nil, fmt.Errorf("%w: %w: the TD has no L2 VM: have the host make it with one", ErrOpen, hcl.ErrNotSupported)
	}
	p.shared = tdx.GPA_SHARED_48
	if width != 0 {
		p.shared = tdx.GPA_SHARED_52
	}
	return p, nil
}

// maxRange bounds addresses: those that a processor has.
const maxRange = 1 << 52

// wholePages checks a range.
func wholePages(gpa x86.GPA, length uint64) error {
	if (uint64(gpa)|length)%x86.PageSize != 0 || length == 0 || length > maxRange || uint64(gpa) > maxRange-length {
		return fmt.Errorf("%w: %#x+%#x is not whole pages", ErrMemory, gpa, length)
	}
	return nil
}

// MapMemory makes memory, Keel's mapping of it, the guest's RAM. Its pages are accepted
// when they are first used: by the guest without more ado, by Keel through Accept.
func (p *Partition) MapMemory(gpa x86.GPA, m []byte) error {
	if err := wholePages(gpa, uint64(len(m))); err != nil {
		return err
	}
	if gpa+x86.GPA(len(m)) > p.shared {
		return fmt.Errorf("%w: %#x+%#x lies beyond the private memory, which ends at %#x", ErrMemory, gpa, len(m), p.shared)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.ram {
		if gpa < r.end() && r.first < gpa+x86.GPA(len(m)) {
			return fmt.Errorf("%w: %#x+%#x: there is memory at %#x", ErrMemory, gpa, len(m), r.first)
		}
	}
	if err := p.hw.MapMemory(gpa, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	p.ram = append(p.ram, newMemory(gpa, m))
	return nil
}

// Reserve makes a range that has no memory one of an emulated device.
func (p *Partition) Reserve(gpa x86.GPA, length uint64) error {
	if err := wholePages(gpa, length); err != nil {
		return err
	}
	return p.hw.Reserve(gpa, length)
}

// TSCHz is the frequency of the guest's time stamp counter.
func (p *Partition) TSCHz() uint64 { return p.hw.TSCHz() }

// SupportedCPUID lists what a guest can be given.
func (p *Partition) SupportedCPUID() ([]hcl.CPUIDEntry, error) { return p.hw.SupportedCPUID() }

// Close ends the partition and its machine.
func (p *Partition) Close() error {
	if p.hw == nil {
		return nil
	}
	err := p.hw.Close()
	p.hw = nil
	return err
}

// take claims the index of a VP.
func (p *Partition) take(index int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index < 0 || p.taken[index] {
		return fmt.Errorf("%w %d: no such number, or taken", ErrVP, index)
	}
	p.taken[index] = true
	return nil
}
