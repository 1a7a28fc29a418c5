package x86emu

// Bits of RFLAGS (Intel SDM vol. 1 §3.4.3).
const (
	flagCF   = 1 << 0
	flagPF   = 1 << 2
	flagAF   = 1 << 4
	flagZF   = 1 << 6
	flagSF   = 1 << 7
	flagTF   = 1 << 8
	flagDF   = 1 << 10
	flagOF   = 1 << 11
	flagIOPL = 12 // shift of two bits
	flagRF   = 1 << 16
	flagVM   = 1 << 17
	flagAC   = 1 << 18

	flagsArithmetic = flagCF | flagPF | flagAF | flagZF | flagSF | flagOF
)

// Bits of CR0, CR4, EFER and XCR0 (Intel SDM vol. 3 §2.2.1, §2.5 and §2.6).
const (
	cr0PE = 1 << 0
	cr0EM = 1 << 2
	cr0TS = 1 << 3
	cr0WP = 1 << 16
	cr0AM = 1 << 18
	cr0PG = 1 << 31

	cr4PSE     = 1 << 4
	cr4PAE     = 1 << 5
	cr4OSFXSR  = 1 << 9
	cr4LA57    = 1 << 12
	cr4OSXSAVE = 1 << 18
	cr4SMEP    = 1 << 20
	cr4SMAP    = 1 << 21
	cr4PKE     = 1 << 22
	cr4CET     = 1 << 23

	eferLMA = 1 << 10
	eferNXE = 1 << 11

	xcr0AVX = 1<<1 | 1<<2 // SSE and AVX state together
)

// Exception vectors (Intel SDM vol. 3 §6.15).
const (
	vectorUD = 6
	vectorNM = 7
	vectorSS = 12
	vectorGP = 13
	vectorPF = 14
	vectorAC = 17
)

// Error code of a page fault (Intel SDM vol. 3 §4.7).
const (
	pfPresent  = 1 << 0
	pfWrite    = 1 << 1
	pfUser     = 1 << 2
	pfReserved = 1 << 3
	pfFetch    = 1 << 4
	pfKey      = 1 << 5
)

// Bits of paging-structure entries (Intel SDM vol. 3 §4.3 to §4.5).
const (
	entryPresent  = 1 << 0
	entryWrite    = 1 << 1
	entryUser     = 1 << 2
	entryAccessed = 1 << 5
	entryDirty    = 1 << 6
	entryLarge    = 1 << 7
	entryNX       = 1 << 63
	entryKey      = 59        // shift of the four key bits
	entryAddress  = 1<<52 - 1 // less the low bits of the level
)

// Bits of the segment type (Intel SDM vol. 3 §3.4.5.1).
const (
	typeCode       = 1 << 3
	typeExpandDown = 1 << 2 // data
	typeReadable   = 1 << 1 // code; writable in data segments
	typeWritable   = 1 << 1
)

// The I/O bitmap in a task state segment (Intel SDM vol. 1 §19.5.2).
const tssBitmapOffset = 0x66

// Numbers of general-purpose registers in instructions (Intel SDM vol. 2 §2.1).
const (
	regRAX = iota
	regRCX
	regRDX
	regRBX
	regRSP
	regRBP
	regRSI
	regRDI
)

// Numbers of segment registers in instructions, which index State.Segments.
const (
	segES = iota
	segCS
	segSS
	segDS
	segFS
	segGS
	segNone
)

// maxLength is the longest instruction (Intel SDM vol. 2 §2.3.11).
const maxLength = 15
