package tdxmodule

import (
	"sync/atomic"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

type atomicWord = atomic.Uint32

// Access says what a VM does to a page. Without a flag it is a supervisor's read.
type Access uint8

// Flags of an access. The last two say how L1 has set up the VM; VP.Modes returns them.
const (
	Write       Access = 1 << iota // also an update of accessed or dirty bits
	Fetch                          // of an instruction
	User                           // at a user-mode linear address
	ShadowStack                    // by CALL, RET and their like, with CET
	Table                          // walk of the guest's page table
	SharedEPT                      // the VM may use shared memory: L2_CTLS, "ENABLE_SHARED_EPTP"
	ModeBased                      // mode-based execute control
	ShadowPages                    // supervisor shadow-stack control
)

// FaultKind is how the module ends an access or a call.
type FaultKind uint8

// The faults.
const (
	FaultNone FaultKind = iota
	FaultL1             // L2 exits to L1 with an EPT violation
	FaultVE             // #VE in L1, for an EPT violation
	FaultPF             // #PF in L1: Qualification is the error code
	FaultHost           // TD exit to the host with an EPT violation; it is tried again afterwards
	faultKinds
)

// Fault is the outcome of a check; the zero value allows the access.
type Fault struct {
	Kind          FaultKind
	Qualification uint64 // of the EPT violation, as the VMCS has it; see HostQualification
	Extended      uint64 // extended exit qualification: tdx.EEQ_NONE and so on
}

// OK tells whether there is no fault.
func (f Fault) OK() bool { return f.Kind == FaultNone }

// HostQualification is what the host sees of an exit that goes to it (ABI,
// "TDH.VP.ENTER": EPT violations). Of the address it sees the page.
func (f Fault) HostQualification() uint64 { return f.Qualification &^ tdx.EPT_HOST_CLEARED }

// Page-fault error code of an address with too many bits (SDM vol. 3, "Page-Fault
// Exceptions"; Base Architecture, "GPA Bits Above the SHARED Bit").
const (
	pfPresent  = 1 << 0
	pfWrite    = 1 << 1
	pfUser     = 1 << 2
	pfReserved = 1 << 3
	pfFetch    = 1 << 4
	pfShadow   = 1 << 6
)

// Check tells what an access of a VM to an address meets: L1 is VM 0 (Base Architecture,
// "EPT Violation"; TD Partitioning, "L2 EPT Violation"). A VM that does not exist may do
// nothing.
func (t *TD) Check(gpa x86.GPA, a Access, vm int) Fault {
	f := t.check(gpa, a, vm)
	if f.Kind != FaultNone {
		t.stats.fault(f.Kind)
	}
	return f
}

func (t *TD) check(gpa x86.GPA, a Access, vm int) Fault {
	if vm < 0 || vm > t.config.VMs {
		return Fault{Kind: FaultHost, Qualification: qualification(a)}
	}
	if !t.shape(gpa) {
		if vm != tdx.VM_L1 {
			return Fault{Kind: FaultL1, Qualification: qualification(a)}
		}
		return Fault{Kind: FaultPF, Qualification: pageFaultCode(a)}
	}
	if gpa&t.SharedBit() != 0 {
		// What is mapped there is the host's business: this machine assumes that all is.
		if vm == tdx.VM_L1 || a&SharedEPT != 0 {
			return Fault{}
		}
		return Fault{Kind: FaultHost, Qualification: qualification(a)}
	}
	e, _ := t.walk(gpa, tdx.LEVEL_4K)
	if vm == tdx.VM_L1 {
		return t.checkL1(e, a)
	}
	return checkL2(e, a, vm)
}

func (t *TD) checkL1(e entry, a Access) Fault {
	switch {
	case e.accessible():
		return Fault{}
	case !e.acceptable():
		return Fault{Kind: FaultHost, Qualification: qualification(a)}
	case t.ctls.Load()&tdx.TD_CTLS_PENDING_VE_DISABLE != 0:
		return Fault{FaultHost, qualification(a), tdx.EEQ_PENDING_EPT_VIOLATION}
	}
	return Fault{Kind: FaultVE, Qualification: qualification(a)}
}

func checkL2(e entry, a Access, vm int) Fault {
	switch {
	case e.acceptable():
		return Fault{FaultL1, qualification(a), tdx.EEQ_PENDING_EPT_VIOLATION}
	case !e.accessible():
		return Fault{Kind: FaultHost, Qualification: qualification(a)}
	}
	attributes := e.attributes(vm)
	if permits(attributes, a) {
		return Fault{}
	}
	return Fault{Kind: FaultL1, Qualification: qualification(a) | allowed(attributes, a)}
}

// permits compares an access with a page's attributes (SDM vol. 3, "EPT Violations").
// Paging-write access and the verification of guest paging need controls that this
// machine does not offer.
func permits(attributes uint16, a Access) bool {
	if a&Fetch != 0 {
		if a&(User|ModeBased) == User|ModeBased {
			return attributes&tdx.GPA_ATTR_XU != 0
		}
		return attributes&tdx.GPA_ATTR_XS != 0
	}
	need := uint16(tdx.GPA_ATTR_R) // writing without reading is an illegal setting
	if a&Write != 0 {
		need |= tdx.GPA_ATTR_W
	}
	if a&(ShadowStack|ShadowPages|User) == ShadowStack|ShadowPages {
		need |= tdx.GPA_ATTR_SSS
	}
	return attributes&need == need
}

// qualification describes an access as an exit qualification does, for a page that lets
// nothing (SDM vol. 3, table "Exit Qualification for EPT Violations"). The linear address
// is always valid here; what the guest's page table says about it is not known.
func qualification(a Access) uint64 {
	q := uint64(tdx.EPT_LINEAR_VALID)
	switch {
	case a&Fetch != 0:
		q |= tdx.EPT_FETCH
	case a&Write != 0:
		q |= tdx.EPT_WRITE
	default:
		q |= tdx.EPT_READ
	}
	if a&ShadowStack != 0 {
		q |= tdx.EPT_SHADOW_STACK
	}
	if a&Table == 0 {
		q |= tdx.EPT_FINAL
	}
	return q
}

// allowed are bits 3 to 6 of an exit qualification.
func allowed(attributes uint16, a Access) uint64 {
	q := uint64(0)
	if attributes&tdx.GPA_ATTR_R != 0 {
		q |= tdx.EPT_READABLE
	}
	if attributes&tdx.GPA_ATTR_W != 0 {
		q |= tdx.EPT_WRITABLE
	}
	if attributes&tdx.GPA_ATTR_XS != 0 {
		q |= tdx.EPT_EXECUTABLE
	}
	if attributes&tdx.GPA_ATTR_XU != 0 && a&ModeBased != 0 {
		q |= tdx.EPT_USER_EXECUTABLE
	}
	return q
}

func pageFaultCode(a Access) uint64 {
	code := uint64(pfPresent | pfReserved)
	if a&Write != 0 {
		code |= pfWrite
	}
	if a&User != 0 {
		code |= pfUser
	}
	if a&Fetch != 0 {
		code |= pfFetch
	}
	if a&ShadowStack != 0 {
		code |= pfShadow
	}
	return code
}
