package vtl

import (
	"encoding/binary"

	"keel/hcl"
	abi "keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// apicBasePage are the bits of IA32_APIC_BASE that place the local APIC (AMD64 APM vol. 2
// §16.3.1).
const apicBasePage = 0xffffffffff000

// dispatch answers one exit.
func (v *vp) dispatch(e *hcl.Exit) {
	switch e.Kind {
	case hcl.ExitKick:
		v.expired()
		return // not what the guest did; it would only fill the trace
	case hcl.ExitInterruptWindow, hcl.ExitTPR:
		return // the loop delivers
	case hcl.ExitPIO:
		if !v.hypercall(e) {
			v.pio(e)
		}
	case hcl.ExitMMIO:
		v.mmio(e)
	case hcl.ExitMSRRead:
		value, ok := v.readMSR(e.MSR)
		if !ok {
			v.guest.refused.msrRead.Add(1)
		}
		e.Value = value // for those who watch
		v.backend.CompleteMSR(value, !ok)
	case hcl.ExitMSRWrite:
		ok := v.writeMSR(e.MSR, e.Value)
		if !ok {
			v.guest.refused.msrWrite.Add(1)
		}
		v.backend.CompleteMSR(0, !ok)
	case hcl.ExitHalt:
		v.halt(e)
	case hcl.ExitDebug:
		v.stepped()
	case hcl.ExitShutdown:
		v.crash("triple fault", describe(e), e)
	case hcl.ExitEmulationFailed:
		v.crash("instruction cannot be run", describe(e), e)
	case hcl.ExitMemoryFault:
		v.memoryFault(e)
	case hcl.ExitKinds:
	}
	v.trace.add(e)
}

// pio answers port I/O; string instructions come as several units at once.
func (v *vp) pio(e *hcl.Exit) {
	ports, size := v.guest.config.Ports, int(e.Size)
	for data := e.Data; len(data) >= size && size > 0; data = data[size:] {
		if e.Write {
			ports.Write(e.Port, size, uint32(load(data[:size])))
		} else {
			store(data[:size], uint64(ports.Read(e.Port, size)))
		}
	}
}

// mmio answers an access outside of RAM. The register page of the VP's own
// local APIC comes before all devices.
func (v *vp) mmio(e *hcl.Exit) {
	size := len(e.Data)
	if base, ok := v.local.MMIOBase(); ok && e.GPA-base < x86.PageSize && x86.GPA(size) <= x86.PageSize-(e.GPA-base) {
		if e.Write {
			v.local.WriteMMIO(uint64(e.GPA-base), size, load(e.Data))
		} else {
			store(e.Data, v.local.ReadMMIO(uint64(e.GPA-base), size))
		}
		return
	}
	if e.Write {
		v.guest.config.Memory.Write(e.GPA, size, load(e.Data))
	} else {
		store(e.Data, v.guest.config.Memory.Read(e.GPA, size))
	}
}

// readMSR answers RDMSR for what Keel keeps; ok is false for #GP, which is for all that no
// table has.
func (v *vp) readMSR(index uint32) (value uint64, ok bool) {
	switch {
	case v.isHyperVMSR(index):
		return v.guest.hyperv.ReadMSR(v.index, index)
	case index >= x86.X2APIC_MSR_FIRST && index <= x86.X2APIC_MSR_LAST:
		return v.local.ReadMSR(index)
	case index == x86.IA32_APIC_BASE:
		return v.local.APICBase(), true
	case index == x86.IA32_TSC_DEADLINE:
		return v.local.TSCDeadline(), true
	case index == x86.IA32_TSC:
		return v.backend.TSC(), true
	case index == x86.IA32_TSC_ADJUST:
		return v.adjust, true
	case v.emu == nil: // the substrate answers what there is
		return 0, false
	}
	return v.msrs.Read(index)
}

// writeMSR answers WRMSR for what Keel keeps; ok is false for #GP.
func (v *vp) writeMSR(index uint32, value uint64) (ok bool) {
	switch {
	case v.isHyperVMSR(index):
		if index == abi.MSR_VP_ASSIST_PAGE {
			v.demandEOI() // while the word is where it was
		}
		return v.guest.hyperv.WriteMSR(v.index, index, value)
	case index >= x86.X2APIC_MSR_FIRST && index <= x86.X2APIC_MSR_LAST:
		return v.local.WriteMSR(index, value)
	case index == x86.IA32_APIC_BASE:
		// Where faults are raw, its page is reserved.
		if v.emu != nil && (value^v.local.APICBase())&apicBasePage != 0 {
			return false
		}
		return v.local.SetAPICBase(value)
	case index == x86.IA32_TSC_DEADLINE:
		v.local.SetTSCDeadline(value)
		return true
	case index == x86.IA32_TSC, index == x86.IA32_TSC_ADJUST:
		return v.moveTSC(index, value)
	case v.emu == nil:
		return false
	}
	return v.msrs.Write(index, value)
}

// moveTSC writes the time stamp counter or its offset. The substrate keeps the counter;
// Keel only has to know the offset, which a write of the counter moves, too (Intel SDM
// vol. 3, "IA32_TSC_ADJUST Register Support").
func (v *vp) moveTSC(index uint32, value uint64) bool {
	adjust := value
	if index == x86.IA32_TSC {
		adjust = v.adjust + value - v.backend.TSC()
	}
	ok := v.backend.SetMSR(index, value) == nil
	if ok {
		v.adjust = adjust
	}
	v.local.TSCMoved()
	return ok
}

// load reads up to eight little-endian bytes.
func load(p []byte) uint64 {
	switch len(p) {
	case 1:
		return uint64(p[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(p))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p))
	case 8:
		return binary.LittleEndian.Uint64(p)
	}
	var v uint64
	for i, b := range p {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// store writes up to eight little-endian bytes.
func store(p []byte, v uint64) {
	for i := range p {
		p[i] = byte(v >> (8 * i))
	}
}
