package vtl

import (
	"sync/atomic"

	abi "keel/hcl/abi/hv"
)

// A guest with an assist page need not say that an interrupt is over where nothing
// depends on it (TLFS "EOI Assist"): it clears a bit, and Keel looks at the next exit.
// The bit lies in the guest's memory. Whoever clears it there ends the guest's own
// interrupt, as the guest may at any time.

// spareEOI tells the guest that the interrupt which it is about to get needs no end, if
// that is so.
func (v *vp) spareEOI() {
	h := v.guest.hyperv
	if h == nil {
		return
	}
	if word := h.AssistWord(v.index); word != nil && v.local.Lone() {
		atomic.OrUint32(word, abi.APIC_NO_EOI_REQUIRED)
		v.spared = word
	}
}

// collectEOI ends the interrupt that the guest has ended by clearing the bit.
func (v *vp) collectEOI() {
	if v.spared != nil && atomic.LoadUint32(v.spared)&abi.APIC_NO_EOI_REQUIRED == 0 {
		v.spared = nil
		v.local.EndOfInterrupt()
	}
}

// demandEOI takes back what spareEOI said, unless the guest has made use of it.
// Preconditions: the VP is not in the guest.
func (v *vp) demandEOI() {
	if v.spared == nil {
		return
	}
	was := atomic.AndUint32(v.spared, ^uint32(abi.APIC_NO_EOI_REQUIRED))
	v.spared = nil
	if was&abi.APIC_NO_EOI_REQUIRED == 0 {
		v.local.EndOfInterrupt()
	}
}
