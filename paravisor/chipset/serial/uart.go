// Package serial emulates the 16550A UART as PCs have it for COM1 and COM2.
//
// Transmission is immediate: characters pass to the owner's writer through a
// bounded ring, and a guest that outruns the writer sees the transmitter busy
// instead of losing output. Characters from the host wait, as a peer with
// hardware handshake would, until the guest raises RTS and has room for them.
package serial

import (
	"sync"
	"sync/atomic"

	"keel/paravisor/chipset/isa"
	"keel/vtl/irq"
)

const (
	outputCapacity = 64 << 10
	inputCapacity  = 4 << 10

	// After seeing the transmitter empty a driver writes a whole FIFO without
	// looking again: the transmitter turns busy while that still fits, and
	// ready only when the writer has made real progress.
	stallBelow  = fifoDepth
	resumeAbove = 1 << 10

	// timeoutDelay is four character times of 10 bits at 115200 baud (§8.6,
	// FIFO timeout interrupt), in nanoseconds. It ignores the divisor, since
	// characters do not take their baud time either.
	timeoutDelay = 4 * 10 * 1_000_000_000 / 115200
)

// rxChar is a received character with the line status bits that belong to it.
type rxChar struct{ data, errors uint8 }

// UART is one 16550A. It implements bus.PIODevice over PortCount ports and
// bus.Resetter.
type UART struct {
	line    irq.Line
	clock   irq.Clock
	timer   irq.Timer
	wake    chan struct{} // output ring is no longer empty
	hurry   chan struct{} // output ring is half full
	space   chan struct{} // input ring has room again
	dropped atomic.Uint64

	mu       sync.Mutex
	ier, lcr uint8
	fcr, mcr uint8
	errors   uint8 // LSR error bits not yet read
	scratch  uint8
	divisor  [2]uint8
	wires    uint8 // modem inputs as MSR bits 4-7
	deltas   uint8 // MSR bits 0-3
	high     bool  // level of the line

	rx        ring[rxChar]
	timeout   bool  // a timeout interrupt is pending
	timeoutAt int64 // when it becomes so; 0: not running

	tx         ring[byte]
	thrPending bool // a THR-empty interrupt is pending
	stalled    bool // the transmitter pretends to be busy
	writing    bool // characters left the ring and are in the writer's hands

	pending ring[rxChar] // from the host, on its way to rx
}

// New returns a UART in its reset state that interrupts through line.
func New(line irq.Line, clock irq.Clock) *UART {
	u := &UART{
		line: line, clock: clock,
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		space:   make(chan struct{}, 1),
		rx:      newRing[rxChar](fifoDepth),
		tx:      newRing[byte](outputCapacity),
		pending: newRing[rxChar](inputCapacity),
	}
	u.timer = clock.NewTimer(u.onTimer)
	u.Reset()
	return u
}

// Reset puts all registers into the state after master reset (table III). What
// the guest has sent and the host has typed stays on its way.
func (u *UART) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ier, u.lcr, u.fcr, u.mcr, u.errors, u.scratch = 0, 0, 0, 0, 0, 0
	u.divisor = [2]uint8{resetDivisor, 0}
	u.wires, u.deltas = u.modemInputs(), 0
	u.clearRX()
	u.thrPending = false
	u.high = false
	u.line.SetLevel(false)
}

// Dropped counts characters that a guest wrote although the transmitter was
// busy and no room was left for them.
func (u *UART) Dropped() uint64 { return u.dropped.Load() }

// ReadPIO reads registers. Wider accesses read consecutive registers.
func (u *UART) ReadPIO(offset uint16, size int) uint32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := isa.Read(offset, size, u.read)
	u.update()
	return v
}

// WritePIO writes registers. Wider accesses write consecutive registers.
func (u *UART) WritePIO(offset uint16, size int, value uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	isa.Write(offset, size, value, u.write)
	u.update()
}

