package storage

import (
	"testing"

	"keel/tests/harness"
)

// TestFunctionContract runs the contract suite of package hcl/pci, and what else
// needs a real function, with an NVMe controller behind each IOMMU.
func TestFunctionContract(t *testing.T) {
	for iommu, parameters := range map[string]string{
		"intel-iommu": "",
		// Linux 7.3 remaps interrupts behind AMD's IOMMU only where a south bridge has
		// the address that the tables name for the IOAPIC. QEMU has none there.
		"amd-iommu": "vfio_iommu_type1.allow_unsafe_interrupts=1",
	} {
		t.Run(iommu, func(t *testing.T) {
			harness.InVTL2(t, root, "keel/hcl/vfio", parameters, []string{
				"-device", iommu + ",intremap=on", "-drive", "if=none,id=disk,format=raw,file=" + image(t, 1),
				"-device", "pcie-root-port,id=port0,chassis=1", "-device", "nvme,bus=port0,drive=disk,serial=contract",
			}, []string{"TestHardwareContract", "TestHardwareDMA", "TestHardwareMemoryOff"})
		})
	}
}
