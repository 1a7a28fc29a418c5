package hcl

import "keel/hcl/abi/x86"

// KeptMSR is a range of model-specific registers that belong to a VP of an isolated guest
// alone and that its processor keeps: in the save area of the VP, or in itself. Their
// values are the guest's business, and the processor refuses what it cannot hold. No
// other register is the guest's without an exit.
type KeptMSR struct {
	First, Last uint32
	Reason      string
}

// KeptMSRs lists them (AMD64 APM vol. 2 appendix A and table B-4; Intel SDM vol. 4 table
// 2-2). EFER and XSS are not among them: a paravisor judges what is written to those.
var KeptMSRs = []KeptMSR{
	{x86.IA32_SPEC_CTRL, x86.IA32_PRED_CMD, "speculation of this processor"},
	{x86.IA32_FLUSH_CMD, x86.IA32_FLUSH_CMD, "writes back the first-level cache"},
	{x86.IA32_SYSENTER_CS, x86.IA32_SYSENTER_EIP, "entry to the kernel"},
	{x86.IA32_PAT, x86.IA32_PAT, "memory types of the guest's page tables"},
	{x86.IA32_U_CET, x86.IA32_INTERRUPT_SSP_TABLE, "shadow stacks; CPUID says whether there are any"},
	{x86.IA32_STAR, x86.IA32_FMASK, "entry to the kernel"},
	{x86.IA32_FS_BASE, x86.IA32_TSC_AUX, "segment bases, and the processor number that RDTSCP reads"},
	{x86.AMD_VIRT_SPEC_CTRL, x86.AMD_VIRT_SPEC_CTRL, "speculation, as a hypervisor offers it"},
}
