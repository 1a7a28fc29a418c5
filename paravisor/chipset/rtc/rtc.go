// Package rtc emulates the MC146818A real-time clock of a PC with its CMOS RAM.
//
// Time starts at the owner's wall clock and then follows the machine's clock,
// so that guest time never jumps; what the guest sets is an offset.
package rtc

import (
	"sync"
	"time"

	"keel/paravisor/chipset/isa"
	"keel/vtl/irq"
)

const (
	nanosPerSecond = 1_000_000_000
	secondsPerDay  = 86_400
)

// RTC is the chip. It implements bus.PIODevice over PortCount ports from Port,
// and bus.Resetter.
type RTC struct {
	line  irq.Line
	clock irq.Clock
	timer irq.Timer

	mu    sync.Mutex
	index uint8
	mem   [Size]uint8
	flags uint8 // register C without IRQF

	phase  int64 // divider chain minus machine clock, ns
	epoch  int64 // Unix time when the divider chain was at zero, s
	second int64 // last second of the divider that UF and AF account for
	period int64 // last period of the divider that PF accounts for
}

// New returns a clock in its power-on state that shows wall time (UTC) and
// interrupts through line.
func New(line irq.Line, clock irq.Clock, wall func() time.Time) *RTC {
	r := &RTC{line: line, clock: clock}
	r.timer = clock.NewTimer(r.onTimer)
	now, start := clock.Now(), wall()
	r.phase = int64(start.Nanosecond()) - now
	r.epoch = start.Unix()
	r.mem[regA] = aResetValue
	r.mem[regB] = b24Hour
	r.mem[regD] = dVRT
	r.Reset()
	return r
}

// Reset does what the RESET pin does: interrupts are disabled and forgotten.
// Time, RAM and the divider are kept by the battery.
func (r *RTC) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mem[regB] &^= bPIE | bAIE | bUIE | bSQWE
	r.flags, r.index = 0, 0
	r.catchUp(r.clock.Now())
	r.flags = 0
	r.update(r.clock.Now())
}

// ReadPIO reads the selected byte; the index port reads as all ones.
func (r *RTC) ReadPIO(offset uint16, size int) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return isa.Read(offset, size, r.read)
}

// WritePIO selects a byte, or writes the selected one.
func (r *RTC) WritePIO(offset uint16, size int, value uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	isa.Write(offset, size, value, r.write)
}

func (r *RTC) read(offset uint16) uint8 {
	if offset != portData {
		return 0xff
	}
	now := r.clock.Now()
	switch {
	case isTime(r.index) && r.running():
		second, _ := r.divider(now)
		return r.timeByte(r.index, second+r.epoch)
	case r.index == regA:
		v := r.mem[regA]
		if _, frac := r.divider(now); r.running() && frac >= nanosPerSecond-updateWarning {
			v |= aUIP
		}
		return v
	case r.index == regC:
		r.catchUp(now)
		v := r.flags
		if v&r.mem[regB] != 0 {
			v |= cIRQF
		}
		r.flags = 0
		r.update(now)
		return v
	}
	return r.mem[r.index]
}

func (r *RTC) write(offset uint16, v uint8) {
	if offset == portIndex {
		r.index = v & indexMask
		return
	}
	if offset != portData {
		return
	}
	now := r.clock.Now()
	r.catchUp(now)
	switch {
	case isTime(r.index) && r.running():
		r.freeze(now)
		r.mem[r.index] = v
		r.thaw(now)
	case r.index == regA:
		r.control(regA, v&^aUIP, now)
	case r.index == regB:
		if v&bSET != 0 {
			v &^= bUIE // the datasheet, register B: SET clears UIE
		}
		r.control(regB, v, now)
	case r.index == regC || r.index == regD:
		// Read-only.
	default:
		r.mem[r.index] = v
	}
	r.update(now)
}

// control writes register A or B, which may stop or start time. A divider that
// is released from reset makes its first update half a second later.
func (r *RTC) control(index, v uint8, now int64) {
	wasRunning, wasCounting := r.running(), r.counting()
	if wasRunning {
		r.freeze(now)
	}
	r.mem[index] = v
	if r.counting() && !wasCounting {
		r.phase = nanosPerSecond/2 - now
	}
	if r.running() && !wasRunning {
		r.thaw(now)
	}
	r.period = r.periods(now)
}

// counting reports whether the divider chain runs, running whether it also
// updates the time.
func (r *RTC) counting() bool { return r.mem[regA]&aDividerMask == aDividerRun }
func (r *RTC) running() bool  { return r.counting() && r.mem[regB]&bSET == 0 }

// divider returns the state of the divider chain: seconds and nanoseconds.
func (r *RTC) divider(now int64) (second, frac int64) {
	d := now + r.phase
	return d / nanosPerSecond, d % nanosPerSecond
}

// periodTicks is the length of the periodic interrupt in ticks of the time
// base (table 5), or 0. It always divides a second.
func (r *RTC) periodTicks() int64 {
	switch rate := r.mem[regA] & aRateMask; {
	case rate == 0:
		return 0
	case rate <= 2:
		return 1 << (rate + 6)
	default:
		return 1 << (rate - 1)
	}
}

// periods counts the periods of the divider chain.
func (r *RTC) periods(now int64) int64 {
	ticks := r.periodTicks()
	if ticks == 0 {
		return 0
	}
	second, frac := r.divider(now)
	return (second*timeBase + frac*timeBase/nanosPerSecond) / ticks
}

// catchUp sets the flags for what has happened since the last call.
func (r *RTC) catchUp(now int64) {
	if !r.counting() {
		return
	}
	if p := r.periods(now); p != r.period {
		r.period = p
		r.flags |= cPF
	}
	if !r.running() {
		return
	}
	second, _ := r.divider(now)
	if second == r.second {
		return
	}
	r.flags |= cUF
	// An alarm repeats every day at the latest.
	for s := max(r.second, second-secondsPerDay) + 1; s <= second && r.flags&cAF == 0; s++ {
		if r.alarmAt(s + r.epoch) {
			r.flags |= cAF
		}
	}
	r.second = second
}

// update drives the line and arms the alarm for the next flag that would
// interrupt.
func (r *RTC) update(now int64) {
	r.line.SetLevel(r.flags&r.mem[regB]&cMask != 0)
	waiting := r.mem[regB] &^ r.flags
	second, frac := r.divider(now)
	next := int64(0) // nanoseconds into the current second
	if r.running() && waiting&(bUIE|bAIE) != 0 {
		next = nanosPerSecond
	}
	if ticks := r.periodTicks(); ticks != 0 && r.counting() && waiting&bPIE != 0 {
		end := (frac*timeBase/nanosPerSecond/ticks + 1) * ticks
		next = (end*nanosPerSecond + timeBase - 1) / timeBase
	}
	if next == 0 {
		r.timer.Disarm()
		return
	}
	r.timer.Arm(second*nanosPerSecond + next - r.phase)
}

func (r *RTC) onTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	r.catchUp(now)
	r.update(now)
}
