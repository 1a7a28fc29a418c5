package storage

import (
	"testing"

	"keel/tests/harness"
)

// TestFunctionContract runs the contract suite of package hcl/pci, and what else
// needs a real function, with an NVMe controller behind an IOMMU.
func TestFunctionContract(t *testing.T) {
	t.Parallel()
	harness.InVTL2(t, root, "keel/hcl/vfio", []string{
		"-device", "intel-iommu,intremap=on", "-drive", "if=none,id=disk,format=raw,file=" + image(t, 1),
		"-device", "pcie-root-port,id=port0,chassis=1", "-device", "nvme,bus=port0,drive=disk,serial=contract",
	}, []string{"TestHardwareContract", "TestHardwareDMA", "TestHardwareReach", "TestHardwareMemoryOff"})
}
