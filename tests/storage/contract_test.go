package storage

import (
	"testing"

	"keel/tests/harness"
)

// machines with an NVMe controller behind each IOMMU that QEMU has, as arguments for it.
var confined = map[string][]string{
	"intel": {
		"-device", "intel-iommu,intremap=on",
		"-device", "pcie-root-port,id=port0,chassis=1", "-device", "nvme,bus=port0,drive=disk,serial=contract",
	},
	// Linux remaps interrupts behind AMD's only where the south bridge that holds the
	// IOAPIC stands at the address that QEMU's tables name for it. QEMU has none: a disk
	// of zeros that says it is an ISA bridge does. The controller lies on the root bus
	// because QEMU 7.2 takes a function behind a root port for 00:00.0.
	"amd": {
		"-device", "amd-iommu,intremap=on", "-blockdev", "driver=null-co,node-name=bridge",
		"-device", "virtio-blk-pci,addr=0x14,class=0x0601,drive=bridge", "-device", "nvme,drive=disk,serial=contract",
	},
}

// TestFunctionContract runs the contract suite of package hcl/pci, and what else
// needs a real function, with an NVMe controller behind each IOMMU.
func TestFunctionContract(t *testing.T) {
	for name, devices := range confined {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.InVTL2(t, root, "keel/hcl/vfio",
				append([]string{"-drive", "if=none,id=disk,format=raw,file=" + image(t, 1)}, devices...),
				[]string{"TestHardwareContract", "TestHardwareDMA", "TestHardwareReach", "TestHardwareMemoryOff"})
		})
	}
}
