package kernelcfg

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// rule is one promise about a final .config; why is what breaks without it.
type rule struct{ symbol, want, why string }

// always holds for every flavour.
var always = []rule{
	{"MODULES", "n", "all code that runs is measured"},
	{"KEXEC", "n", "all code that runs is measured"},
	{"KEXEC_FILE", "n", "all code that runs is measured"},
	{"KEXEC_CORE", "n", "all code that runs is measured"},
	{"HIBERNATION", "n", "a saved image would bypass measurement"},
	// CONFIG_BPF alone is the classic filter core that sockets and seccomp select.
	{"BPF_SYSCALL", "n", "no programs from user space in the kernel"},
	{"BPF_JIT", "n", "no generated code in the kernel"},
	{"IO_URING", "n", "seccomp cannot see what it submits"},
	{"INET", "n", "VTL2 has no network"},
	{"IPV6", "n", "VTL2 has no network"},
	{"NETDEVICES", "n", "VTL2 has no network"},
	{"SWAP", "n", "guest secrets stay in memory"},
	{"PROC_KCORE", "n", "no window into kernel memory"},
	{"IA32_EMULATION", "n", "no 32-bit system calls"},
	{"MODIFY_LDT_SYSCALL", "n", "not needed by Go"},
	{"COMPAT_BRK", "n", "heap randomization"},
	{"NET_9P", "n", "no host file system"},
	{"MAXSMP", "n", "per-CPU memory"},
	{"STRICT_DEVMEM", "y", "/dev/mem shows no kernel memory"},
	{"STRICT_KERNEL_RWX", "y", "no writable code"},
	{"SECCOMP_FILTER", "y", "workers are confined"},
	{"CPU_MITIGATIONS", "y", "the guest is hostile"},
	{"STACKPROTECTOR_STRONG", "y", "the guest is hostile"},
	{"HARDENED_USERCOPY", "y", "the guest is hostile"},
	{"X86_64", "y", "the only architecture"},
	{"SMP", "y", "VPs run on threads of their own"},
	{"NR_CPUS", "64", "16 VPs and their helpers, small per-CPU arrays"},
	{"HIGH_RES_TIMERS", "y", "guest timers are host timers"},
	{"NO_HZ_IDLE", "y", "guest timers are host timers"},
	{"HZ", "100", "each tick on a VP's CPU takes its guest out"},
	{"PREEMPT_DYNAMIC", "y", "as Debian's cloud kernel"},
	{"TREE_RCU", "y", "as Debian's cloud kernel"},
	{"RCU_EXPERT", "n", "as Debian's cloud kernel"},
	{"HPET_TIMER", "y", "TSC calibration on a noisy host"},
	{"X86_PM_TIMER", "y", "APIC timer calibration on a noisy host"},
	{"PCI_MSI", "y", "virtio and VFIO interrupts"},
	{"PCI_MMCONFIG", "y", "extended configuration space for VFIO"},
	{"SERIAL_8250_CONSOLE", "y", "kernel messages"},
	{"EARLY_PRINTK", "y", "kernel messages before the console"},
	{"HUGETLBFS", "y", "guest memory"},
	{"HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON", "y", "memory budget"},
	{"TRANSPARENT_HUGEPAGE_MADVISE", "y", "guest memory, but not every process"},
	{"MEMFD_CREATE", "y", "guest memory"},
	{"SYSCTL", "y", "huge pages are reserved at run time"},
	{"PROC_PAGE_MONITOR", "y", "pagemap gives physical addresses for DMA"},
	{"DEVMEM", "y", "firmware tables and the handoff"},
	{"X86_IOPL_IOPERM", "y", "fw_cfg access from user space"},
	{"DEVTMPFS", "y", "/dev of pvinit"},
	{"TMPFS", "y", "/run of pvinit"},
	{"BLK_DEV_INITRD", "y", "user space comes from the initramfs"},
	{"RD_ZSTD", "y", "the initramfs is packed with zstd"},
	{"PVH", "y", "start without firmware"},
	{"RELOCATABLE", "y", "the shim chooses the address"},
	{"UNIX", "y", "workers are reached by socket"},
	{"VSOCKETS", "y", "diagnostics channel"},
	{"PANIC_ON_OOPS", "y", "a broken kernel ends the VM"},
	{"PANIC_TIMEOUT", "-1", "a broken kernel ends the VM"},
	{"FUTEX", "y", "Go runtime"},
	{"EPOLL", "y", "Go runtime"},
	{"EVENTFD", "y", "Go runtime, KVM"},
	{"POSIX_TIMERS", "y", "per-thread VP timers"},
	{"PID_NS", "y", "workers are confined"},
	{"USER_NS", "y", "workers are confined"},
	{"NET_NS", "y", "workers are confined"},
}

// diskless holds for every kernel on which the paravisor runs.
var diskless = []rule{
	{"BLOCK", "n", "disks belong to user-space drivers"},
	{"BLK_DEV_NVME", "n", "disks belong to user-space drivers"},
	{"VIRTIO_BLK", "n", "disks belong to user-space drivers"},
}

