package cpuid

// Leaves, spelled by what they describe (AMD64 APM vol. 3 appendix E, Intel
// SDM vol. 2 CPUID).
const (
	leafVendor        = 0x0
	leafFeatures      = 0x1
	leafCacheIntel    = 0x4
	leafPerfMon       = 0xa
	leafTopology      = 0xb
	leafSGX           = 0x12
	leafTrace         = 0x14
	leafTSC           = 0x15
	leafFrequency     = 0x16
	leafTopologyV2    = 0x1f
	leafHypervisor    = 0x40000000
	leafHypervisorEnd = 0x4fffffff
	leafExtended      = 0x80000000
	leafExtFeatures   = 0x80000001
	leafPower         = 0x80000007
	leafAddressSizes  = 0x80000008
	leafSVM           = 0x8000000a
	leafCacheAMD      = 0x8000001d
	leafTopologyAMD   = 0x8000001e
	leafEncryption    = 0x8000001f
	leafPerfMonAMD    = 0x80000022
	leafTopologyAMDv2 = 0x80000026
)

// Feature bits that the policy changes.
const (
	featEDXHTT = 1 << 28 // leaf 1

	featECXMonitor     = 1 << 3
	featECXVMX         = 1 << 5
	featECXPDCM        = 1 << 15
	featECXX2APIC      = 1 << 21
	featECXTSCDeadline = 1 << 24
	featECXHypervisor  = 1 << 31

	extECXCmpLegacy = 1 << 1 // leaf 0x80000001
	extECXSVM       = 1 << 2
	extECXExtAPIC   = 1 << 3
	extECXIBS       = 1 << 10
	extECXSkinit    = 1 << 12
	extECXLWP       = 1 << 15
	extECXTopoExt   = 1 << 22
	extECXPerfCore  = 1 << 23
	extECXPerfNB    = 1 << 24
	extECXPerfLLC   = 1 << 28
	extECXMwaitX    = 1 << 29

	powerEDXInvariantTSC = 1 << 8 // leaf 0x80000007
)
