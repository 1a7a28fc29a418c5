package evidence

// Offsets in a TDREPORT_STRUCT: Intel TDX Module ABI Specification (348551), "Measurement
// and Attestation Types"; its first part is the CPU's REPORTMACSTRUCT (Intel TDX CPU
// Architectural Extensions, 343754, table 2-3).
const (
	macType        = 0x000 // REPORTTYPE: type, subtype, version, reserved
	macCPUSVN      = 0x010 // 16 bytes
	macTCBInfoHash = 0x020 // SHA-384 of TEE_TCB_INFO
	macInfoHash    = 0x050 // SHA-384 of TDINFO
	macReportData  = 0x080 // 64 bytes
	macMAC         = 0x0e0 // HMAC-SHA-256 of all before
	macEnd         = 0x100

	tcbInfo        = 0x100 // TEE_TCB_INFO, 239 bytes
	tcbInfoSize    = 239
	tcbValid       = tcbInfo + 0   // u64: bit i tells that the eight bytes at 8*i are filled in
	tcbSVN         = tcbInfo + 8   // 16 bytes
	tcbMRSEAM      = tcbInfo + 24  // 48 bytes
	tcbMRSigner    = tcbInfo + 72  // 48 bytes, zero for a module of the CPU's vendor
	tcbAttributes  = tcbInfo + 120 // 8 bytes
	tcbSVN2        = tcbInfo + 128 // 16 bytes: of the module as it runs now
	tcbValidFields = 0x301ff

	tdInfo       = 0x200 // TDINFO_STRUCT, 512 bytes
	tdInfoSize   = 512
	tdAttributes = tdInfo + 0   // u64
	tdXFAM       = tdInfo + 8   // u64
	tdMRTD       = tdInfo + 16  // 48 bytes each
	tdConfigID   = tdInfo + 64  // MRCONFIGID
	tdOwner      = tdInfo + 112 // MROWNER
	tdOwnerCfg   = tdInfo + 160 // MROWNERCONFIG
	tdRTMR       = tdInfo + 208 // four of them
	tdServTD     = tdInfo + 400 // SERVTD_HASH

	reportTypeTDX = 0x81
)

// TDReportSize is the size in bytes of a TDREPORT_STRUCT.
const TDReportSize = 1024

// AttributeDebug is the bit of a TD's ATTRIBUTES that opens it to the host.
const AttributeDebug = 1 << 0

// Quote of version 4: Intel TDX DCAP Quoting Library API, appendix A.3. The body repeats
// the TDREPORT's fields.
const (
	quoteVersion  = 4
	quoteKeyECDSA = 2 // ECDSA over P-256
	quoteTEE      = 0x81

	quoteHeaderSize = 48
	quoteBodySize   = 584
	quoteUserData   = 28 // within the header; the first 16 of the 20 bytes name the platform

	certifyPCKChain = 5 // certification data: PEM chain of the PCK
	certifyQEReport = 6 // certification data: QE report

	// Enclave report (Intel SDM vol. 3D, "REPORT Structure").
	enclaveSize       = 384
	enclaveCPUSVN     = 0
	enclaveAttributes = 48
	enclaveMRENCLAVE  = 64
	enclaveMRSIGNER   = 128
	enclaveProductID  = 256
	enclaveSVN        = 258
	enclaveReportData = 320

	enclaveInit64 = 0x05 // ATTRIBUTES: initialised, 64 bits
	enclaveXFRM   = 0x03 // x87 and SSE
	productTDQE   = 2
	svnTDQE       = 4
)

// vendor stands in the header's QE vendor id, 16 bytes.
const vendor = "KEEL EMULATED QE"

// authDataSize is the size of the QE authentication data, 32 bytes as in quotes of real machines.
const authDataSize = 32

// What the platform says that it is: FMSPC and PCE id of the PCK's certificate, 6 and 2 bytes.
const (
	fmspc = "\x4b\x45\x45\x4c\x00\x00"
	pceID = "\x00\x00"

	svnPCE = 11
)

// svnCPU is the CPUSVN, equal to the sixteen SGX TCB components; svnTEE is TEE_TCB_SVN.
// Its second byte is the major version of the TDX module.
const (
	svnCPU = "\x02\x02\x02\x02\x02\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	svnTEE = "\x05\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// Arcs under 1.2.840.113741.1.13.1 (Intel SGX PCK Certificate and CRL Profile, section 1.3.5).
const (
	arcPPID     = 1
	arcTCB      = 2 // components 1 to 16, then PCESVN and CPUSVN
	arcPCESVN   = 17
	arcCPUSVN   = 18
	arcPCEID    = 3
	arcFMSPC    = 4
	arcSGXType  = 5
	sgxStandard = 0
)
