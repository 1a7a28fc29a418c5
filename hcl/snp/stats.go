package snp

import "sync/atomic"

// Stats counts what happened since the partition was made.
type Stats struct {
	AcceptedLarge, AcceptedSmall uint64 // pages of 2 MiB and of 4 KiB
	Stale                        uint64 // faults that another VP had settled meanwhile
	Reinjected                   uint64 // events whose delivery an exit had interrupted
	LostEvents                   uint64 // events that gave way to an exception
	RefusedCR, RefusedEFER       uint64 // values that the guest must not load
	RefusedXCR0                  uint64
	RefusedInstructions          uint64 // that no guest may execute
	Busy                         uint64 // entries while the VMSA was being written
}

const (
	countLarge = iota
	countSmall
	countStale
	countReinjected
	countLost
	countCR
	countEFER
	countXCR0
	countInstruction
	countBusy
	countNumber
)

type counters [countNumber]atomic.Uint64

func (c *counters) add(i int) { c[i].Add(1) }

// Stats returns the counters. They need not be of one moment.
func (p *Partition) Stats() Stats {
	c := &p.stats
	return Stats{
		AcceptedLarge: c[countLarge].Load(), AcceptedSmall: c[countSmall].Load(),
		Stale: c[countStale].Load(), Reinjected: c[countReinjected].Load(), LostEvents: c[countLost].Load(),
		RefusedCR: c[countCR].Load(), RefusedEFER: c[countEFER].Load(), RefusedXCR0: c[countXCR0].Load(),
		RefusedInstructions: c[countInstruction].Load(), Busy: c[countBusy].Load(),
	}
}
