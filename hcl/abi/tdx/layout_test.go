package tdx

import "testing"

// span is a row of a layout table: where it lies and how long it is.
type span struct {
	name     string
	at, size int
}

// check wants spans in ascending order, without overlap, the gaps exactly where the
// specification has reserved bytes.
func check(t *testing.T, spans []span, reserved map[int]int, end int) {
	t.Helper()
	next := 0
	for _, s := range append(spans, span{"end", end, 0}) {
		if n, ok := reserved[next]; ok {
			next += n
		}
		if s.at != next {
			t.Errorf("%s lies at %#x, want %#x", s.name, s.at, next)
		}
		next = s.at + s.size
	}
}

// TestEnterState: ABI, "L2_ENTER_GUEST_STATE".
func TestEnterState(t *testing.T) {
	check(t, []span{
		{"RAX", L2_STATE_RAX, 8},
		{"RCX", L2_STATE_RCX, 8},
		{"RDX", L2_STATE_RDX, 8},
		{"RBX", L2_STATE_RBX, 8},
		{"RSP", L2_STATE_RSP, 8},
		{"RBP", L2_STATE_RBP, 8},
		{"RSI", L2_STATE_RSI, 8},
		{"RDI", L2_STATE_RDI, 8},
		{"R8", L2_STATE_R8, 8},
		{"R9", L2_STATE_R9, 8},
		{"R10", L2_STATE_R10, 8},
		{"R11", L2_STATE_R11, 8},
		{"R12", L2_STATE_R12, 8},
		{"R13", L2_STATE_R13, 8},
		{"R14", L2_STATE_R14, 8},
		{"R15", L2_STATE_R15, 8},
		{"RFLAGS", L2_STATE_RFLAGS, 8},
		{"RIP", L2_STATE_RIP, 8},
		{"SSP", L2_STATE_SSP, 8},
		{"interrupt status", L2_STATE_INTERRUPT_STATUS, 2},
	}, nil, L2_STATE_SIZE)
}

// TestReport: ABI, "TDREPORT_STRUCT", "TEE_TCB_INFO", "TDINFO_STRUCT".
func TestReport(t *testing.T) {
	check(t, []span{
		{"REPORTTYPE", REPORT_TYPE, 4},
		{"CPUSVN", REPORT_CPUSVN, 16},
		{"TEE_TCB_INFO_HASH", REPORT_TCB_INFO_HASH, 48},
		{"TEE_INFO_HASH", REPORT_INFO_HASH, 48},
		{"REPORTDATA", REPORT_DATA, REPORT_DATA_SIZE},
		{"MAC", REPORT_MAC, 32},
		{"TEE_TCB_INFO", REPORT_TCB_INFO, TCB_INFO_SIZE},
		{"TDINFO", REPORT_TDINFO, TDINFO_SIZE},
	}, map[int]int{4: 12, 0xC0: 32, REPORT_TCB_INFO + TCB_INFO_SIZE: 17}, REPORT_SIZE)
	check(t, []span{
		{"VALID", TCB_INFO_VALID, 8},
		{"TEE_TCB_SVN", TCB_INFO_SVN, 16},
		{"MRSEAM", TCB_INFO_MRSEAM, 48},
		{"MRSIGNERSEAM", TCB_INFO_MRSIGNER, 48},
		{"ATTRIBUTES", TCB_INFO_ATTRIBUTES, 8},
		{"TEE_TCB_SVN2", TCB_INFO_SVN2, 16},
	}, map[int]int{TCB_INFO_SVN2 + 16: 95}, TCB_INFO_SIZE)
	check(t, []span{
		{"ATTRIBUTES", TDINFO_ATTRIBUTES, 8},
		{"XFAM", TDINFO_XFAM, 8},
		{"MRTD", TDINFO_MRTD, MEASUREMENT_SIZE},
		{"MRCONFIGID", TDINFO_MRCONFIGID, MEASUREMENT_SIZE},
		{"MROWNER", TDINFO_MROWNER, MEASUREMENT_SIZE},
		{"MROWNERCONFIG", TDINFO_MROWNERCONFIG, MEASUREMENT_SIZE},
		{"RTMR", TDINFO_RTMR, RTMRS * MEASUREMENT_SIZE},
		{"SERVTD_HASH", TDINFO_SERVTD_HASH, MEASUREMENT_SIZE},
	}, map[int]int{TDINFO_SERVTD_HASH + MEASUREMENT_SIZE: 64}, TDINFO_SIZE)
}

