package tdx

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// rflagsIF is RFLAGS.IF (SDM vol. 1 §3.4.3).
const rflagsIF = 1 << 9

// Vectors of exceptions (SDM vol. 3 §7.3).
const (
	vectorUD = 6
	vectorGP = 13
)

// shadow is interruptibility for one instruction behind STI and MOV SS.
const shadow = tdx.INTERRUPTIBILITY_STI | tdx.INTERRUPTIBILITY_MOV_SS

// interruptibility reads what keeps the guest from taking events.
func (vp *VP) interruptibility() uint64 {
	if !vp.blocked {
		vp.blocking = vp.get(tdx.VMCS_INTERRUPTIBILITY)
		vp.blocked = vp.failed == nil
	}
	return vp.blocking
}

func (vp *VP) setInterruptibility(v uint64) {
	if vp.interruptibility() != v {
		vp.set(tdx.VMCS_INTERRUPTIBILITY, v)
		vp.blocking = v
	}
}

// CanInject reports whether the guest takes an external interrupt now.
func (vp *VP) CanInject() bool {
	vp.complete()
	return vp.state.Registers.RFLAGS&rflagsIF != 0 && !vp.pending && vp.interruptibility()&shadow == 0
}

// InterruptFlag reports RFLAGS.IF as of the last exit.
func (vp *VP) InterruptFlag() bool { return vp.state.Registers.RFLAGS&rflagsIF != 0 }

// Inject queues an external interrupt.
func (vp *VP) Inject(vector uint8) error {
	vp.complete()
	vp.event, vp.pending = l2.Event{Type: tdx.INTERRUPTION_EXTERNAL, Vector: vector}, true
	return nil
}

// InjectNMI queues a non-maskable interrupt, which waits while the guest handles one.
func (vp *VP) InjectNMI() error {
	vp.complete()
	vp.nmi = true
	return nil
}

// InjectException queues an exception. An event whose delivery it interrupts is lost,
// and counted. Whether there is an error code the processor's mode and the vector decide
// too: an entry would fail that has one where the processor has none, or the reverse.
func (vp *VP) InjectException(vector uint8, code uint32, _ bool) error {
	vp.complete()
	vp.raise(vector, code)
	return vp.failure(ErrVP)
}

func (vp *VP) raise(vector uint8, code uint32) {
	if vp.pending {
		vp.p.stats.add(countLost)
	}
	vp.event = l2.Event{Type: tdx.INTERRUPTION_EXCEPTION, Vector: vector}
	if l2.WantsError(vector, vp.cr0()&cr0PE != 0) {
		vp.event.HasError, vp.event.Error = true, code&0xffff // the upper half is reserved
	}
	vp.pending = true
}

// raiseGP raises #GP(0), and raiseUD #UD, at the instruction of the exit.
func (vp *VP) raiseGP() { vp.raise(vectorGP, 0) }

func (vp *VP) raiseUD() { vp.raise(vectorUD, 0) }

// reinject queues the event whose delivery the exit interrupted. Software interrupts and
// exceptions are not among them: RIP is at the instruction, which comes again (SDM vol. 3,
// "Information for VM Exits During Event Delivery").
func (vp *VP) reinject() {
	e, ok := l2.EventOf(uint64(vp.exit.IDTVectoring), uint64(vp.exit.IDTError), 0)
	vp.pending = false
	if !ok {
		return
	}
	switch e.Type {
	case tdx.INTERRUPTION_NMI:
		// Its delivery has blocked further ones, and so it would itself.
		vp.setInterruptibility(vp.interruptibility() &^ tdx.INTERRUPTIBILITY_NMI)
	case tdx.INTERRUPTION_EXTERNAL, tdx.INTERRUPTION_EXCEPTION:
	default:
		return
	}
	vp.p.stats.add(countReinjected)
	vp.event, vp.pending = e, true
}

// RequestInterruptWindow asks for an exit when CanInject becomes true.
func (vp *VP) RequestInterruptWindow(on bool) { vp.window = on }

// windows are the processor controls that change.
const windows = tdx.PROCESSOR_INTERRUPT_WINDOW | tdx.PROCESSOR_NMI_WINDOW

// load writes the event for the next entry, and asks for the windows.
func (vp *VP) load() {
	want := uint64(0)
	if vp.window {
		want = tdx.PROCESSOR_INTERRUPT_WINDOW
	}
	if vp.nmi && !vp.pending && vp.interruptibility()&(shadow|tdx.INTERRUPTIBILITY_NMI) == 0 {
		vp.event, vp.pending, vp.nmi = l2.Event{Type: tdx.INTERRUPTION_NMI, Vector: tdx.VECTOR_NMI}, true, false
	}
	if vp.nmi {
		want |= tdx.PROCESSOR_NMI_WINDOW
	}
	if want != vp.windows {
		vp.put(tdx.VMCS_PROCESSOR_CONTROLS, want, windows)
		vp.windows = want
	}
	if vp.pending {
		if vp.event.HasError {
			vp.set(tdx.VMCS_ENTRY_ERROR_CODE, uint64(vp.event.Error))
		}
		vp.set(tdx.VMCS_ENTRY_INTERRUPTION, vp.event.Info())
	}
	// An exit as soon as the task priority is lower than Keel knows it (SDM vol. 3, "TPR
	// Virtualization").
	if cr8 := vp.CR8(); cr8 != vp.threshold {
		vp.set(tdx.VMCS_TPR_THRESHOLD, uint64(cr8))
		vp.threshold = cr8
	}
}

// The task priority register in the virtual APIC page: the class is in bits 7:4 (SDM vol.
// 3, "Virtual-APIC Page").
const (
	apicTPR    = 0x80
	classShift = 4
	cr8Mask    = 0xf
)

// CR8 is the guest's task priority.
func (vp *VP) CR8() uint8 { return vp.apic[apicTPR] >> classShift }

// SetCR8 sets the task priority for the next entry.
func (vp *VP) SetCR8(v uint8) { vp.apic[apicTPR] = v & cr8Mask << classShift }
