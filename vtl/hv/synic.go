package hv

import "keel/hcl/abi/hv"

// resetSynIC puts the registers of the SynIC into power-on state and drops all
// messages (TLFS "SynIC Registers").
func (v *vp) resetSynIC() {
	v.control.Store(0)
	v.events.Store(nil)
	for i := range v.sints {
		v.sints[i].Store(hv.SINT_RESET)
		v.queues[i].clear()
	}
	v.simp, v.siefp, v.assist, v.messages, v.assistPage = 0, 0, 0, nil, nil
}

func (v *vp) readSynIC(index uint32) (uint64, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case index == hv.MSR_SCONTROL:
		return v.control.Load(), true
	case index == hv.MSR_SVERSION:
		return hv.SVERSION_VALUE, true
	case index == hv.MSR_SIEFP:
		return v.siefp, true
	case index == hv.MSR_SIMP:
		return v.simp, true
	case index == hv.MSR_EOM:
		return 0, true
	case index == hv.MSR_VP_ASSIST_PAGE:
		return v.assist, true
	case index >= hv.MSR_SINT0 && index <= hv.MSR_SINT15:
		return v.sints[index-hv.MSR_SINT0].Load(), true
	}
	return 0, false
}

func (h *Hypervisor) writeSynIC(v *vp, index uint32, value uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case index == hv.MSR_SCONTROL:
		v.control.Store(value)
		h.deliverAll(v)
	case index == hv.MSR_SIEFP:
		v.events.Store(h.exchange(&v.siefp, value, v.events.Load()))
	case index == hv.MSR_SIMP:
		v.messages = h.exchange(&v.simp, value, v.messages)
		h.deliverAll(v)
	case index == hv.MSR_VP_ASSIST_PAGE:
		v.assistPage = h.exchange(&v.assist, value, v.assistPage)
	case index == hv.MSR_EOM:
		h.deliverAll(v)
	case index >= hv.MSR_SINT0 && index <= hv.MSR_SINT15:
		return h.writeSINT(v, int(index-hv.MSR_SINT0), value)
	default: // MSR_SVERSION is read-only; the others do not exist
		return false
	}
	return true
}

// exchange writes a register that names a page, and returns the page. A page that
// becomes visible is zero (TLFS "SIM Page", "SIEF Page").
func (h *Hypervisor) exchange(register *uint64, value uint64, old *page) *page {
	moved := (*register^value)&(hv.PAGE_ADDRESS|hv.PAGE_ENABLE) != 0
	*register = value
	if !moved {
		return old
	}
	p := sharedPage(h.config.Memory, value)
	if p != nil {
		p.clear()
	}
	return p
}

// writeSINT writes a source. An open source needs a vector that exists, and the
// guest has to end its interrupts itself: auto-EOI raises #GP rather than leave an
// interrupt in service for ever.
func (h *Hypervisor) writeSINT(v *vp, sint int, value uint64) bool {
	if value&hv.SINT_MASKED == 0 && value&hv.SINT_POLLING == 0 {
		if value&hv.SINT_VECTOR < hv.SINT_FIRST_VECTOR || value&hv.SINT_AUTO_EOI != 0 {
			return false
		}
	}
	v.sints[sint].Store(value)
	h.deliver(v, sint)
	return true
}
