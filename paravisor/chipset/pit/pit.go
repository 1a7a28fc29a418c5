// Package pit emulates the 8254 interval timer of a PC with its port 61h.
// Counter 0 drives an interrupt line, counter 1 paces the refresh bit, counter
// 2 is gated and seen through port 61h. There is no speaker to hear it.
package pit

import (
	"sync"

	"keel/paravisor/chipset/isa"
	"keel/vtl/bus"
	"keel/vtl/irq"
)

const (
	// epoch is the tick at the clock's zero. It leaves room to place the start
	// of a wave up to one period in the past.
	epoch = 1 << 17

	// minGap bounds how often counter 0 may call for the host's attention, in
	// nanoseconds: counts of a few ticks are legal, but no guest needs them.
	minGap = 20_000
)

// PIT is an 8254. It implements bus.PIODevice over PortCount ports from
// PortBase, and bus.Resetter.
type PIT struct {
	line  irq.Line
	clock irq.Clock
	timer irq.Timer

	mu       sync.Mutex
	counters [3]counter
	speaker  uint8  // writable bits of port 61h
	due      uint64 // tick of counter 0's next rising edge, or never
}

// New returns a PIT in its reset state whose counter 0 drives line.
func New(line irq.Line, clock irq.Clock) *PIT {
	p := &PIT{line: line, clock: clock}
	p.timer = clock.NewTimer(p.onTimer)
	p.Reset()
	return p
}

// Reset stops all counters. The datasheet leaves their state undefined; here it
// is mode 0 waiting for a count, with OUT low.
func (p *PIT) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.counters {
		p.counters[i] = counter{control: accessBoth << cwAccessShift, gate: i != 2, n: 1 << 16, null: true}
	}
	p.speaker = 0
	p.due = never
	p.timer.Disarm()
	p.line.SetLevel(false)
}

// Speaker returns the device behind port 61h, SpeakerPortCount long.
func (p *PIT) Speaker() bus.PIODevice { return (*speaker)(p) }

// ReadPIO reads counters; the control word register reads as all ones.
func (p *PIT) ReadPIO(offset uint16, size int) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return isa.Read(offset, size, p.read)
}

// WritePIO writes counts and control words.
func (p *PIT) WritePIO(offset uint16, size int, value uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	isa.Write(offset, size, value, p.write)
}

func (p *PIT) tick() uint64 { return Frequency.Ticks(p.clock.Now()) + epoch }

func (p *PIT) read(offset uint16) uint8 {
	if offset >= regControl {
		return 0xff
	}
	tick, c := p.tick(), &p.counters[offset]
	c.settle(tick)
	return c.read(tick)
}

func (p *PIT) write(offset uint16, v uint8) {
	tick := p.tick()
	rose := p.pulse(tick)
	for i := range p.counters {
		p.counters[i].settle(tick)
	}
	if rose {
		p.schedule(tick, 0)
	}
	if offset < regControl {
		p.counters[offset].write(v, tick)
		p.reprogrammed(int(offset), tick)
		return
	}
	sel := int(v >> cwSelectShift)
	switch {
	case sel == selectReadBack:
		p.readBack(v, tick)
	case v>>cwAccessShift&cwAccessMask == accessLatch:
		p.counters[sel].latchCount(tick)
	default:
		p.counters[sel].setControl(v)
		p.reprogrammed(sel, tick)
	}
}

func (p *PIT) readBack(v uint8, tick uint64) {
	for i := range p.counters {
		if v>>rbSelectShift>>i&1 == 0 {
			continue
		}
		if v&rbNoCount == 0 {
			p.counters[i].latchCount(tick)
		}
		if v&rbNoStatus == 0 {
			p.counters[i].latchStatus(tick)
		}
	}
}

// reprogrammed follows a write to counter 0 with its output and alarm.
func (p *PIT) reprogrammed(index int, tick uint64) {
	if index != 0 {
		return
	}
	c := &p.counters[0]
	p.line.SetLevel(c.out(tick))
	p.schedule(tick, 0)
}

// schedule arms the alarm for the next rising edge, not before the given time.
func (p *PIT) schedule(tick uint64, notBefore int64) {
	p.due = p.counters[0].rise(tick)
	if p.due == never {
		p.timer.Disarm()
		return
	}
	p.timer.Arm(max(Frequency.Nanos(p.due-epoch), notBefore))
}

// pulse delivers the rising edge that is due, if one is: several that passed
// while the host was busy count as one. The line stays high until the next one,
// since an 8259 wants the request to hold until it is acknowledged and no guest
// needs interrupt lines to fall in time.
func (p *PIT) pulse(tick uint64) bool {
	if tick < p.due {
		return false
	}
	p.due = never
	p.line.SetLevel(false)
	p.line.SetLevel(true)
	return true
}

func (p *PIT) onTimer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	tick := p.tick()
	// A stale call finds nothing due, and the newer alarm stands.
	if p.pulse(tick) {
		p.counters[0].settle(tick)
		p.schedule(tick, now+minGap)
	}
}

// speaker is the PIT seen through port 61h.
type speaker PIT

func (s *speaker) ReadPIO(_ uint16, _ int) uint32 {
	p := (*PIT)(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	tick, c := p.tick(), &p.counters[2]
	c.settle(tick)
	v := uint32(p.speaker)
	if tick/refreshPeriod&1 != 0 {
		v |= spkRefresh
	}
	if c.out(tick) {
		v |= spkOut2
	}
	return v
}

func (s *speaker) WritePIO(_ uint16, _ int, value uint32) {
	p := (*PIT)(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	tick, c := p.tick(), &p.counters[2]
	c.settle(tick)
	p.speaker = uint8(value) & spkWritable
	c.setGate(p.speaker&spkGate2 != 0, tick)
}
