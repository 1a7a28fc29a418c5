package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// iommu confines the disks' controllers, on AMD's processors too: behind QEMU's own
// amd-iommu Linux 7.3 remaps no interrupts, because QEMU has no south bridge at the
// address that its tables name for the IOAPIC.
const iommu = "intel-iommu,intremap=on"

// Root ports lie on the functions of these PCI devices of the root bus, from the
// first on. Each port takes one controller, and can lose it again.
const (
	firstPortDevice = 0x10
	portsPerDevice  = 8
)

// sparePorts is how many controllers can be plugged in later.
const sparePorts = 4

// controller is one NVMe controller: an image behind a root port.
type controller struct {
	number int // of the controller and its image, never used twice in a run
	port   int
	file   string
	serial string
	disk   *Disk
}

// controllers numbers the controllers of disks.
func controllers(disks []Disk) []controller {
	var out []controller
	for i := range disks {
		for j, file := range disks[i].Files {
			out = append(out, controller{number: len(out), port: len(out), file: file, serial: disks[i].Serials[j], disk: &disks[i]})
		}
	}
	return out
}

// device returns the properties of the controller as QEMU knows them.
func (c controller) device() map[string]any {
	return map[string]any{
		"driver": "nvme", "id": c.name(), "bus": fmt.Sprintf("port%d", c.port), "serial": c.serial, "drive": c.node(),
		"logical_block_size": c.disk.BlockSize, "physical_block_size": c.disk.BlockSize,
	}
}

func (c controller) name() string { return fmt.Sprintf("nvme%d", c.number) }
func (c controller) node() string { return fmt.Sprintf("image%d", c.number) }

// image describes the image to QEMU. The format is always raw: a format that is
// found by looking would be the guest's choice.
func (c controller) image() map[string]any {
	path, driver := c.file, "file"
	if abs, err := filepath.Abs(c.file); err == nil {
		path = abs
	}
	if s, err := os.Stat(path); err == nil && s.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	return map[string]any{
		"driver": "raw", "node-name": c.node(), "read-only": c.disk.ReadOnly, "discard": "unmap",
		"file": map[string]any{"driver": driver, "filename": path, "read-only": c.disk.ReadOnly, "discard": "unmap"},
	}
}

// diskArguments returns the IOMMU, the root ports and the controllers.
func (m machine) diskArguments() []string {
	if len(m.disks) == 0 {
		return nil
	}
	args := []string{"-device", iommu}
	all := controllers(m.disks)
	for n := range ports(len(all)) {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=port%d,chassis=%d,addr=%#x.%d,multifunction=on",
			n, n+1, firstPortDevice+n/portsPerDevice, n%portsPerDevice))
	}
	for _, c := range all {
		args = append(args, "-blockdev", object(c.image()), "-device", object(c.device()))
	}
	return args
}

// ports returns how many root ports a VM has that starts with n controllers.
func ports(n int) int { return min(n+sparePorts, MaxDisks) }

// object writes properties as QEMU's options take them.
func object(o map[string]any) string {
	b, _ := json.Marshal(o) // of strings, numbers and booleans: cannot fail
	return string(b)
}
