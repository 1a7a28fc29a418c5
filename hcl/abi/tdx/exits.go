package tdx

// Basic exit reasons of VMX (SDM vol. 3 appendix C), in the low half of the details of
// TDG.VP.ENTER's status.
const (
	EXIT_EXCEPTION_NMI       = 0
	EXIT_EXTERNAL_INTERRUPT  = 1
	EXIT_TRIPLE_FAULT        = 2
	EXIT_INIT                = 3
	EXIT_SIPI                = 4
	EXIT_IO_SMI              = 5
	EXIT_OTHER_SMI           = 6
	EXIT_INTERRUPT_WINDOW    = 7
	EXIT_NMI_WINDOW          = 8
	EXIT_TASK_SWITCH         = 9
	EXIT_CPUID               = 10
	EXIT_GETSEC              = 11
	EXIT_HLT                 = 12
	EXIT_INVD                = 13
	EXIT_INVLPG              = 14
	EXIT_RDPMC               = 15
	EXIT_RDTSC               = 16
	EXIT_RSM                 = 17
	EXIT_VMCALL              = 18
	EXIT_VMCLEAR             = 19
	EXIT_VMLAUNCH            = 20
	EXIT_VMPTRLD             = 21
	EXIT_VMPTRST             = 22
	EXIT_VMREAD              = 23
	EXIT_VMRESUME            = 24
	EXIT_VMWRITE             = 25
	EXIT_VMXOFF              = 26
	EXIT_VMXON               = 27
	EXIT_CR_ACCESS           = 28
	EXIT_MOV_DR              = 29
	EXIT_IO_INSTRUCTION      = 30
	EXIT_MSR_READ            = 31
	EXIT_MSR_WRITE           = 32
	EXIT_INVALID_GUEST_STATE = 33
	EXIT_MSR_LOADING         = 34
	EXIT_MWAIT               = 36
	EXIT_MONITOR_TRAP        = 37
	EXIT_MONITOR             = 39
	EXIT_PAUSE               = 40
	EXIT_ENTRY_MACHINE_CHECK = 41
	EXIT_TPR_BELOW_THRESHOLD = 43
	EXIT_APIC_ACCESS         = 44
	EXIT_VIRTUALIZED_EOI     = 45
	EXIT_GDTR_IDTR           = 46
	EXIT_LDTR_TR             = 47
	EXIT_EPT_VIOLATION       = 48
	EXIT_EPT_MISCONFIG       = 49
	EXIT_INVEPT              = 50
	EXIT_RDTSCP              = 51
	EXIT_PREEMPTION_TIMER    = 52
	EXIT_INVVPID             = 53
	EXIT_WBINVD              = 54
	EXIT_XSETBV              = 55
	EXIT_APIC_WRITE          = 56
	EXIT_RDRAND              = 57
	EXIT_INVPCID             = 58
	EXIT_VMFUNC              = 59
	EXIT_ENCLS               = 60
	EXIT_RDSEED              = 61
	EXIT_PML_FULL            = 62
	EXIT_XSAVES              = 63
	EXIT_XRSTORS             = 64
	EXIT_PCONFIG             = 65
	EXIT_UMWAIT              = 67
	EXIT_TPAUSE              = 68
	EXIT_LOADIWKEY           = 69
	EXIT_ENCLV               = 70
	EXIT_ENQCMD              = 72
	EXIT_ENQCMDS             = 73
	EXIT_BUS_LOCK            = 74
	EXIT_NOTIFY              = 75
	EXIT_SEAMCALL            = 76
	EXIT_TDCALL              = 77
	EXIT_REASONS             = 78 // one more than the last

	EXIT_BASIC_MASK   = 0xFFFF
	EXIT_BUS_LOCKED   = 1 << 26
	EXIT_ENTRY_FAILED = 1 << 31 // VM entry failed: nothing was executed
)