// kvmRules hold where the guest runs through nested KVM.
var kvmRules = []rule{
	{"KVM", "y", "runs the guest"},
	{"KVM_AMD", "y", "runs the guest"},
	{"KVM_INTEL", "y", "runs the guest"},
	{"KVM_SW_PROTECTED_VM", "y", "the emulated TEE's page permissions"},
	{"KVM_HYPERV", "n", "Hyper-V leaves and MSRs are Keel's own"},
	{"KVM_XEN", "n", "no foreign hypercalls"},
	{"KVM_SMM", "n", "the guest has no SMM"},
	{"VIRTIO_PCI", "y", "channels to the host"},
	{"VIRTIO_CONSOLE", "y", "console, log and control ports"},
	{"VIRTIO_VSOCKETS", "y", "diagnostics channel"},
	{"VFIO_PCI", "y", "assigned devices"},
	{"HOTPLUG_PCI_ACPI", "y", "assigned devices come and go"},
	{"VFIO_IOMMU_TYPE1", "y", "assigned devices"},
	{"IOMMUFD", "y", "assigned devices"},
	{"VFIO_NOIOMMU", "n", "no DMA without an IOMMU"},
	{"AMD_IOMMU", "y", "DMA is confined"},
	{"INTEL_IOMMU_DEFAULT_ON", "y", "DMA is confined"},
	{"IRQ_REMAP", "y", "interrupts of assigned devices are confined"},
	{"JUMP_LABEL", "n", "code is never patched at run time: QEMU's emulation runs stale code on other CPUs"},
}

// quiet holds for what may be shipped: no views into the kernel.
var quiet = []rule{
	{"DEBUG_FS", "n", "no debug interfaces"},
	{"FTRACE", "n", "no tracing"},
	{"KPROBES", "n", "no tracing"},
	{"UPROBES", "n", "no tracing"},
	{"MAGIC_SYSRQ", "n", "the host owns the serial line"},
	{"IKCONFIG", "n", "memory budget"},
	{"KALLSYMS", "n", "memory budget"},
	{"X86_MSR", "n", "no MSR access from user space"},
	{"BINFMT_SCRIPT", "n", "there is no interpreter"},
	{"BINFMT_MISC", "n", "there is no interpreter"},
}

// rules lists what the final .config of each flavour must satisfy.
var rules = map[Flavour][][]rule{
	Release: {always, diskless, kvmRules, quiet},
	Debug: {always, diskless, kvmRules, {
		{"DEBUG_FS", "y", "what the flavour is for"},
		{"FUNCTION_TRACER", "y", "what the flavour is for"},
		{"KALLSYMS", "y", "what the flavour is for"},
		{"IKCONFIG_PROC", "y", "what the flavour is for"},
		{"MAGIC_SYSRQ", "y", "what the flavour is for"},
	}},
	HyperV: {always, diskless, quiet, {
		{"HYPERV_VTL_MODE", "y", "VTL2 beneath Hyper-V"},
		{"MSHV_VTL", "y", "runs the guest"},
		{"HYPERV_VMBUS", "y", "channels to the host"},
		{"HYPERV_VSOCKETS", "y", "diagnostics channel"},
		{"KVM", "n", "the guest runs through mshv_vtl"},
		{"MTRR", "n", "MTRRs belong to VTL0"},
	}},
	// As the release kernel in all that costs time, but for the disk.
	Bench: {always, kvmRules, quiet, {
		{"BLK_DEV_NVME", "y", "what the flavour is for"},
		{"AIO", "y", "what the flavour is for"},
		{"IOMMU_DEFAULT_DMA_LAZY", "y", "the kernel's driver is as fast as it is by default"},
		{"VIRTIO_BLK", "n", "there is one disk"},
		{"SCSI", "n", "there is one disk"},
		{"MQ_IOSCHED_DEADLINE", "n", "requests pass the kernel in the order in which they come"},
		{"BLK_WBT", "n", "nothing throttles the disk"},
	}},
}

// sometimes lists symbols that not every pinned source knows: PROC_SYSCTL became a
// plain SYSCTL in 7.3, and the size of the bounce buffer became a choice.
var sometimes = []string{"PROC_SYSCTL", "SWIOTLB_DEFAULT_SIZE_MB"}

// Check asserts that final, the .config that the kernel is compiled with, keeps the
// flavour's promises and grants every symbol that its fragments ask for. The error
// is ErrConfig and lists every violation.
func Check(f Flavour, final Config) error {
	asked, err := Fragment(f)
	if err != nil {
		return err
	}
	// All violations at once: fixing them one by one costs a run each.
	var bad []error
	for _, table := range rules[f] {
		for _, r := range table {
			if got := final.value(r.symbol); got != r.want {
				bad = append(bad, fmt.Errorf("CONFIG_%s is %s, must be %s: %s", r.symbol, got, r.want, r.why))
			}
		}
	}
	// Kconfig drops a request silently when a dependency is missing.
	for _, symbol := range slices.Sorted(maps.Keys(asked)) {
		if got := final.value(symbol); got != asked[symbol] {
			if _, known := final[symbol]; !known && slices.Contains(sometimes, symbol) {
				continue
			}
			bad = append(bad, fmt.Errorf("CONFIG_%s is %s, the fragments ask for %s", symbol, got, asked[symbol]))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w (%s): %w", ErrConfig, f, errors.Join(bad...))
	}
	return nil
}
