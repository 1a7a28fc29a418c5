package hv

import (
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// setOSID takes the guest's identity. Without one there are no hypercalls (TLFS
// "Reporting the Guest OS Identity").
func (h *Hypervisor) setOSID(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.osID = id
	if id == 0 {
		h.hypercall.disable(h.config.Memory)
		h.callable.Store(false)
	}
}

// setHypercallPage writes MSR_HYPERCALL (TLFS "Establishing the Hypercall
// Interface"). A locked register and a page that is not RAM raise #GP.
func (h *Hypervisor) setHypercallPage(value uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hypercall.value&hv.HYPERCALL_LOCKED != 0 {
		return false
	}
	if h.osID == 0 {
		value &^= hv.PAGE_ENABLE
	}
	if value&hv.PAGE_ENABLE == 0 {
		h.hypercall.disable(h.config.Memory)
		h.hypercall.value = value
	} else if !h.hypercall.enable(h.config.Memory, value, hypercallPage()) {
		return false
	}
	h.callable.Store(value&hv.PAGE_ENABLE != 0)
	return true
}

// setTSCPage writes MSR_REFERENCE_TSC. A page that is not RAM is not shown; the
// register keeps the value.
func (h *Hypervisor) setTSCPage(vp int, value uint64) bool {
	content := h.tscPageContent(vp)
	h.mu.Lock()
	defer h.mu.Unlock()
	if value&hv.PAGE_ENABLE == 0 || !h.tscPage.enable(h.config.Memory, value, content) {
		h.tscPage.disable(h.config.Memory)
		h.tscPage.value = value
	}
	return true
}

// setInvariant writes MSR_TSC_INVARIANT_CONTROL. CPUID declares the time stamp
// counter invariant whether the guest accepts it or not.
func (h *Hypervisor) setInvariant(value uint64) bool {
	if value&^uint64(hv.TSC_INVARIANT_EXPOSE) != 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.invariant = value
	return true
}

// maxCrashes bounds the reports between two resets: a guest crashes once, and its
// crash kernel perhaps again.
const maxCrashes = 4

// writeCrash writes a crash parameter, or reports the crash (TLFS "Partition Crash
// Enlightenment").
func (h *Hypervisor) writeCrash(index uint32, value uint64) {
	h.mu.Lock()
	if index != hv.MSR_CRASH_CTL {
		h.crash[index-hv.MSR_CRASH_P0] = value
		h.mu.Unlock()
		return
	}
	report := Crash{P: h.crash}
	told := value&hv.CRASH_NOTIFY != 0 && h.config.Crash != nil
	if told && h.crashes >= maxCrashes {
		h.stats.crashesIgnored.Add(1)
		told = false
	}
	if told {
		h.crashes++
	}
	h.mu.Unlock()
	if !told {
		return
	}
	if n := report.P[4]; value&hv.CRASH_MESSAGE != 0 && n > 0 && n <= hv.CRASH_MESSAGE_SIZE {
		message := make([]byte, n)
		if h.config.Memory.ReadAt(x86.GPA(report.P[3]), message) == nil {
			report.Message = message
		}
	}
	h.config.Crash(report)
}
