package tdx

// Encodings of VMCS fields (SDM vol. 3 appendix B). In a metadata field identifier they
// are the field code. Those of segments follow from the first: ES, CS, SS, DS, FS, GS,
// LDTR, TR, in steps of two.
const (
	VMCS_POSTED_NOTIFICATION = 0x0002
	VMCS_GUEST_ES_SELECTOR   = 0x0800
	VMCS_GUEST_CS_SELECTOR   = 0x0802
	VMCS_GUEST_SS_SELECTOR   = 0x0804
	VMCS_GUEST_TR_SELECTOR   = 0x080E
	VMCS_GUEST_INTERRUPT     = 0x0810 // guest interrupt status
	VMCS_VIRTUAL_APIC        = 0x2012 // in a TD a guest-physical address
	VMCS_POSTED_DESCRIPTOR   = 0x2016
	VMCS_EPTP                = 0x201A
	VMCS_EOI_EXIT_0          = 0x201C
	VMCS_XSS_EXITING         = 0x202C
	VMCS_TERTIARY_CONTROLS   = 0x2034
	VMCS_SHARED_EPTP         = 0x203C
	VMCS_HLAT_POINTER        = 0x2040
	VMCS_GUEST_PHYSICAL      = 0x2400
	VMCS_GUEST_DEBUGCTL      = 0x2802
	VMCS_GUEST_PAT           = 0x2804
	VMCS_GUEST_EFER          = 0x2806
	VMCS_GUEST_PERF_GLOBAL   = 0x2808
	VMCS_GUEST_PDPTE_0       = 0x280A
	VMCS_PIN_CONTROLS        = 0x4000
	VMCS_PROCESSOR_CONTROLS  = 0x4002
	VMCS_EXCEPTION_BITMAP    = 0x4004
	VMCS_EXIT_CONTROLS       = 0x400C
	VMCS_ENTRY_CONTROLS      = 0x4012
	VMCS_ENTRY_INTERRUPTION  = 0x4016
	VMCS_ENTRY_ERROR_CODE    = 0x4018
	VMCS_ENTRY_LENGTH        = 0x401A
	VMCS_TPR_THRESHOLD       = 0x401C
	VMCS_SECONDARY_CONTROLS  = 0x401E
	VMCS_PLE_GAP             = 0x4020
	VMCS_PLE_WINDOW          = 0x4022
	VMCS_EXIT_REASON         = 0x4402
	VMCS_EXIT_INTERRUPTION   = 0x4404
	VMCS_EXIT_ERROR_CODE     = 0x4406
	VMCS_IDT_VECTORING       = 0x4408
	VMCS_IDT_ERROR_CODE      = 0x440A
	VMCS_EXIT_LENGTH         = 0x440C
	VMCS_EXIT_INSTRUCTION    = 0x440E
	VMCS_GUEST_ES_LIMIT      = 0x4800
	VMCS_GUEST_CS_LIMIT      = 0x4802
	VMCS_GUEST_GDTR_LIMIT    = 0x4810
	VMCS_GUEST_IDTR_LIMIT    = 0x4812
	VMCS_GUEST_ES_AR         = 0x4814
	VMCS_GUEST_CS_AR         = 0x4816
	VMCS_GUEST_SS_AR         = 0x4818
	VMCS_GUEST_LDTR_AR       = 0x4820
	VMCS_GUEST_TR_AR         = 0x4822
	VMCS_INTERRUPTIBILITY    = 0x4824
	VMCS_ACTIVITY            = 0x4826
	VMCS_SYSENTER_CS         = 0x482A
	VMCS_CR0_MASK            = 0x6000 // guest/host mask
	VMCS_CR4_MASK            = 0x6002
	VMCS_CR0_SHADOW          = 0x6004 // read shadow
	VMCS_CR4_SHADOW          = 0x6006
	VMCS_EXIT_QUALIFICATION  = 0x6400
	VMCS_GUEST_LINEAR        = 0x640A
	VMCS_GUEST_CR0           = 0x6800
	VMCS_GUEST_CR3           = 0x6802
	VMCS_GUEST_CR4           = 0x6804
	VMCS_GUEST_ES_BASE       = 0x6806
	VMCS_GUEST_CS_BASE       = 0x6808
	VMCS_GUEST_GDTR_BASE     = 0x6816
	VMCS_GUEST_IDTR_BASE     = 0x6818
	VMCS_GUEST_DR7           = 0x681A
	VMCS_GUEST_RSP           = 0x681C
	VMCS_GUEST_RIP           = 0x681E
	VMCS_GUEST_RFLAGS        = 0x6820
	VMCS_PENDING_DEBUG       = 0x6822
	VMCS_SYSENTER_ESP        = 0x6824
	VMCS_SYSENTER_EIP        = 0x6826
	VMCS_GUEST_S_CET         = 0x6828
	VMCS_GUEST_SSP           = 0x682A
	VMCS_GUEST_SSP_TABLE     = 0x682C
	VMCS_HIGH                = 1 << 0 // the upper half of a field; TDX knows none
	VMCS_WIDTH_SHIFT         = 13     // two bits
	VMCS_WIDTH_16            = 0
	VMCS_WIDTH_64            = 1
	VMCS_WIDTH_32            = 2
	VMCS_WIDTH_NATURAL       = 3
	VMCS_STEP                = 2 // from one field of a group to the next
	VMCS_SEGMENT_LDTR        = 6 // index in the order of segments
	VMCS_SEGMENT_TR          = 7
	VMCS_SEGMENTS            = 8
)

