package pci

import "fmt"

// State is what a function remembers, for saved states. Handlers and the devices
// behind BARs save their own.
type State struct {
	Command   uint16
	CacheLine uint8
	Line      uint8
	Control   uint16   // of MSI-X
	BARs      []uint64 // values of those that exist, in order
	Vectors   []VectorState
	Pending   []uint64 // 64 vectors a word
}

// VectorState is an entry of the MSI-X table.
type VectorState struct {
	Address uint64
	Data    uint32
	Masked  bool
}

// Save returns the state. Preconditions: no VP runs and nobody signals.
func (e *Endpoint) Save() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := State{Command: e.command, CacheLine: e.cacheLine, Line: e.line, Control: e.control}
	for i := range e.bars {
		s.BARs = append(s.BARs, e.bars[i].value)
	}
	if e.msix == nil {
		return s
	}
	for i := range e.msix.entries {
		v := &e.msix.entries[i]
		msg := v.message.Load()
		s.Vectors = append(s.Vectors, VectorState{
			Address: uint64(v.addressHigh.Load())<<32 | msg&0xfffffffc,
			Data:    uint32(msg >> 32),
			Masked:  msg&entryMasked != 0,
		})
	}
	for i := range e.msix.pending {
		s.Pending = append(s.Pending, e.msix.pending[i].Load())
	}
	return s
}

// Restore takes over a state of a function that was made alike. Preconditions: as
// for Save.
func (e *Endpoint) Restore(s State) error {
	vectors, words := 0, 0
	if e.msix != nil {
		vectors, words = len(e.msix.entries), len(e.msix.pending)
	}
	if len(s.BARs) != len(e.bars) || len(s.Vectors) != vectors || len(s.Pending) != words {
		return fmt.Errorf("%w: %w", ErrConfig, errState)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.command = s.Command & commandWritable
	e.cacheLine, e.line = s.CacheLine, s.Line
	for i := range e.bars {
		b := &e.bars[i]
		b.value = s.BARs[i] &^ (b.size - 1)
		if !b.wide {
			b.value &= 0xffffffff
		}
	}
	for i, v := range s.Vectors {
		msg := uint64(v.Data)<<32 | v.Address&0xfffffffc
		if v.Masked {
			msg |= entryMasked
		}
		e.msix.entries[i].message.Store(msg)
		e.msix.entries[i].addressHigh.Store(uint32(v.Address >> 32))
	}
	for i, p := range s.Pending {
		if rest := vectors - i*vectorsPerWord; rest < vectorsPerWord {
			p &= 1<<rest - 1
		}
		e.msix.pending[i].Store(p)
	}
	if e.msix != nil {
		e.control = s.Control & (msixControlEnable | msixControlMask)
	}
	e.apply()
	return nil
}
