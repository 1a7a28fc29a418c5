package pit

// counter is one of the three counters. It holds no running count: everything
// derives from the tick of the input clock at which the count was loaded, so
// that reads are exact at any time and nothing drifts.
type counter struct {
	control uint8 // last control word, bits 0 to 5
	gate    bool

	loaded bool   // it counts; false from the control word to the first load
	null   bool   // the newest count is not in the counting element yet
	base   uint64 // tick at which the counting element holds n
	n      uint32 // count in effect, 1 to modulus
	held   uint64 // elapsed ticks while the gate is low (modes 0 and 4)

	// A count written while modes 2 and 3 run takes effect at a boundary.
	next    uint32 // 0: none
	nextAt  uint64 // the boundary
	initial uint32 // last complete count written; 0: none since the control word

	lowByte   uint8 // first byte of a two-byte write
	writeHigh bool  // the second byte of a write is due
	readHigh  bool  // the second byte of a read is due

	latch         uint16
	latchedBytes  uint8 // bytes of latch still to be read
	status        uint8
	statusLatched bool
}

// never is the tick of an edge that does not come.
const never = ^uint64(0)

// mode returns 0 to 5; the top bit of modes 2 and 3 is "don't care".
func (c *counter) mode() uint8 {
	m := c.control >> cwModeShift & cwModeMask
	if m > 5 {
		m -= 4
	}
	return m
}

func (c *counter) modulus() uint32 {
	if c.control&cwBCD != 0 {
		return 10_000
	}
	return 1 << 16
}

func (c *counter) access() uint8 { return c.control >> cwAccessShift & cwAccessMask }

// periodic reports whether the count reloads by itself.
func (c *counter) periodic() bool { m := c.mode(); return m == 2 || m == 3 }

// waits reports whether only a rising gate loads the count, whose level then
// does not matter (82C54 figure 22).
func (c *counter) waits() bool { m := c.mode(); return m == 1 || m == 5 }

// settle makes a count that waited for its boundary the one in effect.
func (c *counter) settle(tick uint64) {
	if c.next != 0 && tick >= c.nextAt {
		c.base, c.n = c.start()
		c.next = 0
		c.null = false
	}
}

// start returns base and count after the pending boundary. In mode 3 this may
// be the middle of a wave, where the new low half begins.
func (c *counter) start() (base uint64, n uint32) {
	base = c.nextAt
	if c.mode() == 3 && (c.nextAt-c.base)%uint64(c.n) != 0 {
		base -= uint64(highHalf(c.next))
	}
	return base, c.next
}

// highHalf is how long mode 3 keeps OUT high (82C54, mode 3: odd counts).
func highHalf(n uint32) uint32 { return (n + 1) / 2 }

// elapsed returns the ticks since the load; zero while it is still to come.
func (c *counter) elapsed(tick uint64) uint64 {
	if !c.loaded || (!c.gate && !c.waits()) {
		return c.held
	}
	if tick < c.base {
		return 0
	}
	return tick - c.base
}

// out returns the level of OUT. Preconditions: settled.
func (c *counter) out(tick uint64) bool {
	mode := c.mode()
	if !c.loaded || (c.periodic() && (!c.gate || c.n == 1)) {
		return mode != 0
	}
	e, n := c.elapsed(tick), uint64(c.n)
	started := tick >= c.base
	switch mode {
	case 0:
		return e >= n
	case 1:
		return !started || e >= n
	case 2:
		return e%n != n-1
	case 3:
		return e%n < uint64(highHalf(c.n))
	default:
		return !started || e != n
	}
}

// count returns the counting element. Preconditions: settled.
func (c *counter) count(tick uint64) uint16 {
	e, n, m := c.elapsed(tick), uint64(c.n), uint64(c.modulus())
	var v uint64
	switch c.mode() {
	case 2:
		v = n - e%n
	case 3:
		// It counts by two, from the even part of n, once for each half.
		p, half := e%n, uint64(highHalf(c.n))
		if p >= half {
			p -= half
		}
		v = n&^1 - 2*p
	default:
		v = n + m - e%m
	}
	v %= m
	if c.control&cwBCD == 0 {
		return uint16(v)
	}
	return uint16(v/1000<<12 | v/100%10<<8 | v/10%10<<4 | v%10)
}

// rise returns the first tick after the given one at which OUT rises.
// Preconditions: settled.
func (c *counter) rise(tick uint64) uint64 {
	if !c.loaded || (!c.gate && !c.waits()) {
		return never
	}
	at := c.riseFrom(c.base, c.n, tick)
	if c.next != 0 && at > c.nextAt {
		base, n := c.start()
		at = c.riseFrom(base, n, max(tick, c.nextAt))
	}
	return at
}

func (c *counter) riseFrom(base uint64, n uint32, tick uint64) uint64 {
	at := base + uint64(n)
	switch c.mode() {
	case 2, 3:
		if n == 1 {
			return never // an illegal count; OUT stays high here
		}
		if tick >= at {
			at += (tick - at + uint64(n)) / uint64(n) * uint64(n)
		}
	case 4, 5:
		at++
	}
	if at <= tick {
		return never
	}
	return at
}

// setControl begins a new programming (82C54, "Control Word Format").
func (c *counter) setControl(v uint8) {
	*c = counter{control: v & cwKeep, gate: c.gate, n: c.n, null: true}
}

// setCount makes a complete count effective as the mode demands.
func (c *counter) setCount(raw uint16, tick uint64) {
	n := uint32(raw)
	if c.control&cwBCD != 0 {
		// Nibbles above nine are not defined; they keep their weight here.
		n = uint32((raw>>12)*1000+(raw>>8&15)*100+(raw>>4&15)*10+raw&15) % c.modulus()
	}
	if n == 0 {
		n = c.modulus()
	}
	c.initial = n
	c.null = true
	switch {
	case c.waits():
	case c.periodic() && c.loaded && c.gate && tick >= c.base:
		c.next = n
		c.nextAt = c.boundary(tick)
	case c.periodic() && !c.gate:
		// The rising gate loads it.
	default:
		c.load(tick)
	}
}

// boundary returns where a new count takes over: the end of the period in mode
// 2, of the half-wave in mode 3.
func (c *counter) boundary(tick uint64) uint64 {
	n := uint64(c.n)
	begin := tick - (tick-c.base)%n
	half := uint64(highHalf(c.n))
	if c.mode() == 3 && tick-begin < half {
		return begin + half
	}
	return begin + n
}

// load moves the initial count into the counting element at the next clock.
func (c *counter) load(tick uint64) {
	c.loaded = true
	c.null = false
	c.n = c.initial
	c.base = tick + 1
	c.held = 0
	c.next = 0
}

// setGate drives the GATE input (82C54 figure 22). Preconditions: settled.
func (c *counter) setGate(high bool, tick uint64) {
	if c.gate == high {
		return
	}
	if !high {
		c.held = c.elapsed(tick)
		c.gate = false
		if c.periodic() {
			c.next = 0
		}
		return
	}
	c.gate = true
	switch {
	case c.initial == 0:
	case c.periodic() || c.waits():
		c.load(tick)
	default:
		c.base = tick - c.held
	}
}
