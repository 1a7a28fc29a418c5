package tdx

// Bits of a metadata field identifier (ABI, "MD_FIELD_ID").
const (
	FIELD_CODE_MASK          = 0xFFFFFF
	FIELD_RESERVED_MASK      = 0xFF<<24 | 7<<47 | 1<<55 | 1<<62
	FIELD_SIZE_SHIFT         = 32      // two bits: 1, 2, 4 or 8 bytes
	FIELD_LAST_ELEMENT_SHIFT = 34      // four bits
	FIELD_LAST_FIELD_SHIFT   = 38      // nine bits
	FIELD_INC_SIZE           = 1 << 50 // field codes step by two
	FIELD_WRITE_MASK_VALID   = 1 << 51
	FIELD_CONTEXT_SHIFT      = 52 // three bits
	FIELD_CONTEXT_MASK       = 7 << FIELD_CONTEXT_SHIFT
	FIELD_CLASS_SHIFT        = 56 // six bits
	FIELD_CLASS_MASK         = 0x3F
	FIELD_NON_ARCH           = 1 << 63 // may differ between versions of the module
	FIELD_NONE               = 0xFFFFFFFFFFFFFFFF

	FIELD_SIZE_8  = 0
	FIELD_SIZE_16 = 1
	FIELD_SIZE_32 = 2
	FIELD_SIZE_64 = 3
)

// Contexts of metadata fields.
const (
	CONTEXT_SYS = 0
	CONTEXT_TD  = 1
	CONTEXT_VP  = 2
)

// Classes of a TD's fields that an L1 can read, for TDG.VM.RD and .WR (ABI, "TD-Scope
// Metadata").
const (
	CLASS_TD_UUID        = 0
	CLASS_TD_MANAGEMENT  = 16
	CLASS_TD_EXECUTION   = 17
	CLASS_TD_MEASUREMENT = 19
	CLASS_TD_SERVICE     = 25
)

// Fields of a TD: the identifier, with its size.
const (
	TD_NUM_VCPUS      = 0x9010000200000001
	TD_NUM_L2_VMS     = 0x9010000100000005
	TD_ATTRIBUTES     = 0x1110000300000000
	TD_XFAM           = 0x1110000300000001
	TD_MAX_VCPUS      = 0x1110000200000002
	TD_GPAW           = 0x1110000000000003
	TD_TSC_FREQUENCY  = 0x111000010000000C // in units of 25 MHz
	TD_NOTIFY_ENABLES = 0x9110000300000010
	TD_CONFIG_FLAGS   = 0x1110000300000016
	TD_CTLS           = 0x1110000300000017
	TD_MRTD           = 0x1310000300000000 // six elements, as each of the following
	TD_MRCONFIGID     = 0x1310000300000010
	TD_MROWNER        = 0x1310000300000018
	TD_MROWNERCONFIG  = 0x1310000300000020
	TD_RTMR           = 0x1310000300000040 // four of them
	TD_SERVTD_HASH    = 0x9910000300000000
	TD_SERVTD_NUM     = 0x9910000100000006

	TD_CTLS_PENDING_VE_DISABLE  = 1 << 0 // accesses to pending pages go to the host
	TD_CONFIG_FLAGS_GPAW        = 1 << 0
	TD_CONFIG_FLAGS_FLEXIBLE_VE = 1 << 1 // L1 may change PENDING_VE_DISABLE
	TD_CONFIG_FLAGS_NO_RBP_MOD  = 1 << 2
	TD_NOTIFY_ENABLES_ZERO_STEP = 1 << 0
	ATTRIBUTES_DEBUG            = 1 << 0
	ATTRIBUTES_SEPT_VE_DISABLE  = 1 << 28 // the start value of PENDING_VE_DISABLE
	ATTRIBUTES_MIGRATABLE       = 1 << 29
	ATTRIBUTES_PKS              = 1 << 30
	ATTRIBUTES_KL               = 1 << 31
	ATTRIBUTES_PERFMON          = 1 << 63
	XFAM_X87                    = 1 << 0
	XFAM_SSE                    = 1 << 1
	XFAM_AVX                    = 1 << 2
	XFAM_PK                     = 1 << 9
	XFAM_CET_U                  = 1 << 11
	XFAM_CET_S                  = 1 << 12
	XFAM_UINTR                  = 1 << 14
)

// Classes of a VP's fields, for TDG.VP.RD and .WR (ABI, "VCPU-Scope Metadata"). Those of
// the other L2 VMs follow in steps of CLASS_VM_STEP.
const (
	CLASS_VMCS            = 0
	CLASS_VP_MANAGEMENT   = 32
	CLASS_CPUID_CONTROL   = 33
	CLASS_VMCS_1          = 36
	CLASS_MSR_BITMAPS_1   = 37
	CLASS_VM_STEP         = 8
	MSR_BITMAP_WORDS      = 512 // of eight bytes: one page in the layout of SDM vol. 3, "MSR-Bitmap Address"
	MSR_BITMAP_READ_LOW   = 0x000
	MSR_BITMAP_READ_HIGH  = 0x400
	MSR_BITMAP_WRITE_LOW  = 0x800
	MSR_BITMAP_WRITE_HIGH = 0xC00
	MSR_BITMAP_RANGE      = 0x2000 // MSRs in each of the four parts
	MSR_BITMAP_HIGH_BASE  = 0xC0000000
)

// Fields of a VP: the identifier, with its size. An array's element n has the code n
// more.
const (
	VP_VCPU_INDEX    = 0xA020000200000002
	VP_SUPERVISOR_VE = 0xA020000000000007 // CPUID_SUPERVISOR_VE
	VP_USER_VE       = 0xA020000000000008 // CPUID_USER_VE
	VP_L2_CTLS       = 0xA020000300000050 // one for each VM
	VP_TSC_DEADLINE  = 0xA020000300000058 // one for each VM, in ticks of the TD's TSC
	VP_CPUID_CONTROL = 0xA120000000000000 // 128 of them

	VP_VMCS_1        = CLASS_VMCS_1<<FIELD_CLASS_SHIFT | CONTEXT_VP<<FIELD_CONTEXT_SHIFT
	VP_MSR_BITMAPS_1 = 0x2520000300000000

	L2_CTLS_SHARED_EPTP = 1 << 0
	L2_CTLS_TDVMCALL    = 1 << 1 // TDG.VP.VMCALL of L2 goes to the host
	L2_CTLS_EXTENDED_VE = 1 << 2
	L2_CTLS_WRITABLE    = L2_CTLS_SHARED_EPTP | L2_CTLS_TDVMCALL | L2_CTLS_EXTENDED_VE
	TSC_DEADLINE_NONE   = 0xFFFFFFFFFFFFFFFF
)
