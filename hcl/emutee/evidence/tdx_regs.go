package evidence

import "keel/hcl/abi/tdx"

// Where the parts of a TDREPORT lie, and which fields of TEE_TCB_INFO are filled in: bit i
// stands for the eight bytes at 8*i.
const (
	tcbInfo        = tdx.REPORT_TCB_INFO
	tdInfo         = tdx.REPORT_TDINFO
	tcbValidFields = 0x301ff
)

// AttributeDebug is the bit of a TD's ATTRIBUTES that opens it to the host.
const AttributeDebug = 1 << 0

// Quote of version 4: Intel TDX DCAP Quoting Library API, appendix A.3. The body repeats
// the TDREPORT's fields.
const (
	quoteVersion  = 4
	quoteKeyECDSA = 2 // ECDSA over P-256

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
