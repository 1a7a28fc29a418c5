package boot

import (
	"testing"

	"keel/tests/harness"
)

// TestBackendContract runs the contract suite of package hcl where the KVM backend
// works.
func TestBackendContract(t *testing.T) {
	t.Parallel()
	harness.InVTL2(t, root, "keel/hcl/kvm", nil, []string{"TestContract", "TestRawContract"})
}

// TestSNPContract runs it for the guest of an emulated SNP machine, at a lower VMPL.
func TestSNPContract(t *testing.T) {
	t.Parallel()
	harness.InVTL2(t, root, "keel/hcl/snp", nil, []string{"TestContract", "TestMachine"})
}

// TestTDXContract runs it for the guest of an emulated TD, as L2 VM 1.
func TestTDXContract(t *testing.T) {
	t.Parallel()
	harness.InVTL2(t, root, "keel/hcl/tdx", nil, []string{"TestContract", "TestMachine", "TestLongMode", "TestIntoLongMode", "TestVPs"})
}
