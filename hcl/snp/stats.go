package snp

import (
	"sync/atomic"

	"keel/diag/inspect"
)

// Stats counts what happened since the partition was made.
type Stats struct {
	AcceptedLarge, AcceptedSmall uint64 // pages of 2 MiB and of 4 KiB
	Stale                        uint64 // faults that another VP had settled meanwhile
	Reinjected                   uint64 // events whose delivery an exit had interrupted
	LostEvents                   uint64 // events that gave way to an exception
	RefusedCR, RefusedEFER       uint64 // values that the guest must not load
	RefusedXCR0, RefusedXSS      uint64
	RefusedInstructions          uint64 // that no guest may execute
	Busy                         uint64 // entries while the VMSA was being written
}

const (
	countReinjected = iota
	countLost
	countCR
	countEFER
	countXCR0
	countXSS
	countInstruction
	countBusy
	countNumber
)

type counters [countNumber]atomic.Uint64

func (c *counters) add(i int) { c[i].Add(1) }

// Stats returns the counters. They need not be of one moment.
func (p *Partition) Stats() Stats {
	c := &p.stats
	large, small, stale := p.ram.Stats()
	return Stats{
		AcceptedLarge: large, AcceptedSmall: small, Stale: stale, Reinjected: c[countReinjected].Load(), LostEvents: c[countLost].Load(),
		RefusedCR: c[countCR].Load(), RefusedEFER: c[countEFER].Load(), RefusedXCR0: c[countXCR0].Load(), RefusedXSS: c[countXSS].Load(),
		RefusedInstructions: c[countInstruction].Load(), Busy: c[countBusy].Load(),
	}
}

// Inspect writes the counters, and those of the machine if it has any.
func (p *Partition) Inspect(f *inspect.Fields) {
	s := p.Stats()
	f.Text("kind", inspect.Public, "snp", "what keeps the guest's memory from the host")
	count := func(name string, n uint64, help string) { f.Uint(name, inspect.Public, inspect.Count, n, help) }
	count("accepted_large", s.AcceptedLarge, "pages of 2 MiB that the guest was given")
	count("accepted_small", s.AcceptedSmall, "pages of 4 KiB that the guest was given")
	count("stale_faults", s.Stale, "faults that another VP had settled meanwhile")
	count("reinjected", s.Reinjected, "events whose delivery an exit had interrupted")
	count("lost_events", s.LostEvents, "events that gave way to an exception")
	count("refused_control_registers", s.RefusedCR, "values of CR0 and CR4 that the guest must not load")
	count("refused_efer", s.RefusedEFER, "values of EFER that the guest must not load")
	count("refused_xcr0", s.RefusedXCR0, "values of XCR0 that the guest must not load")
	count("refused_xss", s.RefusedXSS, "values of XSS that the guest must not load")
	count("refused_instructions", s.RefusedInstructions, "instructions that no guest may execute")
	count("busy", s.Busy, "entries while the save area was being written")
	if machine, ok := p.hw.(inspect.Node); ok {
		f.Node("machine", machine, "the SNP machine")
	}
}
