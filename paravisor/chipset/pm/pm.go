// Package pm emulates ACPI fixed hardware: the PM1a event and control blocks,
// the power management timer and the GPE0 block, one I/O range in all. There is
// no SMI and no legacy mode: the hardware is always in ACPI mode.
package pm

import (
	"sync"

	"keel/vtl/irq"
)

// PM is the power management block. It implements bus.PIODevice over BlockSize
// ports and bus.Resetter.
type PM struct {
	sci   irq.Line
	clock irq.Clock
	timer irq.Timer
	sleep func(sleepType uint8)

	mu        sync.Mutex
	status    uint16
	enable    uint16
	control   uint16
	gpeStatus uint32
	gpeEnable uint32
	wraps     uint64 // half-periods of the timer that TMR_STS accounts for
}

// New returns a block in its reset state. It drives sci, a level-triggered
// interrupt, and calls sleep with SLP_TYP when the guest sets SLP_EN; sleep runs
// on the VP that wrote, without locks.
func New(sci irq.Line, clock irq.Clock, sleep func(sleepType uint8)) *PM {
	p := &PM{sci: sci, clock: clock, sleep: sleep}
	p.timer = clock.NewTimer(p.onTimer)
	p.Reset()
	return p
}

// Reset clears all events and enables. The timer runs on.
func (p *PM) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.enable, p.control = 0, 0, 0
	p.gpeStatus, p.gpeEnable = 0, 0
	p.wraps = p.halfPeriods()
	p.update()
}

// PowerButton reports a press of the power button to the guest, and returns whether the
// guest listens to it now.
func (p *PM) PowerButton() (heard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status |= pm1PowerButton
	p.update()
	return p.enable&pm1PowerButton != 0
}

// RaiseGPE reports general-purpose event n, below GPECount; others are ignored.
func (p *PM) RaiseGPE(n int) {
	if n < 0 || n >= GPECount {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gpeStatus |= 1 << n
	p.update()
}

// ReadPIO reads registers of any alignment and size.
func (p *PM) ReadPIO(offset uint16, size int) uint32 {
	// The timer is what guests read all the time: it needs no lock.
	if offset == TimerOffset && size == TimerSize {
		return p.count()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overflow()
	words := uint64(p.word(offset&^3)) | uint64(p.word(offset&^3+4))<<32
	return uint32(words >> (offset & 3 * 8))
}

// word returns the four registers from an aligned offset.
func (p *PM) word(offset uint16) uint32 {
	switch offset {
	case EventOffset:
		return uint32(p.status) | uint32(p.enable)<<16
	case ControlOffset:
		return uint32(p.control | cntSCIEnable)
	case TimerOffset:
		return p.count()
	case GPE0Offset:
		return p.gpeStatus
	case GPE0Offset + GPE0Size/2:
		return p.gpeEnable
	}
	return 0
}

// WritePIO writes registers of any alignment and size.
func (p *PM) WritePIO(offset uint16, size int, value uint32) {
	if sleepType, ok := p.store(offset, size, value); ok {
		p.sleep(sleepType)
	}
}

// store performs a write; ok says that the guest asked for sleep.
func (p *PM) store(offset uint16, size int, value uint32) (sleepType uint8, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overflow()
	for i := range size {
		ok = p.storeByte(int(offset)+i, uint8(value>>(8*i))) || ok
	}
	p.update()
	return uint8(p.control >> cntSleepTypeShift & cntSleepTypeMask), ok
}

// storeByte writes one port and reports a write of SLP_EN. Statuses clear where
// one is written.
func (p *PM) storeByte(port int, v uint8) (sleep bool) {
	shift := port & 1 * 8
	lane, value := uint16(0xff)<<shift, uint16(v)<<shift
	switch port &^ 1 {
	case EventOffset:
		p.status &^= value
	case EventOffset + EventSize/2:
		p.enable = (p.enable&^lane | value) & pm1EnableMask
	case ControlOffset:
		p.control = (p.control&^lane | value) & cntStored
		return value&cntSleepEnable != 0
	}
	shift = port & 3 * 8
	switch port &^ 3 {
	case GPE0Offset:
		p.gpeStatus &^= uint32(v) << shift
	case GPE0Offset + GPE0Size/2:
		p.gpeEnable = p.gpeEnable&^(0xff<<shift) | uint32(v)<<shift
	}
	return false
}

func (p *PM) count() uint32 { return uint32(TimerFrequency.Ticks(p.clock.Now())) }

// halfPeriods counts the changes of the timer's top bit, each of which sets
// TMR_STS (§4.8.2.1).
func (p *PM) halfPeriods() uint64 {
	return TimerFrequency.Ticks(p.clock.Now()) >> (TimerBits - 1)
}

// overflow brings TMR_STS up to date.
func (p *PM) overflow() {
	if n := p.halfPeriods(); n != p.wraps {
		p.wraps = n
		p.status |= pm1Timer
	}
}

func (p *PM) onTimer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overflow()
	p.update()
}

// update drives the SCI and keeps an alarm only while an overflow would
// interrupt.
func (p *PM) update() {
	events := p.status & p.enable & pm1EnableMask
	p.sci.SetLevel(events != 0 || p.gpeStatus&p.gpeEnable != 0)
	if p.enable&pm1Timer != 0 && p.status&pm1Timer == 0 {
		p.timer.Arm(TimerFrequency.Nanos((p.wraps + 1) << (TimerBits - 1)))
	} else {
		p.timer.Disarm()
	}
}