// Bits of the primary processor-based controls (SDM vol. 3, "Processor-Based
// VM-Execution Controls").
const (
	PROCESSOR_INTERRUPT_WINDOW = 1 << 2
	PROCESSOR_TSC_OFFSETTING   = 1 << 3
	PROCESSOR_HLT              = 1 << 7
	PROCESSOR_INVLPG           = 1 << 9
	PROCESSOR_MWAIT            = 1 << 10
	PROCESSOR_RDPMC            = 1 << 11
	PROCESSOR_RDTSC            = 1 << 12
	PROCESSOR_CR3_LOAD         = 1 << 15
	PROCESSOR_CR3_STORE        = 1 << 16
	PROCESSOR_TERTIARY         = 1 << 17
	PROCESSOR_CR8_LOAD         = 1 << 19
	PROCESSOR_CR8_STORE        = 1 << 20
	PROCESSOR_TPR_SHADOW       = 1 << 21
	PROCESSOR_NMI_WINDOW       = 1 << 22
	PROCESSOR_MOV_DR           = 1 << 23
	PROCESSOR_IO               = 1 << 24 // unconditional I/O exiting
	PROCESSOR_IO_BITMAPS       = 1 << 25
	PROCESSOR_MONITOR_TRAP     = 1 << 27
	PROCESSOR_MSR_BITMAPS      = 1 << 28
	PROCESSOR_MONITOR          = 1 << 29
	PROCESSOR_PAUSE            = 1 << 30
	PROCESSOR_SECONDARY        = 1 << 31
)

// Bits of the secondary controls, and of those of VM entry (SDM vol. 3, likewise, and
// "VM-Entry Controls").
const (
	SECONDARY_EPT                = 1 << 1
	SECONDARY_DESCRIPTOR_TABLE   = 1 << 2
	SECONDARY_RDTSCP             = 1 << 3
	SECONDARY_VPID               = 1 << 5
	SECONDARY_WBINVD             = 1 << 6
	SECONDARY_UNRESTRICTED       = 1 << 7
	SECONDARY_APIC_REGISTERS     = 1 << 8
	SECONDARY_INTERRUPT_DELIVERY = 1 << 9
	SECONDARY_PAUSE_LOOP         = 1 << 10
	SECONDARY_RDRAND             = 1 << 11
	SECONDARY_INVPCID            = 1 << 12
	SECONDARY_VMFUNC             = 1 << 13
	SECONDARY_RDSEED             = 1 << 16
	SECONDARY_EPT_VE             = 1 << 18 // EPT violations as #VE: 0 for an L2
	SECONDARY_XSAVES             = 1 << 20
	SECONDARY_MODE_BASED_EXECUTE = 1 << 22
	SECONDARY_USER_WAIT          = 1 << 26
	SECONDARY_PCONFIG            = 1 << 27
	ENTRY_IA32E                  = 1 << 9
	EPTP_SSS                     = 1 << 7 // supervisor shadow-stack control
)

// Initial controls of an L2 and which of their bits L1 may write (ABI, "L2 VMCS": the
// tables of controls).
const (
	L2_PIN_INIT           = 0x00000029
	L2_PROCESSOR_INIT     = 0x91220088
	L2_PROCESSOR_WRITABLE = 0x48D99A04
	L2_SECONDARY_INIT     = 0x1338B3FA
	L2_SECONDARY_WRITABLE = 0x0C513E0C
	L2_TERTIARY_INIT      = 0x80
	L2_TERTIARY_WRITABLE  = 0xE
	L2_EXIT_INIT          = 0x1F3C8204
	L2_ENTRY_INIT         = 0x003EC004
	L2_ENTRY_WRITABLE     = 0x200
	L2_CR0_INIT           = 0x21
	L2_CR0_WRITABLE       = 0x8005001F
	L2_CR4_INIT           = 0x2040
	L2_CR4_WRITABLE       = 0x3FF1FBF
	L2_EFER_INIT          = 0x901
	L2_EFER_WRITABLE      = 0x501
	L2_DEBUGCTL_READABLE  = 0xFFFFFFFFFFFFDFFF
	L2_DEBUGCTL_WRITABLE  = 0xFFC7
	L2_EPTP_READABLE      = 0xFFF0000000000FFF
	L2_EXCEPTION_WRITABLE = 0xFFFBFFFF // all but #MC
	L2_HLAT_WRITABLE      = 0xFFFFFFFFFF018
	L2_VAPIC_WRITABLE     = 0xFFFFFFFFFFFFF000
)
