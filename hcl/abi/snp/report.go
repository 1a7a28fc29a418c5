package snp

// Byte offsets in an attestation report (SNP firmware ABI §7.3, table
// "ATTESTATION_REPORT Structure"). Versions 2 and later share them; what a later
// version adds lies in bytes that were reserved. The signature covers all bytes
// before it.
const (
	REPORT_VERSION           = 0x000 // four bytes
	REPORT_GUEST_SVN         = 0x004 // four bytes
	REPORT_POLICY            = 0x008
	REPORT_FAMILY_ID         = 0x010 // 16 bytes
	REPORT_IMAGE_ID          = 0x020 // 16 bytes
	REPORT_VMPL              = 0x030 // four bytes
	REPORT_SIGNATURE_ALGO    = 0x034 // four bytes
	REPORT_CURRENT_TCB       = 0x038
	REPORT_PLATFORM_INFO     = 0x040
	REPORT_FLAGS             = 0x048 // four bytes
	REPORT_DATA              = 0x050 // 64 bytes
	REPORT_MEASUREMENT       = 0x090 // 48 bytes
	REPORT_HOST_DATA         = 0x0C0 // 32 bytes
	REPORT_ID_KEY_DIGEST     = 0x0E0 // 48 bytes
	REPORT_AUTHOR_KEY_DIGEST = 0x110 // 48 bytes
	REPORT_REPORT_ID         = 0x140 // 32 bytes
	REPORT_REPORT_ID_MA      = 0x160 // 32 bytes
	REPORT_REPORTED_TCB      = 0x180
	REPORT_CPUID_FAM_ID      = 0x188 // one byte, version 3
	REPORT_CPUID_MOD_ID      = 0x189 // one byte, version 3
	REPORT_CPUID_STEP        = 0x18A // one byte, version 3
	REPORT_CHIP_ID           = 0x1A0 // 64 bytes
	REPORT_COMMITTED_TCB     = 0x1E0
	REPORT_CURRENT_BUILD     = 0x1E8 // one byte, as the next five
	REPORT_CURRENT_MINOR     = 0x1E9
	REPORT_CURRENT_MAJOR     = 0x1EA
	REPORT_COMMITTED_BUILD   = 0x1EC
	REPORT_COMMITTED_MINOR   = 0x1ED
	REPORT_COMMITTED_MAJOR   = 0x1EE
	REPORT_LAUNCH_TCB        = 0x1F0
	REPORT_LAUNCH_MIT        = 0x1F8 // mitigation vectors, version 5
	REPORT_CURRENT_MIT       = 0x200
	REPORT_SIGNATURE         = 0x2A0
	REPORT_SIZE              = 0x4A0

	REPORT_VERSION_2 = 2
	REPORT_VERSION_3 = 3
)

// Fields of a report (SNP firmware ABI §7.3), and of its signature (chapter 10,
// "Digital Signatures"): R and S are little endian.
const (
	REPORT_FLAG_AUTHOR_KEY     = 1 << 0
	REPORT_FLAG_MASK_CHIP_KEY  = 1 << 1
	REPORT_SIGNING_KEY_SHIFT   = 2 // three bits
	REPORT_SIGNING_KEY_VCEK    = 0
	REPORT_SIGNING_KEY_VLEK    = 1
	REPORT_SIGNING_KEY_NONE    = 7
	SIGNATURE_ECDSA_P384       = 1 // with SHA-384
	SIGNATURE_R                = 0x00
	SIGNATURE_S                = 0x48
	SIGNATURE_COMPONENT_SIZE   = 0x48
	SIGNATURE_SIZE             = 0x200
	POLICY_ABI_MINOR_SHIFT     = 0 // eight bits
	POLICY_ABI_MAJOR_SHIFT     = 8 // eight bits
	POLICY_SMT                 = 1 << 16
	POLICY_RESERVED_ONE        = 1 << 17 // must be one
	POLICY_MIGRATE_MA          = 1 << 18
	POLICY_DEBUG               = 1 << 19
	POLICY_SINGLE_SOCKET       = 1 << 20
	POLICY_CXL_ALLOW           = 1 << 21
	POLICY_MEM_AES_256_XTS     = 1 << 22
	POLICY_RAPL_DIS            = 1 << 23
	POLICY_CIPHERTEXT_HIDING   = 1 << 24
	PLATFORM_SMT_EN            = 1 << 0
	PLATFORM_TSME_EN           = 1 << 1
	PLATFORM_ECC_EN            = 1 << 2
	PLATFORM_RAPL_DIS          = 1 << 3
	PLATFORM_CIPHERTEXT_HIDING = 1 << 4
	PLATFORM_ALIAS_CHECK       = 1 << 5
)
