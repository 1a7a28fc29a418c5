package tdxmodule

import (
	"fmt"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// VP is a TD's virtual processor, with the VMCS of each L2. Its methods belong to the
// thread that runs it.
type VP struct {
	td    *TD
	index uint32
	l2    []nested // by VM; that of L1 is unused

	ctls, deadline       [tdx.VMS]uint64
	supervisorVE, userVE uint8
	cpuidControl         [cpuidControls]uint8
	current              int // the VM that runs
	buffers              buffers
	ve                   VEInfo
	veValid              bool
}

// nested is what a VP keeps of one L2 VM.
type nested struct {
	vmcs  []uint64
	msrs  [tdx.MSR_BITMAP_WORDS]uint64
	state x86.GPA // of its L2_ENTER_GUEST_STATE, when it was last entered
	cr2   uint64  // not in the VMCS: the register itself
}

const cpuidControls = 128

// NewVP makes the next VP, if the TD can have one more.
func (t *TD) NewVP() (*VP, error) {
	n := t.vps.Add(1)
	if int(n) > t.config.VPs {
		t.vps.Add(-1)
		return nil, fmt.Errorf("%w: VP %d of at most %d: make the TD with more", ErrConfig, n-1, t.config.VPs)
	}
	v := &VP{td: t, index: uint32(n - 1), l2: make([]nested, t.config.VMs+1)}
	for vm := range tdx.VMS {
		v.deadline[vm] = tdx.TSC_DEADLINE_NONE
	}
	for vm := 1; vm <= t.config.VMs; vm++ {
		v.reset(vm)
	}
	return v, nil
}

// reset puts an L2's VMCS into the state in which TDH.VP.INIT leaves it. All MSRs exit.
func (v *VP) reset(vm int) {
	l := &v.l2[vm]
	l.vmcs = make([]uint64, vmcsFields)
	l.state = null
	for i := range vmcsRows {
		r := &vmcsRows[i]
		for n := range r.number {
			l.vmcs[vmcsFirst[i]+int(n)] = r.init & l2.VMCSMask(r.code)
		}
	}
	for i := range l.msrs {
		l.msrs[i] = all
	}
	v.set(vm, tdx.VMCS_PROCESSOR_CONTROLS, v.td.processorControls().init)
}

// Index is the VP's number.
func (v *VP) Index() uint32 { return v.index }

// Current is the VM that runs: L1 outside of TDG.VP.ENTER.
func (v *VP) Current() int { return v.current }

// get and set reach a field of an L2's VMCS as the processor does.
// Preconditions: the VM and the field exist.
func (v *VP) get(vm int, code uint32) uint64 {
	_, place, _ := findVMCS(code)
	return v.l2[vm].vmcs[place]
}

func (v *VP) set(vm int, code uint32, value uint64) {
	_, place, _ := findVMCS(code)
	v.l2[vm].vmcs[place] = value & l2.VMCSMask(code)
}

// exists tells whether there is such an L2.
func (v *VP) exists(vm int) bool { return vm > tdx.VM_L1 && vm < len(v.l2) }

// Modes are the flags that an access of a VM has because of how L1 set the VM up.
func (v *VP) Modes(vm int) Access {
	a := Access(0)
	if !v.exists(vm) {
		return a
	}
	if v.ctls[vm]&tdx.L2_CTLS_SHARED_EPTP != 0 {
		a |= SharedEPT
	}
	if v.get(vm, tdx.VMCS_SECONDARY_CONTROLS)&tdx.SECONDARY_MODE_BASED_EXECUTE != 0 {
		a |= ModeBased
	}
	if v.get(vm, tdx.VMCS_EPTP)&tdx.EPTP_SSS != 0 {
		a |= ShadowPages
	}
	return a
}

// Check is TD.Check for the VM that runs, with its modes.
func (v *VP) Check(gpa x86.GPA, a Access) Fault {
	return v.td.Check(gpa, a|v.Modes(v.current), v.current)
}

// InterceptsMSR tells whether L1 wants to see an L2's access to a model-specific register
// (SDM vol. 3, "MSR-Bitmap Address"): it does, of registers that the bitmaps do not have.
func (v *VP) InterceptsMSR(vm int, msr uint32, write bool) bool {
	if !v.exists(vm) {
		return true
	}
	at := uint32(tdx.MSR_BITMAP_READ_LOW)
	switch {
	case msr < tdx.MSR_BITMAP_RANGE:
	case msr-tdx.MSR_BITMAP_HIGH_BASE < tdx.MSR_BITMAP_RANGE:
		at, msr = tdx.MSR_BITMAP_READ_HIGH, msr-tdx.MSR_BITMAP_HIGH_BASE
	default:
		return true
	}
	if write {
		at += tdx.MSR_BITMAP_WRITE_LOW
	}
	bit := at*8 + msr
	return v.l2[vm].msrs[bit/64]>>(bit%64)&1 != 0
}

// VPInfo is what TDG.VP.INFO returns.
type VPInfo struct {
	Width      uint64 // RCX: of addresses, in bits
	Attributes uint64 // RDX
	VPs        uint64 // R8: how many there are, and in the upper half how many there can be
	Index      uint64 // R9
	Functions  uint64 // R10
}

// Info is TDG.VP.INFO (ABI, that leaf).
func (v *VP) Info() VPInfo {
	i := VPInfo{
		Width: tdx.GPA_WIDTH_48, Attributes: v.td.config.Attributes, Index: uint64(v.index), Functions: tdx.VP_INFO_R10_SYS_RD,
		VPs: uint64(v.td.vps.Load()) | uint64(v.td.config.VPs)<<tdx.VP_INFO_R8_MAX_SHIFT,
	}
	if v.td.config.Wide {
		i.Width = tdx.GPA_WIDTH_52
	}
	return i
}

// VEInfo is the information of a #VE (ABI, "TDG.VP.VEINFO.GET Leaf").
type VEInfo struct {
	Reason        uint64  // RCX: tdx.EXIT_EPT_VIOLATION and so on
	Qualification uint64  // RDX
	GLA           uint64  // R8
	GPA           x86.GPA // R9
	Instruction   uint64  // R10: length, and in the upper half the instruction information
}

// RaiseVE stores the information of a #VE in L1. It returns false while L1 has not
// fetched that of the last one: the module then injects #DF.
func (v *VP) RaiseVE(i VEInfo) bool {
	if v.veValid {
		return false
	}
	v.ve, v.veValid = i, true
	return true
}

// TakeVE is TDG.VP.VEINFO.GET.
func (v *VP) TakeVE() (VEInfo, uint64) {
	if !v.veValid {
		return VEInfo{}, v.td.stats.status(tdx.STATUS_NO_VALID_VE_INFO)
	}
	v.veValid = false
	return v.ve, tdx.STATUS_SUCCESS
}
