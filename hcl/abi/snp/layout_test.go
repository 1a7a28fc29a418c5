package snp

import "testing"

// field is a row of a layout table: where it lies and how long it is.
type field struct {
	name     string
	at, size int
}

// check wants the fields in ascending order, without overlap, the gaps exactly
// where the manual has reserved bytes.
func check(t *testing.T, fields []field, reserved map[int]int, end int) {
	t.Helper()
	next := 0
	for _, f := range append(fields, field{"end", end, 0}) {
		if n, ok := reserved[next]; ok {
			next += n
		}
		if f.at != next {
			t.Errorf("%s lies at %#x, want %#x", f.name, f.at, next)
		}
		next = f.at + f.size
	}
}

// TestVMSALayout: APM vol. 2 table B-4.
func TestVMSALayout(t *testing.T) {
	fields := []field{
		{"ES", VMSA_ES, 16},
		{"CS", VMSA_CS, 16},
		{"SS", VMSA_SS, 16},
		{"DS", VMSA_DS, 16},
		{"FS", VMSA_FS, 16},
		{"GS", VMSA_GS, 16},
		{"GDTR", VMSA_GDTR, 16},
		{"LDTR", VMSA_LDTR, 16},
		{"IDTR", VMSA_IDTR, 16},
		{"TR", VMSA_TR, 16},
		{"PL0_SSP", VMSA_PL0_SSP, 8},
		{"PL1_SSP", VMSA_PL1_SSP, 8},
		{"PL2_SSP", VMSA_PL2_SSP, 8},
		{"PL3_SSP", VMSA_PL3_SSP, 8},
		{"U_CET", VMSA_U_CET, 8},
		{"VMPL", VMSA_VMPL, 1},
		{"CPL", VMSA_CPL, 1},
		{"EFER", VMSA_EFER, 8},
		{"XSS", VMSA_XSS, 8},
		{"CR4", VMSA_CR4, 8},
		{"CR3", VMSA_CR3, 8},
		{"CR0", VMSA_CR0, 8},
		{"DR7", VMSA_DR7, 8},
		{"DR6", VMSA_DR6, 8},
		{"RFLAGS", VMSA_RFLAGS, 8},
		{"RIP", VMSA_RIP, 8},
		{"DR0", VMSA_DR0, 8},
		{"DR1", VMSA_DR1, 8},
		{"DR2", VMSA_DR2, 8},
		{"DR3", VMSA_DR3, 8},
		{"DR0_ADDR_MASK", VMSA_DR0_ADDR_MASK, 8},
		{"DR1_ADDR_MASK", VMSA_DR1_ADDR_MASK, 8},
		{"DR2_ADDR_MASK", VMSA_DR2_ADDR_MASK, 8},
		{"DR3_ADDR_MASK", VMSA_DR3_ADDR_MASK, 8},
		{"RSP", VMSA_RSP, 8},
		{"S_CET", VMSA_S_CET, 8},
		{"SSP", VMSA_SSP, 8},
		{"ISST_ADDR", VMSA_ISST_ADDR, 8},
		{"RAX", VMSA_RAX, 8},
		{"STAR", VMSA_STAR, 8},
		{"LSTAR", VMSA_LSTAR, 8},
		{"CSTAR", VMSA_CSTAR, 8},
		{"SFMASK", VMSA_SFMASK, 8},
		{"KERNEL_GS_BASE", VMSA_KERNEL_GS_BASE, 8},
		{"SYSENTER_CS", VMSA_SYSENTER_CS, 8},
		{"SYSENTER_ESP", VMSA_SYSENTER_ESP, 8},
		{"SYSENTER_EIP", VMSA_SYSENTER_EIP, 8},
		{"CR2", VMSA_CR2, 8},
		{"G_PAT", VMSA_G_PAT, 8},
		{"DBGCTL", VMSA_DBGCTL, 8},
		{"BR_FROM", VMSA_BR_FROM, 8},
		{"BR_TO", VMSA_BR_TO, 8},
		{"LAST_EXCP_FROM", VMSA_LAST_EXCP_FROM, 8},
		{"LAST_EXCP_TO", VMSA_LAST_EXCP_TO, 8},
		{"SPEC_CTRL", VMSA_SPEC_CTRL, 8},
		{"PKRU", VMSA_PKRU, 4},
		{"TSC_AUX", VMSA_TSC_AUX, 4},
		{"GUEST_TSC_SCALE", VMSA_GUEST_TSC_SCALE, 8},
		{"GUEST_TSC_OFFSET", VMSA_GUEST_TSC_OFFSET, 8},
		{"REG_PROT_NONCE", VMSA_REG_PROT_NONCE, 8},
		{"RCX", VMSA_RCX, 8},
		{"RDX", VMSA_RDX, 8},
		{"RBX", VMSA_RBX, 8},
		{"SECURE_AVIC_CONTROL", VMSA_SECURE_AVIC_CONTROL, 8},
		{"RBP", VMSA_RBP, 8},
		{"RSI", VMSA_RSI, 8},
		{"RDI", VMSA_RDI, 8},
		{"R8", VMSA_R8, 8},
		{"R9", VMSA_R9, 8},
		{"R10", VMSA_R10, 8},
		{"R11", VMSA_R11, 8},
		{"R12", VMSA_R12, 8},
		{"R13", VMSA_R13, 8},
		{"R14", VMSA_R14, 8},
		{"R15", VMSA_R15, 8},
		{"GUEST_EXITINFO1", VMSA_GUEST_EXITINFO1, 8},
		{"GUEST_EXITINFO2", VMSA_GUEST_EXITINFO2, 8},
		{"GUEST_EXITINTINFO", VMSA_GUEST_EXITINTINFO, 8},
		{"GUEST_NRIP", VMSA_GUEST_NRIP, 8},
		{"SEV_FEATURES", VMSA_SEV_FEATURES, 8},
		{"VINTR_CTRL", VMSA_VINTR_CTRL, 8},
		{"GUEST_EXIT_CODE", VMSA_GUEST_EXIT_CODE, 8},
		{"VIRTUAL_TOM", VMSA_VIRTUAL_TOM, 8},
		{"TLB_ID", VMSA_TLB_ID, 8},
		{"PCPU_ID", VMSA_PCPU_ID, 8},
		{"EVENTINJ", VMSA_EVENTINJ, 8},
		{"XCR0", VMSA_XCR0, 8},
		{"X87_DP", VMSA_X87_DP, 8},
		{"MXCSR", VMSA_MXCSR, 4},
		{"X87_FTW", VMSA_X87_FTW, 2},
		{"X87_FSW", VMSA_X87_FSW, 2},
		{"X87_FCW", VMSA_X87_FCW, 2},
		{"X87_FOP", VMSA_X87_FOP, 2},
		{"X87_DS", VMSA_X87_DS, 2},
		{"X87_CS", VMSA_X87_CS, 2},
		{"X87_RIP", VMSA_X87_RIP, 8},
		{"X87", VMSA_X87, 80},
		{"XMM", VMSA_XMM, 256},
		{"YMM_HI", VMSA_YMM_HI, 256},
		{"GUEST_INTERCEPTS", VMSA_GUEST_INTERCEPTS, 32},
		{"GUEST_MSR_INTERCEPTS", VMSA_GUEST_MSR_INTERCEPTS, 32},
	}
	check(t, fields, map[int]int{
		0x0c8: 2, 0x0cc: 4, 0x0d8: 104, 0x1c0: 24, 0x248: 32, 0x298: 72, 0x380: 16, 0x3f0: 16,
		VMSA_FPU_END: VMSA_GUEST_INTERCEPTS - VMSA_FPU_END, 0x940: VMSA_SIZE - 0x940,
	}, VMSA_SIZE)
}

