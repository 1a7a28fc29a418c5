package ppi

import "keel/hcl/abi/x86"

// Base is where QEMU has this memory, and where firmware that was made for QEMU is told
// to look for it. Size is its length in bytes.
const (
	Base = x86.GPA(0xfed45000)
	Size = 0x400
)

// Layout of the memory (QEMU, docs/specs/tpm.rst, "ACPI PPI Interface"): packed, numbers
// little-endian. Firmware fills in the table of functions and the results, the methods of
// the ACPI device the requests.
const (
	FuncAt        = 0x000 // one byte for each of FuncCount operations
	FuncCount     = 0x100
	InitializedAt = 0x100 // u8: whether firmware was here
	ResponseAt    = 0x105 // u32: result of the last operation
	RequestAt     = 0x109 // u32: operation to carry out at the next boot
	ParameterAt   = 0x10d // u32: its parameter
	LastAt        = 0x111 // u32: the last operation that was carried out
	OverwriteAt   = 0x15a // u8: bit 0: clear memory at the next reset
)

// Values of the table of functions: what `_DSM` function 8 returns (PPI 1.30 §2.1.8).
const (
	funcNone          = 0 // not implemented
	funcAllowedNoUser = 4 // the OS may ask, and nobody needs to confirm
)

// Operations of the TPM 2.0 family (PPI 1.30 table 2). 14, 21 and 22 are what clearing was
// for the TPM 1.2, along with ways to turn it on, which a TPM 2.0 always is.
const (
	opNone           = 0
	opEnable         = 1
	opClear          = 5
	opEnableClear    = 14
	opEnableClear2   = 21
	opEnableClear3   = 22
	responseFailure  = 0xffff_fff1 // firmware failure (PPI 1.30 table 4)
	overwriteRequest = 1 << 0      // MemoryOverwriteRequestControl (Platform Reset Attack Mitigation 1.10 §4)
)

// TPM 2.0 commands under the platform hierarchy, whose authorization is empty until the
// firmware locks it (Library part 3 §24.6, §24.7).
const (
	ccClearControl = 0x127
	ccClear        = 0x126
	rhPlatform     = 0x4000_000c
	rsPassword     = 0x4000_0009
	tagSessions    = 0x8002
	rspHeaderSize  = 10
)