func (u *UART) read(offset uint16) uint8 {
	dlab := u.lcr&lcrDLAB != 0
	switch offset {
	case regData:
		if dlab {
			return u.divisor[0]
		}
		return u.receive()
	case regIER:
		if dlab {
			return u.divisor[1]
		}
		return u.ier
	case regIIR:
		id := u.interrupt()
		if id == iirTHREmpty {
			u.thrPending = false // §8.6: reading IIR is one way to clear it
		}
		if u.fcr&fcrEnable != 0 {
			id |= iirFIFOs
		}
		return id
	case regLCR:
		return u.lcr
	case regMCR:
		return u.mcr
	case regLSR:
		v := u.lineStatus()
		u.errors = 0
		return v
	case regMSR:
		v := u.wires | u.deltas
		u.deltas = 0
		return v
	case regSCR:
		return u.scratch
	}
	return 0xff
}

func (u *UART) write(offset uint16, v uint8) {
	dlab := u.lcr&lcrDLAB != 0
	switch offset {
	case regData:
		if dlab {
			u.divisor[0] = v
		} else {
			u.transmit(v)
		}
	case regIER:
		if dlab {
			u.divisor[1] = v
		} else {
			u.setIER(v & ierMask)
		}
	case regIIR:
		u.setFCR(v)
	case regLCR:
		// A break that loops back arrives as a null character with BI set.
		if v&^u.lcr&lcrBreak != 0 && u.mcr&mcrLoop != 0 {
			u.loopBack(rxChar{errors: lsrBreak})
		}
		u.lcr = v
	case regMCR:
		u.setMCR(v & mcrMask)
	case regSCR:
		u.scratch = v
	}
}

// setIER changes the enabled interrupts. Enabling the THR-empty interrupt while
// the register is empty raises it at once: drivers start output so, and Linux
// tests for it (8250 "THRE test").
func (u *UART) setIER(v uint8) {
	if (u.ier^v)&ierTHREmpty != 0 {
		u.thrPending = v&ierTHREmpty != 0 && !u.stalled
	}
	u.ier = v
}

func (u *UART) setFCR(v uint8) {
	if (u.fcr^v)&fcrEnable != 0 || v&fcrClearRX != 0 {
		u.clearRX()
	}
	if v&fcrEnable == 0 {
		v = 0 // §8.5: the other bits are programmed only together with FCR0
	}
	u.fcr = v
	u.refill()
}

func (u *UART) setMCR(v uint8) {
	u.mcr = v
	wires := u.modemInputs()
	changed := u.wires ^ wires
	u.deltas |= changed >> msrWireShift & (msrDeltaCTS | msrDeltaDSR | msrDeltaDCD)
	if changed&u.wires&msrRI != 0 {
		u.deltas |= msrTrailRI
	}
	u.wires = wires
	u.refill()
}

// modemInputs returns what the modem status wires carry: the peer is always
// there, and in loopback they follow the control outputs (§8.8).
func (u *UART) modemInputs() uint8 {
	if u.mcr&mcrLoop == 0 {
		return msrCTS | msrDSR | msrDCD
	}
	var v uint8
	for _, pair := range [4][2]uint8{
		{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if u.mcr&pair[0] != 0 {
			v |= pair[1]
		}
	}
	return v
}

func (u *UART) lineStatus() uint8 {
	v := u.errors
	if u.rx.n > 0 {
		v |= lsrDataReady
	}
	if !u.stalled {
		v |= lsrTHREmpty | lsrTXEmpty
	}
	if u.fcr&fcrEnable != 0 && (u.errors&lsrCharErrors != 0 || u.errorsQueued()) {
		v |= lsrFIFOError
	}
	return v
}

// interrupt returns the pending interrupt of highest priority (table IV).
func (u *UART) interrupt() uint8 {
	switch {
	case u.ier&ierLineStatus != 0 && u.errors != 0:
		return iirLineStatus
	case u.ier&ierReceived != 0 && u.rx.n >= u.trigger():
		return iirReceived
	case u.ier&ierReceived != 0 && u.timeout:
		return iirTimeout
	case u.ier&ierTHREmpty != 0 && u.thrPending:
		return iirTHREmpty
	case u.ier&ierModemStatus != 0 && u.deltas != 0:
		return iirModemStatus
	}
	return iirNone
}

// update drives the line. On a PC the OUT2 pin gates it, and loopback turns
// that pin off (§8.8).
func (u *UART) update() {
	high := u.mcr&(mcrOut2|mcrLoop) == mcrOut2 && u.interrupt() != iirNone
	if high != u.high {
		u.high = high
		u.line.SetLevel(high)
	}
}
