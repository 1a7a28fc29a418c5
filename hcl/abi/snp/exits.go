package snp

// Exit codes of SVM (APM vol. 2 appendix C). Those of ranges follow from their
// first: EXIT_READ_CR0 + n.
const (
	EXIT_READ_CR0  = 0x000
	EXIT_WRITE_CR0 = 0x010
	EXIT_READ_DR0  = 0x020
	EXIT_WRITE_DR0 = 0x030
	EXIT_EXCP_BASE = 0x040
	EXIT_LAST_EXCP = 0x05F

	EXIT_INTR          = 0x060
	EXIT_NMI           = 0x061
	EXIT_SMI           = 0x062
	EXIT_INIT          = 0x063
	EXIT_VINTR         = 0x064
	EXIT_CR0_SEL_WRITE = 0x065
	EXIT_IDTR_READ     = 0x066
	EXIT_GDTR_READ     = 0x067
	EXIT_LDTR_READ     = 0x068
	EXIT_TR_READ       = 0x069
	EXIT_IDTR_WRITE    = 0x06A
	EXIT_GDTR_WRITE    = 0x06B
	EXIT_LDTR_WRITE    = 0x06C
	EXIT_TR_WRITE      = 0x06D
	EXIT_RDTSC         = 0x06E
	EXIT_RDPMC         = 0x06F
	EXIT_PUSHF         = 0x070
	EXIT_POPF          = 0x071
	EXIT_CPUID         = 0x072
	EXIT_RSM           = 0x073
	EXIT_IRET          = 0x074
	EXIT_SWINT         = 0x075
	EXIT_INVD          = 0x076
	EXIT_PAUSE         = 0x077
	EXIT_HLT           = 0x078
	EXIT_INVLPG        = 0x079
	EXIT_INVLPGA       = 0x07A
	EXIT_IOIO          = 0x07B
	EXIT_MSR           = 0x07C
	EXIT_TASK_SWITCH   = 0x07D
	EXIT_FERR_FREEZE   = 0x07E
	EXIT_SHUTDOWN      = 0x07F
	EXIT_VMRUN         = 0x080
	EXIT_VMMCALL       = 0x081
	EXIT_VMLOAD        = 0x082
	EXIT_VMSAVE        = 0x083
	EXIT_STGI          = 0x084
	EXIT_CLGI          = 0x085
	EXIT_SKINIT        = 0x086
	EXIT_RDTSCP        = 0x087
	EXIT_ICEBP         = 0x088
	EXIT_WBINVD        = 0x089
	EXIT_MONITOR       = 0x08A
	EXIT_MWAIT         = 0x08B
	EXIT_MWAIT_COND    = 0x08C
	EXIT_XSETBV        = 0x08D
	EXIT_RDPRU         = 0x08E

	EXIT_EFER_WRITE_TRAP = 0x08F
	EXIT_CR0_WRITE_TRAP  = 0x090
	EXIT_CR4_WRITE_TRAP  = 0x094
	EXIT_CR8_WRITE_TRAP  = 0x098

	EXIT_INVLPGB         = 0x0A0
	EXIT_INVLPGB_ILLEGAL = 0x0A1
	EXIT_INVPCID         = 0x0A2
	EXIT_BUSLOCK         = 0x0A5
	EXIT_IDLE_HLT        = 0x0A6

	EXIT_NPF                 = 0x400
	EXIT_AVIC_INCOMPLETE_IPI = 0x401
	EXIT_AVIC_NOACCEL        = 0x402
	EXIT_VMGEXIT             = 0x403
	EXIT_PAGE_NOT_VALIDATED  = 0x404 // an error code of #VC, never an exit of its own
	EXIT_NOT_RESTARTABLE     = 0x406 // likewise

	EXIT_INVALID       = 1<<64 - 1 // -1
	EXIT_BUSY          = 1<<64 - 2
	EXIT_IDLE_REQUIRED = 1<<64 - 3
	EXIT_INVALID_PMC   = 1<<64 - 4

	EXIT_VC = EXIT_EXCP_BASE + VECTOR_VC // what the host sees of a reflected #VC
)

// EXITINFO1 of EXIT_IOIO (APM vol. 2 §15.10.2, figure "EXITINFO1 for IOIO
// Intercept"). EXITINFO2 is the RIP of the following instruction.
const (
	IOIO_IN         = 1 << 0
	IOIO_STRING     = 1 << 2
	IOIO_REP        = 1 << 3
	IOIO_SIZE_SHIFT = 4 // one bit each for 1, 2 and 4 bytes: the size shifted
	IOIO_SIZE_MASK  = 7 << IOIO_SIZE_SHIFT
	IOIO_ADDR_SHIFT = 7 // one bit each for 16, 32 and 64 bit addresses
	IOIO_ADDR_MASK  = 7 << IOIO_ADDR_SHIFT
	IOIO_SEG_SHIFT  = 10 // three bits: ES, CS, SS, DS, FS, GS
	IOIO_SEG_MASK   = 7 << IOIO_SEG_SHIFT
	IOIO_PORT_SHIFT = 16
	IOIO_RESERVED   = 1<<1 | 7<<13
	IOIO_ADDR64     = 1 << 9
	IOIO_ADDR32     = 1 << 8
	IOIO_ADDR16     = 1 << 7
	IOIO_SEG_DS     = 3 << IOIO_SEG_SHIFT
)

// EXITINFO1 of EXIT_MSR (APM vol. 2 §15.11): the direction. The MSR is in ECX.
const (
	MSR_READ  = 0
	MSR_WRITE = 1
)

// EXITINFO1 of reads and writes of control registers with decode assists (APM
// vol. 2 §15.8.1).
const (
	CR_GPR_MASK = 0xF
	CR_MOV      = 1 << 63 // a MOV; LMSW, CLTS and SMSW leave it clear
)

// EXITINFO1 of EXIT_NPF (APM vol. 2 §15.25.6 and §15.36.10). EXITINFO2 is the
// guest-physical address.
const (
	NPF_P     = 1 << 0
	NPF_W     = 1 << 1
	NPF_US    = 1 << 2
	NPF_RSV   = 1 << 3
	NPF_ID    = 1 << 4  // instruction fetch
	NPF_SS    = 1 << 6  // shadow stack access
	NPF_RMP   = 1 << 31 // the RMP or VMPL check failed
	NPF_FINAL = 1 << 32 // while translating the final address
	NPF_TABLE = 1 << 33 // while walking the guest's page table
	NPF_ENC   = 1 << 34 // the guest's effective C bit was 1
	NPF_SIZEM = 1 << 35 // PVALIDATE or RMPADJUST of a page that the RMP holds in 2 MiB
	NPF_VMPL  = 1 << 36 // the VMPL check failed
	NPF_SSS   = 1 << 37 // the page's SSS permission, where VMPL SSS is enabled

	NPF_NOT_RESTARTABLE = 1 << 63
)
