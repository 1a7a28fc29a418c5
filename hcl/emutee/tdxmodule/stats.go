package tdxmodule

import (
	"sync/atomic"

	"keel/hcl/abi/tdx"
)

// Stats counts what the machine refused, by reason, since it was made.
type Stats struct {
	L1Exits, VE, PF, HostExits uint64 // faults of accesses and of calls
	OperandInvalid             uint64 // statuses of calls, L1's and the host's
	AlreadyAccepted            uint64
	SizeMismatch               uint64
	AttributesInvalid          uint64
	Field                      uint64 // metadata fields: identifier, access or value
	OtherStatus                uint64
	Host                       uint64 // host functions that failed
	EntryFailed                uint64 // L2 states that VM entry refuses
}

// Indices of the counters.
const (
	countL1 = iota
	countVE
	countPF
	countHostExit
	countInvalid
	countAccepted
	countSize
	countAttributes
	countField
	countOther
	countHost
	countEntry
	countNumber
)

type counters [countNumber]atomic.Uint64

var countOf = [faultKinds]int{FaultL1: countL1, FaultVE: countVE, FaultPF: countPF, FaultHost: countHostExit}

func (c *counters) fault(k FaultKind) { c[countOf[k]].Add(1) }

func (c *counters) result(r Result) {
	if !r.Fault.OK() {
		c.fault(r.Fault.Kind)
		return
	}
	c.status(r.Status)
}

// status counts one of L1's calls, and returns its status.
func (c *counters) status(status uint64) uint64 {
	switch status & tdx.STATUS_MASK {
	case tdx.STATUS_SUCCESS, tdx.STATUS_FIRST_FIELD_ID_IN_CONTEXT, tdx.STATUS_PENDING_INTERRUPT:
	case tdx.STATUS_OPERAND_INVALID:
		c[countInvalid].Add(1)
	case tdx.STATUS_PAGE_ALREADY_ACCEPTED:
		c[countAccepted].Add(1)
	case tdx.STATUS_PAGE_SIZE_MISMATCH:
		c[countSize].Add(1)
	case tdx.STATUS_PAGE_ATTR_INVALID:
		c[countAttributes].Add(1)
	case tdx.STATUS_FIELD_ID_INCORRECT, tdx.STATUS_FIELD_NOT_READABLE, tdx.STATUS_FIELD_NOT_WRITABLE, tdx.STATUS_FIELD_VALUE_NOT_VALID:
		c[countField].Add(1)
	default:
		c[countOther].Add(1)
	}
	return status
}

// host counts a host function that failed, and returns its status.
func (c *counters) host(status uint64) uint64 {
	c[countHost].Add(1)
	return status
}

// Stats returns the counters. They need not be of one moment.
func (t *TD) Stats() Stats {
	c := &t.stats
	return Stats{
		L1Exits: c[countL1].Load(), VE: c[countVE].Load(), PF: c[countPF].Load(), HostExits: c[countHostExit].Load(),
		OperandInvalid: c[countInvalid].Load(), AlreadyAccepted: c[countAccepted].Load(), SizeMismatch: c[countSize].Load(),
		AttributesInvalid: c[countAttributes].Load(), Field: c[countField].Load(), OtherStatus: c[countOther].Load(),
		Host: c[countHost].Load(), EntryFailed: c[countEntry].Load(),
	}
}
