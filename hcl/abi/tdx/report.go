package tdx

// Sizes and alignments of the operands of TDG.MR.REPORT and TDG.MR.RTMR.EXTEND, in
// bytes (ABI, "Measurement and Attestation Types").
const (
	MEASUREMENT_SIZE  = 48 // SHA-384
	RTMRS             = 4
	REPORT_SIZE       = 1024 // and its alignment
	REPORT_DATA_SIZE  = 64   // and its alignment
	RTMR_EXTEND_ALIGN = 64
)

// Byte offsets in a TDREPORT_STRUCT (ABI, "TDREPORT_STRUCT"): REPORTMACSTRUCT,
// TEE_TCB_INFO and TDINFO_STRUCT.
const (
	REPORT_TYPE          = 0x000 // type, subtype, version, reserved: a byte each
	REPORT_CPUSVN        = 0x010 // 16 bytes
	REPORT_TCB_INFO_HASH = 0x020 // 48 bytes
	REPORT_INFO_HASH     = 0x050 // 48 bytes
	REPORT_DATA          = 0x080 // 64 bytes
	REPORT_MAC           = 0x0E0 // 32 bytes
	REPORT_TCB_INFO      = 0x100
	REPORT_TDINFO        = 0x200

	REPORT_TYPE_TDX        = 0x81
	REPORT_SUBTYPE         = 0
	REPORT_VERSION_PLAIN   = 0
	REPORT_VERSION_SERVTDS = 1 // SERVTD_HASH is in use
)

// Byte offsets in TEE_TCB_INFO (ABI, "TEE_TCB_INFO").
const (
	TCB_INFO_VALID      = 0x00
	TCB_INFO_SVN        = 0x08 // 16 bytes
	TCB_INFO_MRSEAM     = 0x18 // 48 bytes
	TCB_INFO_MRSIGNER   = 0x48 // 48 bytes
	TCB_INFO_ATTRIBUTES = 0x78
	TCB_INFO_SVN2       = 0x80 // 16 bytes
	TCB_INFO_SIZE       = 239
)

// Byte offsets in TDINFO_STRUCT (ABI, "TDINFO_STRUCT").
const (
	TDINFO_ATTRIBUTES    = 0x000
	TDINFO_XFAM          = 0x008
	TDINFO_MRTD          = 0x010 // 48 bytes, as each of the following
	TDINFO_MRCONFIGID    = 0x040
	TDINFO_MROWNER       = 0x070
	TDINFO_MROWNERCONFIG = 0x0A0
	TDINFO_RTMR          = 0x0D0 // four of them
	TDINFO_SERVTD_HASH   = 0x190
	TDINFO_SIZE          = 0x200
)
