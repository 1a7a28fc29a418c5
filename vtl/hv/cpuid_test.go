package hv

import (
	"encoding/binary"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/hv"
)

func leaf(t *testing.T, h *Hypervisor, n uint32) hcl.CPUIDEntry {
	t.Helper()
	for _, e := range h.CPUID() {
		if e.Leaf == n {
			return e
		}
	}
	t.Fatalf("leaf %#x is missing", n)
	return hcl.CPUIDEntry{}
}

func TestSignatures(t *testing.T) {
	g := newRig(t, 1)
	v := leaf(t, g.Hypervisor, 0x40000000)
	var name [12]byte
	for i, r := range []uint32{v.EBX, v.ECX, v.EDX} {
		binary.LittleEndian.PutUint32(name[i*4:], r)
	}
	check(t, "vendor", string(name[:]), "Microsoft Hv")
	check(t, "highest leaf", v.EAX, 0x4000000A)
	var face [4]byte
	binary.LittleEndian.PutUint32(face[:], leaf(t, g.Hypervisor, 0x40000001).EAX)
	check(t, "interface", string(face[:]), "Hv#1")
	check(t, "major version", leaf(t, g.Hypervisor, 0x40000002).EBX>>16, 10)
	for n := uint32(0x40000000); n <= v.EAX; n++ {
		leaf(t, g.Hypervisor, n)
	}
	check(t, "nested features", leaf(t, g.Hypervisor, 0x4000000A), hcl.CPUIDEntry{Leaf: 0x4000000A})
}

// TestPrivilegesMatchRegisters reads the first register behind every privilege bit
// (TLFS HV_PARTITION_PRIVILEGE_MASK): it exists exactly if the bit says so.
func TestPrivilegesMatchRegisters(t *testing.T) {
	registers := []struct {
		bit uint
		msr uint32
	}{
		{0, hv.MSR_VP_RUNTIME},
		{1, hv.MSR_TIME_REF_COUNT},
		{2, hv.MSR_SCONTROL},
		{3, hv.MSR_STIMER0_CONFIG},
		{4, hv.MSR_ICR},
		{5, hv.MSR_HYPERCALL},
		{6, hv.MSR_VP_INDEX},
		{7, hv.MSR_RESET},
		{9, hv.MSR_REFERENCE_TSC},
		{10, hv.MSR_GUEST_IDLE},
		{11, hv.MSR_TSC_FREQUENCY},
		{13, 0x40000106},
		{15, hv.MSR_TSC_INVARIANT_CONTROL},
	}
	for name, option := range map[string]func(*Config){
		"everything":   func(*Config) {},
		"no counter":   func(c *Config) { c.TSC = nil },
		"no reset":     func(c *Config) { c.Reset = nil },
		"no APIC rate": func(c *Config) { c.APICHz = 0 },
	} {
		for _, hz := range []uint64{testHz, 0, hv.REFERENCE_HZ} { // known, unknown, too slow
			g := newRig(t, 1, option)
			g.SetTSCHz(hz)
			low := leaf(t, g.Hypervisor, hv.CPUID_FEATURES).EAX
			for _, r := range registers {
				_, ok := g.ReadMSR(0, r.msr)
				if offered := low>>r.bit&1 != 0; ok != offered {
					t.Errorf("%s, %d Hz: bit %d is %v, MSR %#x is %v", name, hz, r.bit, offered, r.msr, ok)
				}
			}
		}
	}
}

func TestRecommendations(t *testing.T) {
	r := leaf(t, newRig(t, 1).Hypervisor, hv.CPUID_ENLIGHTENMENT_INFO).EAX
	check(t, "remote flush", r>>2&1 != 0, false)
	check(t, "auto-EOI is deprecated", r>>9&1 != 0, true)
	check(t, "APIC MSRs", r>>3&1 != 0, false)
	check(t, "relaxed timing", r>>5&1 != 0, false)
}

func TestLateFrequency(t *testing.T) {
	g := newRig(t, 1)
	g.SetTSCHz(0)
	check(t, "reference TSC privilege before", leaf(t, g.Hypervisor, hv.CPUID_FEATURES).EAX>>9&1, 0)
	g.SetTSCHz(testHz)
	check(t, "reference TSC privilege", leaf(t, g.Hypervisor, hv.CPUID_FEATURES).EAX>>9&1, 1)
	check(t, "TSC frequency", g.read(0, hv.MSR_TSC_FREQUENCY), testHz)
	check(t, "APIC frequency", g.read(0, hv.MSR_APIC_FREQUENCY), 1_000_000_000)
}