// TestWords: bit fields that share a word neither overlap nor leave a bit unnamed.
func TestWords(t *testing.T) {
	for _, w := range []struct {
		name  string
		parts []uint64
		all   uint64
	}{
		{"GPA_MAPPING", []uint64{PAGE_LEVEL_MASK, GPA_PAGE_MASK, PAGE_RESERVED_MASK}, ^uint64(0)},
		{"GPA_ATTR of a VM", []uint64{
			GPA_ATTR_R, GPA_ATTR_W, GPA_ATTR_XS, GPA_ATTR_XU, GPA_ATTR_VGP, GPA_ATTR_PWA, GPA_ATTR_SSS, GPA_ATTR_SVE,
			GPA_ATTR_RESERVED, GPA_ATTR_VALID,
		}, 0xFFFF},
		{"VM_FLAGS", []uint64{VM_FLAGS_INVALIDATE_MASK, VM_FLAGS_VM_MASK << VM_FLAGS_VM_SHIFT, VM_FLAGS_RESERVED_MASK}, ^uint64(0)},
		{"GLA list", []uint64{
			GLA_LIST_FIRST_MASK, GLA_LIST_RESERVED_MASK, GPA_PAGE_MASK, GLA_LIST_NUMBER_MASK << GLA_LIST_NUMBER_SHIFT,
		}, ^uint64(0)},
		{"MD_FIELD_ID", []uint64{
			FIELD_CODE_MASK, FIELD_RESERVED_MASK, 3 << FIELD_SIZE_SHIFT, 0xF << FIELD_LAST_ELEMENT_SHIFT,
			0x1FF << FIELD_LAST_FIELD_SHIFT, FIELD_INC_SIZE, FIELD_WRITE_MASK_VALID, FIELD_CONTEXT_MASK,
			FIELD_CLASS_MASK << FIELD_CLASS_SHIFT, FIELD_NON_ARCH,
		}, ^uint64(0)},
		{"RAX of TDCALL", []uint64{TDG_LEAF_MASK, TDG_VERSION_MASK << TDG_VERSION_SHIFT, TDG_RESERVED_RAX_MASK}, ^uint64(0)},
		{"interruption information", []uint64{
			INTERRUPTION_VECTOR_MASK, INTERRUPTION_TYPE_MASK, INTERRUPTION_ERROR, INTERRUPTION_RESERVED, INTERRUPTION_VALID,
		}, 0xFFFFFFFF},
		{"EPT violation", []uint64{
			EPT_READ, EPT_WRITE, EPT_FETCH, EPT_READABLE, EPT_WRITABLE, EPT_EXECUTABLE, EPT_USER_EXECUTABLE, EPT_LINEAR_VALID,
			EPT_FINAL, EPT_LINEAR_USER, EPT_LINEAR_WRITABLE, EPT_LINEAR_NO_EXECUTE, EPT_NMI_UNBLOCKED, EPT_SHADOW_STACK, EPT_SSS_PAGE,
		}, 0x7FFF},
	} {
		seen := uint64(0)
		for _, p := range w.parts {
			if seen&p != 0 {
				t.Errorf("%s: the bits %#x are named twice", w.name, seen&p)
			}
			seen |= p
		}
		if seen != w.all {
			t.Errorf("%s: %#x, want %#x", w.name, seen, w.all)
		}
	}
}

// TestStatuses: the error bit, and the classes of ABI, "Function Completion Status Codes".
func TestStatuses(t *testing.T) {
	for _, s := range []struct {
		name   string
		status uint64
		class  uint64
		err    bool
	}{
		{"SUCCESS", STATUS_SUCCESS, 0, false},
		{"OPERAND_INVALID", STATUS_OPERAND_INVALID, 1, true},
		{"OPERAND_BUSY", STATUS_OPERAND_BUSY, 2, true},
		{"NO_VALID_VE_INFO", STATUS_NO_VALID_VE_INFO, 7, true},
		{"EPT_WALK_FAILED", STATUS_EPT_WALK_FAILED, 0xB, true},
		{"PAGE_ALREADY_ACCEPTED", STATUS_PAGE_ALREADY_ACCEPTED, 0xB, false},
		{"GPA_RANGE_ALREADY_BLOCKED", STATUS_GPA_RANGE_ALREADY_BLOCKED, 0xB, false},
		{"PAGE_SIZE_MISMATCH", STATUS_PAGE_SIZE_MISMATCH, 0xB, true},
		{"PAGE_ATTR_INVALID", STATUS_PAGE_ATTR_INVALID, 0xB, true},
		{"FIELD_ID_INCORRECT", STATUS_FIELD_ID_INCORRECT, 0xC, true},
		{"FIRST_FIELD_ID_IN_CONTEXT", STATUS_FIRST_FIELD_ID_IN_CONTEXT, 0xC, false},
		{"L2_EXIT_HOST_ROUTED_ASYNC", STATUS_L2_EXIT_HOST_ROUTED_ASYNC, 0x11, false},
		{"PENDING_INTERRUPT", STATUS_PENDING_INTERRUPT, 0x11, false},
		{"GLA_NOT_CANONICAL", STATUS_GLA_NOT_CANONICAL, 0x11, true},
	} {
		if s.status&STATUS_DETAILS_MASK != 0 || s.status>>STATUS_CLASS_SHIFT&0xFF != s.class || s.status&STATUS_ERROR != 0 != s.err {
			t.Errorf("%s: %#x", s.name, s.status)
		}
	}
}

