package emutee

import (
	"sync/atomic"

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
