package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// Exit is what a VMSA says after the fault of an access or of an instruction on
// the RMP. It returns false for a fault that is the guest's own business, #GP.
func (f Fault) Exit(gpa x86.GPA) (vmsa.ExitInfo, bool) {
	switch f.Kind {
	case FaultNPF:
		return vmsa.ExitInfo{Code: snp.EXIT_NPF, Info1: f.Code, Info2: uint64(gpa)}, true
	case FaultVC: // reflected (§15.36.9)
		return vmsa.ExitInfo{Code: f.Code, Info2: uint64(gpa)}, true
	default:
		return vmsa.ExitInfo{}, false
	}
}
