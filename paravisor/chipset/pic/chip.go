package pic

import "math/bits"

// none is what the priority resolver says when no input qualifies.
const none = -1

// chip is one 8259A.
type chip struct {
	master   bool
	elcrMask uint8

	lines uint8 // levels of the inputs
	elcr  uint8 // inputs that are level triggered
	irr   uint8
	isr   uint8
	imr   uint8
	base  uint8 // ICW2

	lowest   uint8 // input with the lowest priority
	step     uint8 // ICW that the second port expects next; 0: initialized
	needICW4 bool
	single   bool

	autoEOI       bool
	rotateAutoEOI bool
	fullNest      bool
	special       bool // special mask mode
	readISR       bool
	poll          bool
}

// reset leaves the levels of the inputs alone: the devices drive them.
func (c *chip) reset() {
	base := uint8(resetSlaveBase)
	if c.master {
		base = resetMasterBase
	}
	// The datasheet leaves the mask undefined; firmware leaves all masked.
	*c = chip{
		master: c.master, elcrMask: c.elcrMask, lines: c.lines,
		imr: 0xff, base: base, lowest: 7,
	}
}

// levelTriggered returns the inputs whose request is their level. The cascade
// is one: a slave that withdraws its request has none.
func (c *chip) levelTriggered() uint8 {
	if c.master {
		return c.elcr | 1<<Cascade
	}
	return c.elcr
}

// setLine drives one input.
func (c *chip) setLine(n uint8, high bool) {
	bit := uint8(1) << n
	rising := high && c.lines&bit == 0
	if high {
		c.lines |= bit
	} else {
		c.lines &^= bit
	}
	switch {
	case c.levelTriggered()&bit != 0:
		c.irr = c.irr&^bit | c.lines&bit
	case rising:
		// The latch outlives the level, so that a pulse is never lost.
		c.irr |= bit
	}
}

func (c *chip) setELCR(v uint8) {
	c.elcr = v & c.elcrMask
	level := c.levelTriggered()
	c.irr = c.irr&^level | c.lines&level
}

// first returns the input of highest priority in set, or none.
func (c *chip) first(set uint8) int {
	if set == 0 {
		return none
	}
	shift := int(c.lowest+1) & 7
	return (bits.TrailingZeros8(bits.RotateLeft8(set, -shift)) + shift) & 7
}

// rank orders inputs by priority, highest first.
func (c *chip) rank(n int) int { return (n - int(c.lowest) - 1) & 7 }

// request returns the input that asks for service and outranks all that have
// it, or none.
func (c *chip) request() int {
	want := c.first(c.irr &^ c.imr)
	if want == none || c.step != 0 {
		return none
	}
	serving := c.isr
	if c.special {
		serving &^= c.imr // only unmasked services inhibit others
	}
	top := c.first(serving)
	switch {
	case top == none || c.rank(want) < c.rank(top):
		return want
	case c.fullNest && c.master && want == Cascade && top == Cascade:
		return want // the slave has resolved the priorities
	}
	return none
}

// acknowledge moves a request into service.
func (c *chip) acknowledge(n int) {
	bit := uint8(1) << n
	switch {
	case !c.autoEOI:
		c.isr |= bit
	case c.rotateAutoEOI:
		c.lowest = uint8(n)
	}
	if c.levelTriggered()&bit == 0 {
		c.irr &^= bit
	}
}

func (c *chip) read(offset uint16) uint8 {
	switch {
	case c.poll:
		// The read stands in for the interrupt acknowledge.
		c.poll = false
		n := c.request()
		if n == none {
			return 0
		}
		c.acknowledge(n)
		return pollPending | uint8(n)
	case offset != 0:
		return c.imr
	case c.readISR:
		return c.isr
	}
	return c.irr
}

func (c *chip) write(offset uint16, v uint8) {
	switch {
	case offset != 0:
		c.writeData(v)
	case v&cmdICW1 != 0:
		c.initialize(v)
	case v&cmdOCW3 != 0:
		c.writeOCW3(v)
	default:
		c.writeOCW2(v)
	}
}

// initialize is ICW1 (8259A "Initialization Command Words", points a to f):
// edges so far are forgotten, the mask is cleared, input 7 ranks last.
func (c *chip) initialize(v uint8) {
	level := c.levelTriggered()
	*c = chip{
		master: c.master, elcrMask: c.elcrMask, lines: c.lines, elcr: c.elcr,
		irr: c.lines & level, base: c.base, lowest: 7, step: 2,
		needICW4: v&icw1NeedICW4 != 0, single: v&icw1Single != 0,
	}
}

func (c *chip) writeData(v uint8) {
	switch c.step {
	case 2:
		c.base = v & icw2BaseMask
		c.step = 3
		if c.single {
			c.step = 4
		}
	case 3:
		c.step = 4 // the wiring of the cascade is fixed: ICW3 tells nothing
	case 4:
		c.autoEOI = v&icw4AutoEOI != 0
		c.fullNest = v&icw4FullNest != 0
		c.step = 0
	default:
		c.imr = v
	}
	if c.step == 4 && !c.needICW4 {
		c.step = 0
	}
}

func (c *chip) writeOCW2(v uint8) {
	cmd := v >> ocw2Shift
	n := int(v & ocw2LevelMask)
	if cmd&ocw2EOI == 0 {
		switch {
		case cmd&ocw2Specific == 0:
			c.rotateAutoEOI = cmd&ocw2Rotate != 0
		case cmd&ocw2Rotate != 0:
			c.lowest = uint8(n)
		}
		return
	}
	if cmd&ocw2Specific == 0 {
		serving := c.isr
		if c.special {
			serving &^= c.imr // 8259A "End of Interrupt": masked bits stay
		}
		if n = c.first(serving); n == none {
			return
		}
	}
	c.isr &^= 1 << n
	if cmd&ocw2Rotate != 0 {
		c.lowest = uint8(n)
	}
}

func (c *chip) writeOCW3(v uint8) {
	if v&ocw3SetSpecial != 0 {
		c.special = v&ocw3Special != 0
	}
	if v&ocw3Poll != 0 {
		c.poll = true
		return
	}
	if v&ocw3Read != 0 {
		c.readISR = v&ocw3ReadISR != 0
	}
}
