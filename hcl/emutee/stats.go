package emutee

import (
	"sync/atomic"

	"keel/diag/inspect"
	"keel/hcl/abi/snp"
)

// Stats counts what the machine refused, by reason, since it was made.
type Stats struct {
	NPF, VC, GP    uint64 // faults of accesses and of instructions
	FailInput      uint64 // return codes of instructions, the guest's and the host's
	FailPermission uint64
	FailInUse      uint64
	FailOverlap    uint64
	FailSize       uint64
	FailBadAddress uint64
	Unchanged      uint64 // PVALIDATE of a page that was in that state already
	Invalid        uint64 // VMRUN of a page that is not a VMSA
}

// Indices of the counters.
const (
	countNPF = iota
	countVC
	countGP
	countInput
	countPermission
	countInUse
	countOverlap
	countSize
	countBadAddress
	countUnchanged
	countInvalid
	countNumber
)

type counters [countNumber]atomic.Uint64

// byFault and byCode tell where a refusal is counted.
var (
	byFault = [faultKinds]int{FaultNPF: countNPF, FaultVC: countVC, FaultGP: countGP}
	byCode  = [...]int{
		snp.RMP_FAIL_INPUT:        countInput,
		snp.RMP_FAIL_PERMISSION:   countPermission,
		snp.RMP_FAIL_INUSE:        countInUse,
		snp.RMP_FAIL_OVERLAP:      countOverlap,
		snp.RMP_FAIL_SIZEMISMATCH: countSize,
		snp.RMP_FAIL_BADADDR:      countBadAddress,
	}
)

func (c *counters) add(i int) { c[i].Add(1) }

func (c *counters) fault(f Fault) { c.add(byFault[f.Kind]) }

func (c *counters) result(r Result) {
	switch {
	case r.Fault.Kind != FaultNone:
		c.fault(r.Fault)
	case r.Code != snp.RMP_SUCCESS:
		c.add(byCode[r.Code])
	case r.Unchanged:
		c.add(countUnchanged)
	}
}

func (c *counters) host(code uint32) uint32 {
	if code != snp.RMP_SUCCESS {
		c.add(byCode[code])
	}
	return code
}

// Stats returns the counters. They need not be of one moment.
func (r *RMP) Stats() Stats {
	c := &r.stats
	return Stats{
		NPF: c[countNPF].Load(), VC: c[countVC].Load(), GP: c[countGP].Load(),
		FailInput: c[countInput].Load(), FailPermission: c[countPermission].Load(), FailInUse: c[countInUse].Load(),
		FailOverlap: c[countOverlap].Load(), FailSize: c[countSize].Load(), FailBadAddress: c[countBadAddress].Load(),
		Unchanged: c[countUnchanged].Load(), Invalid: c[countInvalid].Load(),
	}
}

// Inspect writes the counters of the machine, and that it is no real one.
func (m *Machine) Inspect(f *inspect.Fields) {
	s := m.rmp.Stats()
	undone, lost := m.Undone()
	f.Bool("emulated", inspect.Public, true, "no processor protects the guest from the host")
	count := func(name string, n uint64, help string) { f.Uint(name, inspect.Public, inspect.Count, n, help) }
	count("nested_faults", s.NPF, "accesses and instructions that ended in a nested page fault")
	count("vc_exceptions", s.VC, "accesses to pages that were not accepted")
	count("unchanged", s.Unchanged, "PVALIDATE of pages that were in that state already")
	count("size_mismatches", s.FailSize, "instructions on a page of another size")
	count("permission_failures", s.FailPermission, "instructions on a page of a higher privilege level")
	count("undone_reads", undone, "reads of what is neither memory nor reserved, which hardware would not have begun")
	count("dropped_writes", m.Dropped(), "writes to what is neither memory nor reserved, of which no exit tells")
	count("lost_exits", lost, "exits that this machine cannot have as hardware has them, and which ended the guest")
}
