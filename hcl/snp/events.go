package snp

import "keel/hcl/abi/snp"

// rflagsIF is RFLAGS.IF (APM vol. 2 §3.1.6).
const rflagsIF = 1 << 9

// Vectors of exceptions (APM vol. 2 §8.2).
const (
	vectorUD = 6
	vectorGP = 13
)

// CanInject reports whether the guest takes an external interrupt now.
func (vp *VP) CanInject() bool {
	vp.complete()
	return vp.area.Registers.RFLAGS&rflagsIF != 0 && vp.area.VINTR&snp.VINTR_INT_SHADOW == 0 &&
		vp.area.EventInj&snp.EVENT_VALID == 0
}

// InterruptFlag reports RFLAGS.IF as of the last exit.
func (vp *VP) InterruptFlag() bool { return vp.area.Registers.RFLAGS&rflagsIF != 0 }

// Inject queues an external interrupt.
func (vp *VP) Inject(vector uint8) error {
	vp.complete()
	vp.area.EventInj = snp.EVENT_VALID | snp.EVENT_TYPE_INTR<<snp.EVENT_TYPE_SHIFT | uint64(vector)
	return nil
}

// InjectNMI queues a non-maskable interrupt, which hardware holds back while the guest
// handles one.
func (vp *VP) InjectNMI() error {
	vp.complete()
	vp.area.VINTR |= snp.VINTR_NMI
	return nil
}

// InjectException queues an exception. An event whose delivery it interrupts is lost,
// and counted.
func (vp *VP) InjectException(vector uint8, code uint32, hasCode bool) error {
	vp.complete()
	vp.raise(vector, code, hasCode)
	return nil
}

func (vp *VP) raise(vector uint8, code uint32, hasCode bool) {
	if vp.area.EventInj&snp.EVENT_VALID != 0 {
		vp.p.stats.add(countLost)
	}
	event := snp.EVENT_VALID | snp.EVENT_TYPE_EXCEPTION<<snp.EVENT_TYPE_SHIFT | uint64(vector)
	if hasCode {
		event |= snp.EVENT_ERROR_VALID | uint64(code)<<snp.EVENT_ERROR_SHIFT
	}
	vp.area.EventInj = event
}

// raiseGP raises #GP(0), and raiseUD #UD, at the instruction of the exit. In real mode
// exceptions have no error code (§8.2.14).
func (vp *VP) raiseGP() { vp.raise(vectorGP, 0, vp.area.Special.CR0&cr0PE != 0) }

func (vp *VP) raiseUD() { vp.raise(vectorUD, 0, false) }

// reinject queues the event whose delivery the exit interrupted. Software interrupts, INT3
// and INTO are not among them: RIP is at the instruction, which comes again (§15.20).
func (vp *VP) reinject() {
	vp.area.EventInj = 0
	event := vp.area.Exit.IntInfo
	if event&snp.EVENT_VALID == 0 {
		return
	}
	vector := event & snp.EVENT_VECTOR_MASK
	switch event & snp.EVENT_TYPE_MASK >> snp.EVENT_TYPE_SHIFT {
	case snp.EVENT_TYPE_INTR, snp.EVENT_TYPE_NMI:
	case snp.EVENT_TYPE_EXCEPTION:
		if vector == 3 || vector == 4 {
			return
		}
	default:
		return
	}
	vp.p.stats.add(countReinjected)
	vp.area.EventInj = event &^ snp.EVENT_RESERVED_MASK
}

// RequestInterruptWindow asks for an exit when CanInject becomes true.
func (vp *VP) RequestInterruptWindow(on bool) { vp.window = on }

// windowBits ask for a virtual interrupt above every task priority, which is intercepted
// before it is taken.
const windowBits = snp.VINTR_IRQ | snp.VINTR_PRIO_MASK | snp.VINTR_IGN_TPR

func (vp *VP) setWindow() {
	vp.area.VINTR &^= windowBits | snp.VINTR_VECTOR_MASK
	if vp.window {
		vp.area.VINTR |= windowBits
	}
}

// cr8Mask is the task priority in VINTR_CTRL, as CR8 has it.
const cr8Mask = 0xf

// CR8 is the guest's task priority.
func (vp *VP) CR8() uint8 { return uint8(vp.area.VINTR & cr8Mask) }

// SetCR8 sets the task priority for the next entry.
func (vp *VP) SetCR8(v uint8) {
	vp.area.VINTR = vp.area.VINTR&^snp.VINTR_TPR_MASK | uint64(v&cr8Mask)
}
