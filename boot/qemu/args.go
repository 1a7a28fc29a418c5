package qemu

import (
	"fmt"
	"slices"
	"strconv"

	"keel/boot/handoff"
	"keel/boot/qemu/vsock"
)

// fds names the inherited file descriptors by their number in QEMU.
type fds struct {
	image, config, kernel, initrd int // memory files; initrd is 0 when there is none
	vtl2                          int // VTL2 kernel console
	console, log, control         int // virtio-serial ports
	qmp                           int
	vsock                         int // vhost-user; 0 where there is no device
}

// machine is what arguments composes a command line from.
type machine struct {
	name     string
	accel    Accel  // AccelKVM or AccelTCG
	version  string // of QEMU
	loader   Loader
	hostCPUs int
	vps      int
	size     uint64 // memory of the VM in bytes
	disks    []Disk
	tpm      bool
	fds      fds
	extra    []string
}

// processor returns what QEMU needs to hear about the processor. EPYC-Rome is a
// model whose SVM TCG emulates.
//
// With TCG one thread for each CPU is what makes nesting fast where the host has
// the CPUs. But before 8.1 TCG did not lock a page of code while it translated it
// ("accel/tcg: Always lock pages before translation"): a guest that patches code on
// one VP, as Linux does, may leave another with a breakpoint that is no longer
// there, and both run into it for ever. There several VPs share one thread.
func (m machine) processor() []string {
	if m.accel == AccelKVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	threads := "multi"
	if m.oneThread() {
		threads = "single"
	}
	return []string{"-accel", "tcg,thread=" + threads, "-cpu", "EPYC-Rome,+svm"}
}

func (m machine) oneThread() bool {
	return m.accel != AccelKVM && m.vps > 1 && !atLeast(m.version, 8, 1)
}

// cpus returns how many CPUs the VM has: one for Keel's own work, and as many for
// the guest's VPs as the host can run at once. VPs are threads in VTL2, which may
// share a CPU. Where one thread plays all CPUs each VP gets its own: a guest that
// waits for another VP says so to the emulation (PAUSE), not to VTL2's scheduler.
func (m machine) cpus() int {
	if m.oneThread() {
		return 1 + m.vps
	}
	return 1 + max(1, min(m.vps, m.hostCPUs))
}

// arguments composes QEMU's command line. It is one literal in the order in
// which one would explain it.
func arguments(m machine) []string {
	args := append([]string{
		"-name", "guest=" + m.name,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
	}, m.processor()...)
	size := m.size
	args = append(args, "-smp", strconv.Itoa(m.cpus()), "-m", mib(size))
	// The vsock device reads the VM's memory itself: it is a memory file, which can be
	// shared. Nothing else in it is different: pages come when they are touched, and QEMU
	// asks for large ones.
	args = append(args, vsock.MemoryArgs(size)...)
	if m.loader == LoaderIGVM {
		args = append(args, "-machine", "q35,igvm-cfg=igvm0", "-object", "igvm-cfg,id=igvm0,file="+fdPath(m.fds.image))
	} else {
		// qboot starts a PVH kernel in a fraction of SeaBIOS's time.
		args = append(args, "-machine", "q35", "-bios", "qboot.rom", "-kernel", fdPath(m.fds.image))
	}
	args = append(args,
		"-fw_cfg", "name="+handoff.FileConfig+",file="+fdPath(m.fds.config),
		"-fw_cfg", "name="+handoff.FileKernel+",file="+fdPath(m.fds.kernel),
	)
	if m.fds.initrd != 0 {
		args = append(args, "-fw_cfg", "name="+handoff.FileInitrd+",file="+fdPath(m.fds.initrd))
	}
	args = append(args,
		"-chardev", socket("vtl2", m.fds.vtl2), "-serial", "chardev:vtl2",
		"-device", "virtio-serial-pci,id=ports",
		"-chardev", socket("console", m.fds.console), "-device", port("console", handoff.PortConsole),
		"-chardev", socket("log", m.fds.log), "-device", port("log", handoff.PortLog),
		"-chardev", socket("control", m.fds.control), "-device", port("control", handoff.PortControl),
		"-chardev", socket("qmp", m.fds.qmp), "-mon", "chardev=qmp,mode=control",
	)
	return slices.Concat(args, m.fds.vsockArguments(), m.diskArguments(), m.extra)
}

// vmMemory returns the size of the VM that holds a guest of the given size.
func vmMemory(guest uint64, disks []Disk, vps int, tpm bool) uint64 {
	size := guest + vtl2Reserve(guest) + disksReserve(disks, vps)
	if tpm {
		size += tpmReserve
	}
	return size
}

// fdPath is a file name under which QEMU opens an inherited descriptor anew,
// with an offset of its own.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// socket is a character device over an inherited, connected socket.
func socket(id string, fd int) string { return fmt.Sprintf("socket,id=%s,fd=%d", id, fd) }

// port is a virtio-serial port of the given name over a character device.
func port(chardev, name string) string {
	return fmt.Sprintf("virtserialport,bus=ports.0,chardev=%s,name=%s", chardev, name)
}