// Exit qualification of I/O instructions (SDM vol. 3, table "Exit Qualification for I/O
// Instructions").
const (
	IO_SIZE_MASK  = 7 // bytes less one: 0, 1 or 3
	IO_IN         = 1 << 3
	IO_STRING     = 1 << 4
	IO_REP        = 1 << 5
	IO_IMMEDIATE  = 1 << 6
	IO_PORT_SHIFT = 16 // sixteen bits
)

// Exit qualification of accesses to control registers (SDM vol. 3, table "Exit
// Qualification for Control-Register Accesses").
const (
	CR_NUMBER_MASK = 0xF
	CR_TYPE_SHIFT  = 4 // two bits
	CR_TYPE_MASK   = 3
	CR_MOV_TO      = 0
	CR_MOV_FROM    = 1
	CR_CLTS        = 2
	CR_LMSW        = 3
	CR_GPR_SHIFT   = 8 // four bits: the number of a register
	CR_GPR_MASK    = 0xF
	CR_LMSW_SHIFT  = 16 // sixteen bits: the operand
)

// Exit qualification of EPT violations (SDM vol. 3, table "Exit Qualification for EPT
// Violations"). Bits 3 to 6 are what the page's attributes allow.
const (
	EPT_READ              = 1 << 0
	EPT_WRITE             = 1 << 1
	EPT_FETCH             = 1 << 2
	EPT_READABLE          = 1 << 3
	EPT_WRITABLE          = 1 << 4
	EPT_EXECUTABLE        = 1 << 5 // at supervisor addresses, with mode-based execute control
	EPT_USER_EXECUTABLE   = 1 << 6 // with mode-based execute control
	EPT_LINEAR_VALID      = 1 << 7
	EPT_FINAL             = 1 << 8 // of the final address, not while walking the guest's page table
	EPT_LINEAR_USER       = 1 << 9
	EPT_LINEAR_WRITABLE   = 1 << 10
	EPT_LINEAR_NO_EXECUTE = 1 << 11
	EPT_NMI_UNBLOCKED     = 1 << 12
	EPT_SHADOW_STACK      = 1 << 13
	EPT_SSS_PAGE          = 1 << 14

	// EPT_HOST_CLEARED are the bits that the host never sees (ABI, "TDH.VP.ENTER": exits
	// due to EPT violations).
	EPT_HOST_CLEARED = 0x3F << 7
)

// Interruption information, of exits and of entries (SDM vol. 3, tables "Format of the
// VM-Exit Interruption-Information Field", "... VM-Entry ...").
const (
	INTERRUPTION_VECTOR_MASK = 0xFF
	INTERRUPTION_TYPE_SHIFT  = 8 // three bits
	INTERRUPTION_TYPE_MASK   = 7 << INTERRUPTION_TYPE_SHIFT
	INTERRUPTION_ERROR       = 1 << 11
	INTERRUPTION_RESERVED    = 0x7FFFF << 12
	INTERRUPTION_VALID       = 1 << 31

	INTERRUPTION_EXTERNAL            = 0
	INTERRUPTION_NMI                 = 2
	INTERRUPTION_EXCEPTION           = 3
	INTERRUPTION_SOFTWARE            = 4
	INTERRUPTION_PRIVILEGED_SOFTWARE = 5
	INTERRUPTION_SOFTWARE_EXCEPTION  = 6
	INTERRUPTION_OTHER               = 7

	VECTOR_NMI = 2
	VECTOR_MC  = 18
	VECTOR_VE  = 20 // #VE
)

// Interruptibility and activity of a guest (SDM vol. 3, "Guest Non-Register State").
const (
	INTERRUPTIBILITY_STI    = 1 << 0
	INTERRUPTIBILITY_MOV_SS = 1 << 1
	INTERRUPTIBILITY_SMI    = 1 << 2
	INTERRUPTIBILITY_NMI    = 1 << 3
	ACTIVITY_ACTIVE         = 0
	ACTIVITY_HLT            = 1
)