// TestGHCBLayout: the save area of the GHCB has its fields where the VMSA has them
// (GHCB §2.6), and takes 408h bytes.
func TestGHCBLayout(t *testing.T) {
	for _, f := range []struct {
		name       string
		ghcb, vmsa int
	}{
		{"CPL", GHCB_CPL, VMSA_CPL},
		{"XSS", GHCB_XSS, VMSA_XSS},
		{"DR7", GHCB_DR7, VMSA_DR7},
		{"RIP", GHCB_RIP, VMSA_RIP},
		{"RSP", GHCB_RSP, VMSA_RSP},
		{"RAX", GHCB_RAX, VMSA_RAX},
		{"RCX", GHCB_RCX, VMSA_RCX},
		{"RDX", GHCB_RDX, VMSA_RDX},
		{"RBX", GHCB_RBX, VMSA_RBX},
		{"RBP", GHCB_RBP, VMSA_RBP},
		{"RSI", GHCB_RSI, VMSA_RSI},
		{"RDI", GHCB_RDI, VMSA_RDI},
		{"R8", GHCB_R8, VMSA_R8},
		{"R9", GHCB_R9, VMSA_R9},
		{"R10", GHCB_R10, VMSA_R10},
		{"R11", GHCB_R11, VMSA_R11},
		{"R12", GHCB_R12, VMSA_R12},
		{"R13", GHCB_R13, VMSA_R13},
		{"R14", GHCB_R14, VMSA_R14},
		{"R15", GHCB_R15, VMSA_R15},
		{"XCR0", GHCB_XCR0, VMSA_XCR0},
	} {
		if f.ghcb != f.vmsa {
			t.Errorf("%s lies at %#x and %#x", f.name, f.ghcb, f.vmsa)
		}
	}
	check(t, []field{
		{"SW_EXITCODE", GHCB_SW_EXITCODE, 8},
		{"SW_EXITINFO1", GHCB_SW_EXITINFO1, 8},
		{"SW_EXITINFO2", GHCB_SW_EXITINFO2, 8},
		{"SW_SCRATCH", GHCB_SW_SCRATCH, 8},
		{"XCR0", GHCB_XCR0, 8},
		{"VALID_BITMAP", GHCB_VALID_BITMAP, 16},
		{"X87_STATE_GPA", GHCB_X87_STATE_GPA, 8},
		{"SHARED_BUFFER", GHCB_SHARED_BUFFER, GHCB_SHARED_SIZE},
		{"PROTOCOL_VERSION", GHCB_PROTOCOL_VERSION, 2},
		{"USAGE", GHCB_USAGE, 4},
	}, map[int]int{0: 0x390, 0x3b0: 56, 0x408: 0x3f8, 0xff0: 10}, GHCB_SIZE)
}

