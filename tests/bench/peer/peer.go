// Package peer is what the benchmark and the init of its peer agree on: nested
// QEMU in place of the paravisor.
package peer

import (
	"fmt"
	"strconv"
)

// Files of the peer's VM.
const (
	QEMUPath   = "/usr/bin/qemu-system-x86_64"
	KernelPath = "/tmp/kernel" // of the guest, as the host passed it
	InitrdPath = "/tmp/initrd"
	SWTPMPath  = "/usr/bin/swtpm"
	TPMFolder  = "/tmp/tpm"         // of swtpm's state
	TPMSocket  = TPMFolder + "/ctl" // with which QEMU speaks to it
)

// Config is what the benchmark tells peerinit, as JSON in place of Keel's own
// configuration. Without VPs there is no guest: the program is measured itself, and
// may run on every CPU.
type Config struct {
	Args   []string `json:"args"`            // of QEMU or another program, its name first
	Memory uint64   `json:"memory"`          // of the guest, bytes
	VPs    int      `json:"vps"`             // of the guest
	Disk   string   `json:"disk,omitempty"`  // a device file that must be there before
	SWTPM  bool     `json:"swtpm,omitempty"` // runs beside QEMU
}

// SWTPM is the command that runs the TPM of nested QEMU. It ends with QEMU.
func SWTPM() []string {
	return []string{SWTPMPath, "socket", "--tpm2", "--tpmstate", "dir=" + TPMFolder, "--ctrl", "type=unixio,path=" + TPMSocket, "--terminate"}
}

// Machine is a configuration of nested QEMU.
type Machine struct {
	IRQChip string // "on", "split" or "off": who emulates the interrupt controllers
	VPs     int
	Memory  uint64 // bytes
	Append  string // command line of the guest kernel
	Disk    string // a block device of the VTL2 kernel that the guest sees on virtio-scsi; empty for none
	// Emulated says that the VM's processor is QEMU's emulation. That lets a
	// nested guest's XSETBV pass unseen, after which the VTL2 kernel loses vector
	// registers. Keel withholds XSAVE there by itself; QEMU must be told.
	Emulated bool
	TPM      string // interface of a TPM, "crb" or "tis"; empty for none
}

// Command composes nested QEMU: the machine that is closest to Keel's, without
// what costs time and Keel has not. It starts through qboot, which is many times
// faster than SeaBIOS, has its memory in large pages, and keeps KVM's
// paravirtual clock and whatever else -cpu host gives.
func (m Machine) Command() []string {
	size := strconv.FormatUint(m.Memory>>20, 10) + "M"
	cpu := "host"
	if m.Emulated {
		cpu += ",-xsave"
	}
	if m.IRQChip == "off" {
		// QEMU 7.2 offers these though they need KVM's own APIC: the guest would wait
		// for a timer that nobody emulates, or QEMU abort.
		cpu += ",-tsc-deadline,-x2apic,-kvm-asyncpf,-kvm-asyncpf-int,-kvm-pv-ipi,-kvm-pv-eoi,-kvm-pv-unhalt,-kvm-pv-sched-yield"
	}
	args := []string{
		QEMUPath, "-name", "guest=peer,debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "kvm,kernel-irqchip=" + m.IRQChip, "-cpu", cpu, "-smp", strconv.Itoa(m.VPs),
		"-machine", "q35,memory-backend=ram,hpet=off,smm=off,vmport=off,usb=off,sata=off,smbus=off,graphics=off",
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%s,hugetlb=on,hugetlbsize=2M", size), "-m", size,
		"-bios", "qboot.rom", "-kernel", KernelPath, "-initrd", InitrdPath, "-append", m.Append,
		"-serial", "stdio",
	}
	return append(append(args, m.disk()...), m.tpm()...)
}

// tpm is a TPM of which swtpm is the engine.
func (m Machine) tpm() []string {
	if m.TPM == "" {
		return nil
	}
	return []string{"-chardev", "socket,id=tpm,path=" + TPMSocket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-" + m.TPM + ",tpmdev=tpm0"}
}

// disk is how QEMU's documentation has a disk that is to be fast: past the host's page
// cache, asynchronous, on a thread of its own, with no layer above the device. A queue
// for each VP, and doorbells and interrupts that pass QEMU's main loop by, are what
// QEMU does by itself.
func (m Machine) disk() []string {
	if m.Disk == "" {
		return nil
	}
	return []string{
		"-object", "iothread,id=disk", "-device", "virtio-scsi-pci,id=scsi,iothread=disk,modern-pio-notify=on",
		"-blockdev", "driver=host_device,node-name=disk,filename=" + m.Disk + ",cache.direct=on,aio=native,discard=unmap",
		"-device", "scsi-hd,bus=scsi.0,drive=disk",
	}
}
