package hv

import "keel/hcl/abi/hv"

// ReadMSR answers RDMSR of a register from MSR_FIRST to MSR_LAST on a VP; false
// raises #GP, as for a register that does not exist or that CPUID did not offer.
// It is called on the VP's thread.
func (h *Hypervisor) ReadMSR(vp int, index uint32) (value uint64, ok bool) {
	if v := h.vp(vp); v != nil {
		value, ok = h.readMSR(v, index)
	}
	if !ok {
		h.stats.msrsRefused.Add(1)
	}
	return value, ok
}

// WriteMSR answers WRMSR likewise. Reserved bits that must be preserved are kept as
// written; those that must be zero, and values that the TLFS forbids, raise #GP.
func (h *Hypervisor) WriteMSR(vp int, index uint32, value uint64) (ok bool) {
	if v := h.vp(vp); v != nil {
		ok = h.writeMSR(v, index, value)
	}
	if !ok {
		h.stats.msrsRefused.Add(1)
	}
	return ok
}

func (h *Hypervisor) readMSR(v *vp, index uint32) (uint64, bool) {
	switch {
	case index == hv.MSR_VP_INDEX:
		return uint64(v.index), true
	case index == hv.MSR_TIME_REF_COUNT:
		return h.now(v.index), true
	case index == hv.MSR_TSC_FREQUENCY && h.frequencies():
		return h.reference.hz.Load(), true
	case index == hv.MSR_APIC_FREQUENCY && h.frequencies():
		return h.config.APICHz, true
	case index == hv.MSR_RESET && h.config.Reset != nil:
		return 0, true
	case index == hv.MSR_ICR && h.config.APIC != nil:
		return h.config.APIC(v.index).ICR(), true
	case index == hv.MSR_TPR && h.config.APIC != nil:
		return uint64(h.config.APIC(v.index).TPR()), true
	case index >= hv.MSR_STIMER0_CONFIG && index <= hv.MSR_STIMER3_COUNT:
		return h.readTimer(v, index-hv.MSR_STIMER0_CONFIG)
	case index >= hv.MSR_SCONTROL && index <= hv.MSR_SINT15, index == hv.MSR_VP_ASSIST_PAGE:
		return v.readSynIC(index)
	}
	return h.readShared(index)
}

func (h *Hypervisor) writeMSR(v *vp, index uint32, value uint64) bool {
	switch {
	case index == hv.MSR_GUEST_OS_ID:
		h.setOSID(value)
		return true
	case index == hv.MSR_HYPERCALL:
		return h.setHypercallPage(value)
	case index == hv.MSR_REFERENCE_TSC && h.reference.usable():
		return h.setTSCPage(v.index, value)
	case index == hv.MSR_TSC_INVARIANT_CONTROL && h.reference.usable():
		return h.setInvariant(value)
	case index == hv.MSR_RESET && h.config.Reset != nil:
		if value&hv.RESET_SYSTEM != 0 {
			h.config.Reset()
		}
		return true
	case index >= hv.MSR_EOI && index <= hv.MSR_TPR && h.config.APIC != nil:
		return writeAPIC(h.config.APIC(v.index), index, value)
	case index >= hv.MSR_CRASH_P0 && index <= hv.MSR_CRASH_CTL:
		h.writeCrash(index, value)
		return true
	case index >= hv.MSR_STIMER0_CONFIG && index <= hv.MSR_STIMER3_COUNT:
		return h.writeTimer(v, index-hv.MSR_STIMER0_CONFIG, value)
	case index >= hv.MSR_SCONTROL && index <= hv.MSR_SINT15, index == hv.MSR_VP_ASSIST_PAGE:
		return h.writeSynIC(v, index, value)
	}
	return false
}

// writeAPIC writes an interrupt control register (TLFS "Local APIC MSR Accesses"). Of
// what is written to MSR_EOI nothing counts.
func writeAPIC(a LocalAPIC, index uint32, value uint64) bool {
	switch {
	case index == hv.MSR_EOI:
		a.EndOfInterrupt()
	case index == hv.MSR_ICR:
		a.WriteICR(value)
	case value <= 0xFF:
		a.WriteTPR(uint8(value))
	default:
		return false
	}
	return true
}

// AssistWord returns the first word of a VP's assist page, whose bit
// APIC_NO_EOI_REQUIRED spares the guest an end of interrupt (TLFS "EOI Assist"); nil
// while the guest has no such page. It is called on the VP's thread; the guest may write
// to the word at any time.
func (h *Hypervisor) AssistWord(vp int) *uint32 {
	if v := h.vp(vp); v != nil && v.assistPage != nil {
		return &v.assistPage.words[0]
	}
	return nil
}

// readShared reads a register of the partition.
func (h *Hypervisor) readShared(index uint32) (uint64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case index == hv.MSR_GUEST_OS_ID:
		return h.osID, true
	case index == hv.MSR_HYPERCALL:
		return h.hypercall.value, true
	case index == hv.MSR_REFERENCE_TSC && h.reference.usable():
		return h.tscPage.value, true
	case index == hv.MSR_TSC_INVARIANT_CONTROL && h.reference.usable():
		return h.invariant, true
	case index >= hv.MSR_CRASH_P0 && index <= hv.MSR_CRASH_P4:
		return h.crash[index-hv.MSR_CRASH_P0], true
	case index == hv.MSR_CRASH_CTL:
		return hv.CRASH_NOTIFY | hv.CRASH_MESSAGE, true
	}
	return 0, false
}
