// Package cpuid decides what the CPUID instruction tells the guest. It starts
// from what the substrate can give and removes what Keel does not offer: every
// hypervisor leaf, nested virtualization, performance counters, TEE features.
// Topology and time stamp frequency are computed here, never taken over.
//
// Specifications: AMD64 APM vol. 3 appendix E, Intel SDM vol. 2 (CPUID).
package cpuid

import (
	"math/bits"
	"slices"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// Machine is what the guest was asked to see: one socket with a core for each
// VP, one thread a core.
type Machine struct {
	VPs   int
	TSCHz uint64 // frequency of the time stamp counter; 0 when unknown
	// TimerHz is the input frequency of the local APIC timer. The guest takes
	// the crystal of the frequency leaf for it.
	TimerHz uint64
	// Hypervisor are the leaves of the hypervisor interface. Without them the guest
	// sees no hypervisor.
	Hypervisor []hcl.CPUIDEntry
}

// Build returns the leaves for the VP with the given APIC ID.
func (m Machine) Build(supported []hcl.CPUIDEntry, id x86.APICID) []hcl.CPUIDEntry {
	out := make([]hcl.CPUIDEntry, 0, len(supported)+8)
	for _, e := range supported {
		if hidden(e.Leaf) {
			continue
		}
		m.apply(&e, id)
		out = append(out, e)
	}
	out = append(out, m.topology(id)...)
	out = append(out, m.frequency()...)
	return append(out, m.Hypervisor...)
}

// hidden names the leaves that the guest does not see, or that Build adds.
func hidden(leaf uint32) bool {
	if leaf >= leafHypervisor && leaf <= leafHypervisorEnd {
		return true
	}
	switch leaf {
	case leafPerfMon, leafTopology, leafSGX, leafTrace, leafTSC, leafFrequency, leafTopologyV2,
		leafSVM, leafEncryption, leafPerfMonAMD, leafTopologyAMDv2:
		return true
	}
	return false
}

// apply changes one leaf of the substrate to the policy.
func (m Machine) apply(e *hcl.CPUIDEntry, id x86.APICID) {
	n := uint32(m.VPs)
	switch e.Leaf {
	case leafVendor:
		// The frequency leaves exist on this machine.
		e.EAX = max(e.EAX, leafFrequency)
	case leafFeatures:
		e.EBX = e.EBX&0x0000ffff | n<<16 | uint32(id)<<24
		e.ECX &^= featECXMonitor | featECXVMX | featECXPDCM | featECXHypervisor
		e.ECX |= featECXX2APIC | featECXTSCDeadline
		if len(m.Hypervisor) > 0 {
			e.ECX |= featECXHypervisor
		}
		e.EDX &^= featEDXHTT
		if m.VPs > 1 {
			e.EDX |= featEDXHTT
		}
	case leafCacheIntel:
		if e.EAX&0x1f != 0 { // a cache, not the end of the list
			e.EAX = e.EAX&0x3fff | m.sharing(e.EAX)<<14 | (n-1)<<26
		}
	case leafExtFeatures:
		e.ECX &^= extECXSVM | extECXExtAPIC | extECXIBS | extECXSkinit | extECXLWP | extECXCmpLegacy |
			extECXPerfCore | extECXPerfNB | extECXPerfLLC | extECXMwaitX
		if m.VPs > 1 && e.ECX&extECXTopoExt != 0 {
			e.ECX |= extECXCmpLegacy
		}
	case leafPower:
		e.EAX, e.EBX, e.ECX = 0, 0, 0
		e.EDX = powerEDXInvariantTSC
	case leafAddressSizes:
		e.ECX = (n - 1) | uint32(m.idBits())<<12
	case leafCacheAMD:
		if e.EAX&0x1f != 0 {
			e.EAX = e.EAX&0x3fff | m.sharing(e.EAX)<<14
		}
	case leafTopologyAMD:
		e.EAX = uint32(id)
		e.EBX = uint32(id) & 0xff // core id; one thread a core
		e.ECX = 0
	}
}

// vendorIntel is EBX of leaf 0 on Intel's processors: the start of "GenuineIntel".
const vendorIntel = 0x756e6547

// TellsFrequency reports whether a guest learns the frequency of its time stamp
// counter from leaf 0x15. Only Intel defines that leaf, and Linux reads it on no
// other processor (arch/x86/kernel/tsc.c, native_calibrate_tsc).
func TellsFrequency(supported []hcl.CPUIDEntry) bool {
	return slices.ContainsFunc(supported, func(e hcl.CPUIDEntry) bool {
		return e.Leaf == leafVendor && e.EBX == vendorIntel
	})
}

// sharing returns the field "VPs that share this cache, less one": the last
// level belongs to the socket, the others to a core.
func (m Machine) sharing(eax uint32) uint32 {
	const lastLevel = 3
	if eax>>5&7 >= lastLevel {
		return uint32(m.VPs) - 1
	}
	return 0
}

// idBits is how many bits of the APIC ID number the cores.
func (m Machine) idBits() int { return bits.Len(uint(m.VPs - 1)) }

// topology returns leaf 0xb: threads, then cores (Intel SDM vol. 3 §9.9.1).
func (m Machine) topology(id x86.APICID) []hcl.CPUIDEntry {
	const typeThread, typeCore = 1 << 8, 2 << 8
	level := func(subleaf, shift, count, kind uint32) hcl.CPUIDEntry {
		return hcl.CPUIDEntry{
			Leaf: leafTopology, Subleaf: subleaf, Indexed: true,
			EAX: shift, EBX: count, ECX: kind | subleaf, EDX: uint32(id),
		}
	}
	return []hcl.CPUIDEntry{
		level(0, 0, 1, typeThread),
		level(1, uint32(m.idBits()), uint32(m.VPs), typeCore),
		level(2, 0, 0, 0),
	}
}

// frequency returns leaves 0x15 and 0x16: the time stamp counter as a ratio to
// the crystal, and its frequency in MHz. Both are zero, "not known", when the
// substrate does not know it.
func (m Machine) frequency() []hcl.CPUIDEntry {
	tsc, freq := hcl.CPUIDEntry{Leaf: leafTSC}, hcl.CPUIDEntry{Leaf: leafFrequency}
	khz := m.TSCHz / 1000
	if khz == 0 || khz > 1<<32-1 || m.TimerHz < 1000 {
		return []hcl.CPUIDEntry{tsc, freq}
	}
	// TSC Hz = crystal Hz × EBX / EAX
	tsc.EAX = uint32(m.TimerHz / 1000)
	tsc.EBX = uint32(khz)
	tsc.ECX = uint32(m.TimerHz)
	freq.EAX = uint32(khz / 1000)
	freq.EBX = freq.EAX
	return []hcl.CPUIDEntry{tsc, freq}
}
