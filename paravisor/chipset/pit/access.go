package pit

// write takes one byte of a count. In mode 0 the first of two bytes stops the
// counter and lowers OUT (82C54, mode 0).
func (c *counter) write(v uint8, tick uint64) {
	switch c.access() {
	case accessLow:
		c.setCount(uint16(v), tick)
	case accessHigh:
		c.setCount(uint16(v)<<8, tick)
	default:
		if !c.writeHigh {
			c.lowByte, c.writeHigh = v, true
			if c.mode() == 0 {
				c.held = c.elapsed(tick)
				c.loaded = false
			}
			return
		}
		c.writeHigh = false
		c.setCount(uint16(v)<<8|uint16(c.lowByte), tick)
	}
}

// read returns the latched status, the latched count or the running count, in
// this order of preference (82C54 "Read-Back Command").
func (c *counter) read(tick uint64) uint8 {
	if c.statusLatched {
		c.statusLatched = false
		return c.status
	}
	v := c.latch
	if c.latchedBytes == 0 {
		v = c.count(tick)
	} else {
		c.latchedBytes--
	}
	high := c.access() == accessHigh
	if c.access() == accessBoth {
		high = c.readHigh
		c.readHigh = !c.readHigh
	}
	if high {
		v >>= 8
	}
	return uint8(v)
}

// latchCount holds the count until it is read; a second latch is ignored.
func (c *counter) latchCount(tick uint64) {
	if c.latchedBytes != 0 {
		return
	}
	c.latch = c.count(tick)
	c.latchedBytes = 1
	if c.access() == accessBoth {
		c.latchedBytes = 2
		c.readHigh = false
	}
}

func (c *counter) latchStatus(tick uint64) {
	if c.statusLatched {
		return
	}
	c.statusLatched = true
	c.status = c.control
	if c.out(tick) {
		c.status |= statusOut
	}
	if c.null || tick < c.base {
		c.status |= statusNull
	}
}
