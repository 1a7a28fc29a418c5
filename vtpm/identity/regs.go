package identity

import "keel/diag/attest/claims"

// Command codes (TPM 2.0 Part 2, §6.5.2).
const (
	ccEvictControl         = 0x120
	ccNVUndefineSpace      = 0x122
	ccHierarchyChangeAuth  = 0x129
	ccNVDefineSpace        = 0x12a
	ccPCRAllocate          = 0x12b
	ccCreatePrimary        = 0x131
	ccNVWrite              = 0x137
	ccNVWriteLock          = 0x138
	ccDictionaryParameters = 0x13a
	ccStartup              = 0x144
	ccShutdown             = 0x145
	ccNVRead               = 0x14e
	ccFlushContext         = 0x165
	ccNVReadPublic         = 0x169
	ccReadPublic           = 0x173
	ccGetCapability        = 0x17a
	ccPCRExtend            = 0x182
)

// Tags (TPM 2.0 Part 2, §6.9) and the layout of command and response headers (Part 1,
// §18).
const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
	headerSize    = 10 // u16 tag, u32 size, u32 code
)

// Reserved handles (TPM 2.0 Part 2, §7.4).
const (
	rhOwner       = 0x40000001
	rsPassword    = 0x40000009
	rhLockout     = 0x4000000a
	rhEndorsement = 0x4000000b
	rhPlatform    = 0x4000000c
)

// Persistent handles. The SRK's and the EKs' are those of the TCG's TPM 2.0
// Provisioning Guidance 1.0, table 2, as go-tpm-tools has them; the AK's is that of
// Azure's virtual TPM and OpenHCL's.
const (
	HandleSRK    = 0x81000001 // RSA-2048, as Windows wants it; systemd and tpm2-tss take any
	HandleAK     = 0x81000003
	HandleEKRSA  = 0x81010001
	HandleEKECC  = 0x81010002
	handleFailed = 0
)

// NV indices. Those of the EKs are the low range of the EK Credential Profile 2.5,
// §2.2.1.4, whose keys are the default templates: no index for template or nonce.
// The AK's certificate and the report lie where Azure's virtual TPM has them.
const (
	IndexEKRSA  = 0x01c00002
	IndexEKECC  = 0x01c0000a
	IndexAK     = 0x01c101d0
	IndexReport = claims.IndexHCLReport
)

// NV attributes (TPM 2.0 Part 2, §13.4).
const (
	nvPPWrite        = 1 << 0
	nvWriteLocked    = 1 << 11
	nvWriteDefine    = 1 << 13
	nvPPRead         = 1 << 16
	nvOwnerRead      = 1 << 17
	nvAuthRead       = 1 << 18
	nvNoDA           = 1 << 25
	nvWritten        = 1 << 29
	nvPlatformCreate = 1 << 30
	nvState          = nvWritten | nvWriteLocked // changed by use
)

const (
	// attributesCertificate are those of the EK Credential Profile's indices: all may
	// read, the platform writes once, and the owner cannot remove it.
	attributesCertificate = nvPlatformCreate | nvNoDA | nvPPRead | nvOwnerRead | nvAuthRead | nvPPWrite | nvWriteDefine
	// attributesReport let the platform write again. OpenHCL writes with an
	// authorization value of the index; Keel keeps that of the platform instead, so
	// that the guest may read with the empty one.
	attributesReport = nvPlatformCreate | nvNoDA | nvPPRead | nvOwnerRead | nvAuthRead | nvPPWrite
)

// Capabilities and properties (TPM 2.0 Part 2, §6.12 and §6.13).
const (
	capHandles    = 1
	capPCRs       = 5
	capProperties = 6

	ptLevel           = 0x101
	ptRevision        = 0x102
	ptManufacturer    = 0x105
	ptVendorString1   = 0x106 // to 0x109
	ptFirmwareVersion = 0x10b
	ptNVIndexMax      = 0x117
	ptNVBufferMax     = 0x12c
	ptPermanent       = 0x200
	ptMaxAuthFail     = 0x20f
	ptLockoutInterval = 0x210
	ptLockoutRecovery = 0x211
	lastFixed         = ptNVBufferMax
	lastVariable      = ptLockoutRecovery
	permanentOwner    = 1 << 0 // ownerAuthSet
	permanentEndorse  = 1 << 1 // endorsementAuthSet
	permanentLockout  = 1 << 2 // lockoutAuthSet
)

// Algorithms, curve and object attributes of the templates (TPM 2.0 Part 2, §6.3, §6.4
// and §8.3).
const (
	algRSA    = 0x0001
	algAES    = 0x0006
	algSHA256 = 0x000b
	algNull   = 0x0010
	algRSASSA = 0x0014
	algECC    = 0x0023
	algCFB    = 0x0043
	curveP256 = 0x0003

	objFixedTPM            = 1 << 1
	objFixedParent         = 1 << 4
	objSensitiveDataOrigin = 1 << 5
	objUserWithAuth        = 1 << 6
	objAdminWithPolicy     = 1 << 7
	objNoDA                = 1 << 10
	objRestricted          = 1 << 16
	objDecrypt             = 1 << 17
	objSign                = 1 << 18
)

// Dictionary attack protection. Windows 10 1703 and later set 32 failures, one of which
// is forgotten every ten minutes (Microsoft, "TPM fundamentals": anti-hammering), and
// a day before lockoutAuth may be tried again.
const (
	maxTries        = 32
	recoveryTime    = 10 * 60      // seconds
	lockoutRecovery = 24 * 60 * 60 // seconds

	// What libtpms and the reference code begin with. Found, nobody has chosen yet.
	engineMaxTries = 3
	engineRecovery = 1000
)