// TestFields: identifiers name the class, the context and the size that they should.
func TestFields(t *testing.T) {
	for _, f := range []struct {
		name                 string
		id                   uint64
		class, context, size uint64
	}{
		{"NUM_L2_VMS", TD_NUM_L2_VMS, CLASS_TD_MANAGEMENT, CONTEXT_TD, FIELD_SIZE_16},
		{"ATTRIBUTES", TD_ATTRIBUTES, CLASS_TD_EXECUTION, CONTEXT_TD, FIELD_SIZE_64},
		{"GPAW", TD_GPAW, CLASS_TD_EXECUTION, CONTEXT_TD, FIELD_SIZE_8},
		{"TD_CTLS", TD_CTLS, CLASS_TD_EXECUTION, CONTEXT_TD, FIELD_SIZE_64},
		{"MRTD", TD_MRTD, CLASS_TD_MEASUREMENT, CONTEXT_TD, FIELD_SIZE_64},
		{"RTMR", TD_RTMR, CLASS_TD_MEASUREMENT, CONTEXT_TD, FIELD_SIZE_64},
		{"SERVTD_HASH", TD_SERVTD_HASH, CLASS_TD_SERVICE, CONTEXT_TD, FIELD_SIZE_64},
		{"VCPU_INDEX", VP_VCPU_INDEX, CLASS_VP_MANAGEMENT, CONTEXT_VP, FIELD_SIZE_32},
		{"L2_CTLS", VP_L2_CTLS, CLASS_VP_MANAGEMENT, CONTEXT_VP, FIELD_SIZE_64},
		{"CPUID_CONTROL", VP_CPUID_CONTROL, CLASS_CPUID_CONTROL, CONTEXT_VP, FIELD_SIZE_8},
		{"VMCS of VM 1", VP_VMCS_1, CLASS_VMCS_1, CONTEXT_VP, 0},
		{"MSR bitmaps of VM 1", VP_MSR_BITMAPS_1, CLASS_MSR_BITMAPS_1, CONTEXT_VP, FIELD_SIZE_64},
	} {
		if f.id>>FIELD_CLASS_SHIFT&FIELD_CLASS_MASK != f.class || f.id&FIELD_CONTEXT_MASK>>FIELD_CONTEXT_SHIFT != f.context ||
			f.id>>FIELD_SIZE_SHIFT&3 != f.size || f.id&FIELD_RESERVED_MASK != 0 {
			t.Errorf("%s: %#x", f.name, f.id)
		}
	}
}

// TestControls: bits that L1 may write are not what the module keeps at 1 without choice
// (ABI, "L2 VMCS"), and #VE for EPT violations stays off.
func TestControls(t *testing.T) {
	if L2_SECONDARY_INIT&SECONDARY_EPT_VE != 0 || L2_SECONDARY_WRITABLE&SECONDARY_EPT_VE != 0 {
		t.Error("an L2 can get #VE for an EPT violation")
	}
	const fixed = PROCESSOR_HLT | PROCESSOR_IO | PROCESSOR_MSR_BITMAPS | PROCESSOR_TPR_SHADOW | PROCESSOR_SECONDARY
	if L2_PROCESSOR_INIT&fixed != fixed || L2_PROCESSOR_WRITABLE&fixed != 0 {
		t.Error("HLT, I/O, MSR bitmaps, TPR shadow and secondary controls are on for ever")
	}
	if L2_SECONDARY_INIT&(SECONDARY_EPT|SECONDARY_UNRESTRICTED|SECONDARY_WBINVD) != SECONDARY_EPT|SECONDARY_UNRESTRICTED|SECONDARY_WBINVD {
		t.Error("EPT, unrestricted guest and WBINVD exiting are on for ever")
	}
}
