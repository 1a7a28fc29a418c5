package tdxmodule

import (
	"crypto/sha512"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Digest is a measurement, of SHA-384.
type Digest [tdx.MEASUREMENT_SIZE]byte

// Measurements are a TD's registers (ABI, "TDINFO_STRUCT").
type Measurements struct {
	MRTD, MRConfigID, MROwner, MROwnerConfig Digest
	RTMR                                     [tdx.RTMRS]Digest
	ServTDHash                               Digest
}

// Info is what a report says of a TD.
type Info struct {
	Attributes, XFAM uint64
	Measurements
}

// Reporter makes reports: what the CPU does for the module. It fills in a whole
// TDREPORT_STRUCT.
type Reporter interface {
	Report(td *Info, data *[tdx.REPORT_DATA_SIZE]byte, report *[tdx.REPORT_SIZE]byte) error
}

// Measurements returns the registers as they are now.
func (t *TD) Measurements() Measurements {
	t.measureMu.Lock()
	defer t.measureMu.Unlock()
	return t.measured
}

// Info returns what a report would say.
func (t *TD) Info() Info {
	return Info{Attributes: t.config.Attributes, XFAM: t.config.XFAM, Measurements: t.Measurements()}
}

// Extend is TDG.MR.RTMR.EXTEND: a register becomes the digest of itself and 48 bytes,
// which the caller has read at the address in RCX (ABI, that leaf).
func (t *TD) Extend(rcx, rdx uint64, data *Digest) Result {
	r := t.extend(rcx, rdx, data)
	t.stats.result(r)
	return r
}

func (t *TD) extend(rcx, index uint64, data *Digest) Result {
	gpa := x86.GPA(rcx)
	if gpa%tdx.RTMR_EXTEND_ALIGN != 0 || !t.private(gpa) {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	}
	if r, ok := t.reach(gpa, 0); !ok {
		return r
	}
	if index >= tdx.RTMRS {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RDX)
	}
	t.measureMu.Lock()
	defer t.measureMu.Unlock()
	var both [2 * tdx.MEASUREMENT_SIZE]byte
	copy(both[:], t.measured.RTMR[index][:])
	copy(both[tdx.MEASUREMENT_SIZE:], data[:])
	t.measured.RTMR[index] = sha512.Sum384(both[:])
	return Result{}
}

// CheckReport is what TDG.MR.REPORT checks of its operands, in the module's order: the
// report's address in RCX, that of the data in RDX, the subtype in R8 (ABI, that leaf).
// The caller reads the data, has a Reporter fill in a report about Info, and writes it.
func (t *TD) CheckReport(rcx, rdx, r8 uint64) Result {
	r := t.checkReport(rcx, rdx, r8)
	t.stats.result(r)
	return r
}

func (t *TD) checkReport(rcx, rdx, r8 uint64) Result {
	report, data := x86.GPA(rcx), x86.GPA(rdx)
	switch {
	case report%tdx.REPORT_SIZE != 0:
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	case data%tdx.REPORT_DATA_SIZE != 0 || !t.shape(data):
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RDX)
	}
	if r, ok := t.reach(data, 0); !ok {
		return r
	}
	switch {
	case r8 != tdx.REPORT_SUBTYPE:
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_R8)
	case !t.shape(report):
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	}
	r, _ := t.reach(report, Write)
	return r
}

// reach is the module's own access to an operand in L1's memory: what does not succeed
// ends as an access of L1 itself would.
func (t *TD) reach(gpa x86.GPA, a Access) (Result, bool) {
	if f := t.check(gpa, a, tdx.VM_L1); !f.OK() {
		f.Qualification &^= tdx.EPT_HOST_CLEARED
		return Result{Fault: f, GPA: gpa &^ (x86.PageSize - 1)}, false
	}
	return Result{}, true
}