// TestReportLayout: SNP firmware ABI §7.3, of version 5.
func TestReportLayout(t *testing.T) {
	check(t, []field{
		{"VERSION", REPORT_VERSION, 4},
		{"GUEST_SVN", REPORT_GUEST_SVN, 4},
		{"POLICY", REPORT_POLICY, 8},
		{"FAMILY_ID", REPORT_FAMILY_ID, 16},
		{"IMAGE_ID", REPORT_IMAGE_ID, 16},
		{"VMPL", REPORT_VMPL, 4},
		{"SIGNATURE_ALGO", REPORT_SIGNATURE_ALGO, 4},
		{"CURRENT_TCB", REPORT_CURRENT_TCB, 8},
		{"PLATFORM_INFO", REPORT_PLATFORM_INFO, 8},
		{"FLAGS", REPORT_FLAGS, 4},
		{"DATA", REPORT_DATA, 64},
		{"MEASUREMENT", REPORT_MEASUREMENT, 48},
		{"HOST_DATA", REPORT_HOST_DATA, 32},
		{"ID_KEY_DIGEST", REPORT_ID_KEY_DIGEST, 48},
		{"AUTHOR_KEY_DIGEST", REPORT_AUTHOR_KEY_DIGEST, 48},
		{"REPORT_ID", REPORT_REPORT_ID, 32},
		{"REPORT_ID_MA", REPORT_REPORT_ID_MA, 32},
		{"REPORTED_TCB", REPORT_REPORTED_TCB, 8},
		{"CPUID_FAM_ID", REPORT_CPUID_FAM_ID, 1},
		{"CPUID_MOD_ID", REPORT_CPUID_MOD_ID, 1},
		{"CPUID_STEP", REPORT_CPUID_STEP, 1},
		{"CHIP_ID", REPORT_CHIP_ID, 64},
		{"COMMITTED_TCB", REPORT_COMMITTED_TCB, 8},
		{"CURRENT_BUILD", REPORT_CURRENT_BUILD, 1},
		{"CURRENT_MINOR", REPORT_CURRENT_MINOR, 1},
		{"CURRENT_MAJOR", REPORT_CURRENT_MAJOR, 1},
		{"COMMITTED_BUILD", REPORT_COMMITTED_BUILD, 1},
		{"COMMITTED_MINOR", REPORT_COMMITTED_MINOR, 1},
		{"COMMITTED_MAJOR", REPORT_COMMITTED_MAJOR, 1},
		{"LAUNCH_TCB", REPORT_LAUNCH_TCB, 8},
		{"LAUNCH_MIT", REPORT_LAUNCH_MIT, 8},
		{"CURRENT_MIT", REPORT_CURRENT_MIT, 8},
		{"SIGNATURE", REPORT_SIGNATURE, SIGNATURE_SIZE},
	}, map[int]int{0x04c: 4, 0x18b: 21, 0x1eb: 1, 0x1ef: 1, 0x208: 152}, REPORT_SIZE)
}

