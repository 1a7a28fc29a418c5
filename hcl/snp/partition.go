package snp

import (
	"errors"
	"fmt"
	"sync"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
)

// Partition is a guest at VMPL2. Every access to what is not its memory is an
// hcl.ExitMemoryFault.
type Partition struct {
	hw   Hardware
	gate *hcl.Gate // to the host, nil where everything may pass

	ram   *private.Memory
	mu    sync.Mutex   // guards taken
	taken map[int]bool // VPs
	stats counters
}

var (
	_ hcl.RawFaults = (*Partition)(nil)
	_ hcl.Accepter  = (*Partition)(nil)
	_ hcl.Guarded   = (*Partition)(nil)
)

// Open makes a partition on a machine, which it closes when it is closed.
func Open(hw Hardware) (*Partition, error) {
	if hw == nil {
		return nil, fmt.Errorf("%w: no machine", ErrOpen)
	}
	p := &Partition{hw: hw, taken: map[int]bool{}}
	p.ram = private.New(pages{p})
	return p, nil
}

// MapMemory makes memory, Keel's mapping of it, the guest's RAM. Its pages are accepted
// when they are first used: by the guest without more ado, by Keel through Accept.
func (p *Partition) MapMemory(gpa x86.GPA, m []byte) error {
	if err := p.gate.Ask(hcl.HostMemory); err != nil {
		return err
	}
	return p.ram.Add(gpa, m, virtualTOM, p.hw.MapMemory)
}

// Guard makes requests to the host pass a gate.
func (p *Partition) Guard(g *hcl.Gate) { p.gate = g }

// Reserve makes a range that has no memory one of an emulated device.
func (p *Partition) Reserve(gpa x86.GPA, length uint64) error {
	if err := private.WholePages(gpa, length); err != nil {
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

var errRefused = errors.New("refused")
