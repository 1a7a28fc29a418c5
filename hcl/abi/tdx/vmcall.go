package tdx

// Sub-functions of TDG.VP.VMCALL, in R11 when R10 is 0 (GHCI, "TDG.VP.VMCALL
// Interface"). Those for an instruction have the number of its exit reason.
const (
	VMCALL_STANDARD      = 0 // R10
	VMCALL_CPUID         = EXIT_CPUID
	VMCALL_HLT           = EXIT_HLT
	VMCALL_IO            = EXIT_IO_INSTRUCTION
	VMCALL_RDMSR         = EXIT_MSR_READ
	VMCALL_WRMSR         = EXIT_MSR_WRITE
	VMCALL_MMIO          = EXIT_EPT_VIOLATION
	VMCALL_WBINVD        = EXIT_WBINVD
	VMCALL_PCONFIG       = EXIT_PCONFIG
	VMCALL_GET_INFO      = 0x10000 // GetTdVmCallInfo
	VMCALL_MAP_GPA       = 0x10001
	VMCALL_GET_QUOTE     = 0x10002
	VMCALL_FATAL_ERROR   = 0x10003 // ReportFatalError
	VMCALL_SETUP_NOTIFY  = 0x10004 // SetupEventNotifyInterrupt
	VMCALL_SERVICE       = 0x10005
	VMCALL_MIGTD         = 0x10006
	VMCALL_READ          = 0 // R13 of VMCALL_IO and VMCALL_MMIO
	VMCALL_WRITE         = 1
	VMCALL_GPR_FORBIDDEN = 1<<0 | 1<<1 | 1<<4 // of RCX: RAX, RCX, RSP
)

// Completion of a sub-function, in R10 (GHCI, "TDG.VP.VMCALL Completion-Status Codes").
const (
	VMCALL_SUCCESS         = 0
	VMCALL_RETRY           = 1
	VMCALL_INVALID_OPERAND = 0x8000000000000000
	VMCALL_GPA_INUSE       = 0x8000000000000001
	VMCALL_ALIGN_ERROR     = 0x8000000000000002
	VMCALL_UNSUPPORTED     = 0x8000000000000003 // SUBFUNC_UNSUPPORTED
)

// Byte offsets in the buffer of GetQuote, which is shared memory (GHCI,
// "TDG.VP.VMCALL<GetQuote>"), and its status.
const (
	QUOTE_VERSION    = 0x00 // 1
	QUOTE_STATUS     = 0x08
	QUOTE_IN_LENGTH  = 0x10 // four bytes
	QUOTE_OUT_LENGTH = 0x14 // four bytes
	QUOTE_DATA       = 0x18

	QUOTE_SUCCESS     = 0
	QUOTE_IN_FLIGHT   = 0xFFFFFFFFFFFFFFFF
	QUOTE_ERROR       = 0x8000000000000000
	QUOTE_UNAVAILABLE = 0x8000000000000001
)