// TestMessageLayouts: SNP firmware ABI §7.2, §7.3 and SNP_GUEST_REQUEST.
func TestMessageLayouts(t *testing.T) {
	check(t, []field{
		{"AUTHTAG", MSG_AUTHTAG, 32},
		{"SEQNO", MSG_SEQNO, 8},
		{"ALGO", MSG_ALGO, 1},
		{"HDR_VERSION", MSG_HDR_VERSION, 1},
		{"HDR_SIZE", MSG_HDR_SIZE, 2},
		{"TYPE", MSG_TYPE, 1},
		{"VERSION", MSG_VERSION, 1},
		{"SIZE", MSG_SIZE, 2},
		{"VMPCK", MSG_VMPCK, 1},
	}, map[int]int{0x28: 8, 0x38: 4, 0x3d: 35}, MSG_PAYLOAD)
	if MSG_AAD+MSG_AAD_SIZE != MSG_PAYLOAD {
		t.Error("the authenticated data do not end where the payload begins")
	}
	check(t, []field{
		{"ROOT_KEY_SELECT", KEY_REQ_ROOT_KEY_SELECT, 4},
		{"GUEST_FIELD_SELECT", KEY_REQ_GUEST_FIELD_SELECT, 8},
		{"VMPL", KEY_REQ_VMPL, 4},
		{"GUEST_SVN", KEY_REQ_GUEST_SVN, 4},
		{"TCB_VERSION", KEY_REQ_TCB_VERSION, 8},
	}, map[int]int{0x4: 4}, KEY_REQ_SIZE)
	check(t, []field{{"STATUS", KEY_RSP_STATUS, 4}, {"KEY", KEY_RSP_KEY, 32}}, map[int]int{0x4: 28}, KEY_RSP_SIZE)
	check(t, []field{
		{"DATA", REPORT_REQ_DATA, 64}, {"VMPL", REPORT_REQ_VMPL, 4}, {"KEY_SEL", REPORT_REQ_KEY_SEL, 4},
	}, map[int]int{0x48: 24}, REPORT_REQ_SIZE)
	check(t, []field{
		{"STATUS", REPORT_RSP_STATUS, 4}, {"REPORT_SIZE", REPORT_RSP_REPORT_SIZE, 4}, {"REPORT", REPORT_RSP_REPORT, REPORT_SIZE},
	}, map[int]int{0x8: 24}, REPORT_RSP_REPORT+REPORT_SIZE)
}

// TestSecretsLayout: SNP firmware ABI, SNP_LAUNCH_UPDATE.
func TestSecretsLayout(t *testing.T) {
	check(t, []field{
		{"VERSION", SECRETS_VERSION, 4},
		{"FLAGS", SECRETS_FLAGS, 4},
		{"FMS", SECRETS_FMS, 4},
		{"GOSVW", SECRETS_GOSVW, 16},
		{"VMPCK", SECRETS_VMPCK0, VMPLS * MSG_KEY_SIZE},
		{"OS_RESERVED", SECRETS_OS_RESERVED, 96},
		{"VMSA_TWEAK_BITMAP", SECRETS_VMSA_TWEAK_BITMAP, 64},
		{"SVSM_BASE", SECRETS_SVSM_BASE, 8},
		{"SVSM_SIZE", SECRETS_SVSM_SIZE, 8},
		{"SVSM_CAA", SECRETS_SVSM_CAA, 8},
		{"SVSM_MAX_VERSION", SECRETS_SVSM_MAX_VERSION, 4},
		{"SVSM_GUEST_VMPL", SECRETS_SVSM_GUEST_VMPL, 1},
		{"TSC_FACTOR", SECRETS_TSC_FACTOR, 4},
	}, map[int]int{0xc: 4, 0x15d: 3}, 0x164)
}
