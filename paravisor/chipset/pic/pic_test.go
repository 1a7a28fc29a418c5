package pic

import (
	"slices"
	"sync"
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

const (
	eoi         = 0x20
	specificEOI = 0x60
	rotateEOI   = 0xa0
	rotateSpec  = 0xe0
	setPriority = 0xc0
	rotateAEOI  = 0x80
	readIRR     = 0x0a
	readISR     = 0x0b
	pollCmd     = 0x0c
	specialOn   = 0x68
	specialOff  = 0x48
)

type bench struct {
	*PIC
	t   *testing.T
	out irq.Recorder
}

// newBench returns a pair that was initialized as PCs do: vectors 20h and 28h,
// all inputs unmasked, the given ICW4.
func newBench(t *testing.T, icw4 uint8) *bench {
	t.Helper()
	b := &bench{t: t}
	b.PIC = New(&b.out)
	for _, c := range []struct {
		p    *ports
		icws [4]uint8
	}{
		{&ports{b.PIC, &b.master}, [4]uint8{0x11, 0x20, 0x04, icw4}},
		{&ports{b.PIC, &b.slave}, [4]uint8{0x11, 0x28, 0x02, icw4}},
	} {
		c.p.WritePIO(0, 1, uint32(c.icws[0]))
		for _, v := range c.icws[1:] {
			c.p.WritePIO(1, 1, uint32(v))
		}
		c.p.WritePIO(1, 1, 0)
	}
	return b
}

func (b *bench) cmd(v uint8)      { b.Master().WritePIO(0, 1, uint32(v)) }
func (b *bench) slaveCmd(v uint8) { b.Slave().WritePIO(0, 1, uint32(v)) }
func (b *bench) mask(v uint16) {
	b.Master().WritePIO(1, 1, uint32(v))
	b.Slave().WritePIO(1, 1, uint32(v>>8))
}

func (b *bench) pulse(inputs ...int) {
	for _, n := range inputs {
		irq.Pulse(b.Line(n))
	}
}

// expect acknowledges and compares with the vector of the given input.
// pending is what the resolver says, to compare with the wire.
func (b *bench) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.master.request() != none
}

func (b *bench) expect(what string, input int) {
	b.t.Helper()
	if !b.out.High() || !b.pending() {
		b.t.Errorf("%s: INTR is low, want input %d", what, input)
	}
	if got := b.Acknowledge(); got != irq.Vector(0x20+input) {
		b.t.Errorf("%s: vector %#x, want %#x", what, got, 0x20+input)
	}
}

func (b *bench) expectNone(what string) {
	b.t.Helper()
	if b.out.High() || b.pending() {
		b.t.Errorf("%s: INTR is high", what)
	}
}

func TestResetMasksAll(t *testing.T) {
	b := &bench{t: t}
	b.PIC = New(&b.out)
	for n := range Inputs {
		b.pulse(n)
	}
	b.expectNone("after reset")
	if got := b.Acknowledge(); got != resetMasterBase|spurious {
		t.Errorf("spurious vector %#x", got)
	}
	b = newBench(t, 1)
	b.pulse(3)
	b.Reset()
	b.expectNone("reset with a request")
	if got := b.Master().ReadPIO(1, 1); got != 0xff {
		t.Errorf("IMR after reset = %#x", got)
	}
}

// Fully nested mode: priorities 0, 1, 8-15 (through the cascade), 3-7.
func TestFullyNestedOrder(t *testing.T) {
	b := newBench(t, 1)
	order := []int{0, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7}
	for _, n := range slices.Backward(order) {
		b.pulse(n)
	}
	for _, n := range order {
		b.expect("in order", n)
		b.expectNone("lower priorities wait for EOI")
		if n >= 8 {
			b.slaveCmd(eoi)
		}
		b.cmd(eoi)
	}
	b.expectNone("all served")
}

func TestHigherPriorityNests(t *testing.T) {
	b := newBench(t, 1)
	b.pulse(5)
	b.expect("first", 5)
	b.pulse(6)
	b.expectNone("lower")
	b.pulse(1)
	b.expect("higher", 1)
	b.cmd(readISR)
	if got := b.Master().ReadPIO(0, 1); got != 1<<5|1<<1 {
		t.Errorf("ISR = %#x", got)
	}
	b.cmd(readIRR)
	if got := b.Master().ReadPIO(0, 1); got != 1<<6 {
		t.Errorf("IRR = %#x", got)
	}
	b.cmd(eoi)
	b.expectNone("5 still in service")
	b.cmd(specificEOI | 5)
	b.expect("after both", 6)
}

func TestEdgeNeedsNewEdgeAndLevelDoesNot(t *testing.T) {
	b := newBench(t, 1)
	b.Line(5).SetLevel(true)
	b.expect("edge", 5)
	b.cmd(eoi)
	b.expectNone("no new edge")
	b.Line(5).SetLevel(false)
	b.ELCR().WritePIO(0, 2, 1<<5|1<<10)
	b.Line(10).SetLevel(true)
	for range 2 {
		b.expect("level", 10)
		b.slaveCmd(eoi)
		b.cmd(eoi)
	}
	b.Line(10).SetLevel(false)
	b.expectNone("level gone")
	b.Line(5).SetLevel(true)
	b.ELCR().WritePIO(0, 1, 0)
	b.Line(5).SetLevel(false)
}

func TestELCRMask(t *testing.T) {
	b := newBench(t, 1)
	b.ELCR().WritePIO(0, 2, 0xffff)
	if got := b.ELCR().ReadPIO(0, 2); got != 0xdef8 {
		t.Errorf("ELCR = %#x, want 0xdef8", got)
	}
}

func TestSpurious(t *testing.T) {
	b := newBench(t, 1)
	b.ELCR().WritePIO(0, 2, 1<<5|1<<10)
	b.Line(5).SetLevel(true)
	b.Line(5).SetLevel(false)
	if got := b.Acknowledge(); got != 0x27 {
		t.Errorf("spurious master vector %#x", got)
	}
	b.cmd(readISR)
	if got := b.Master().ReadPIO(0, 1); got != 0 {
		t.Errorf("a spurious interrupt is in service: %#x", got)
	}
	// The slave's request vanishes between the master's resolution and its own:
	// only a mask write that the master has not seen yet can do this.
	b.Line(10).SetLevel(true)
	b.slave.imr = 0xff
	if got := b.Acknowledge(); got != 0x2f {
		t.Errorf("spurious slave vector %#x", got)
	}
	if got := b.Master().ReadPIO(0, 1); got != 1<<Cascade {
		t.Errorf("master ISR = %#x, want the cascade", got)
	}
}

func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name string
		icw4 uint8
		run  func(b *bench)
		want []int // order in which 0, 4 and 6 are served afterwards
	}{
		{"none", 1, func(*bench) {}, []int{0, 4, 6}},
		{"on non-specific EOI", 1, func(b *bench) { b.pulse(4); b.Acknowledge(); b.cmd(rotateEOI) }, []int{6, 0, 4}},
		{"on specific EOI", 1, func(b *bench) { b.pulse(0); b.Acknowledge(); b.cmd(rotateSpec) }, []int{4, 6, 0}},
		{"set priority", 1, func(b *bench) { b.cmd(setPriority | 5) }, []int{6, 0, 4}},
		{"in automatic EOI", 3, func(b *bench) { b.cmd(rotateAEOI); b.pulse(4); b.Acknowledge(); b.cmd(0) }, []int{6, 0, 4}},
		{"automatic EOI without it", 3, func(b *bench) { b.pulse(4); b.Acknowledge() }, []int{0, 4, 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.icw4)
			c.run(b)
			b.pulse(0, 4, 6)
			for _, n := range c.want {
				b.expect(c.name, n)
				b.cmd(eoi)
			}
		})
	}
}

func TestSpecialMaskMode(t *testing.T) {
	b := newBench(t, 1)
	b.pulse(3)
	b.expect("first", 3)
	b.mask(1 << 3)
	b.pulse(6)
	b.expectNone("service inhibits lower priorities")
	b.cmd(specialOn)
	b.expect("special mask lets them pass", 6)
	b.cmd(eoi)
	b.cmd(eoi) // must leave the masked bit
	b.cmd(readISR)
	if got := b.Master().ReadPIO(0, 1); got != 1<<3 {
		t.Errorf("ISR = %#x", got)
	}
	b.cmd(specialOff)
	b.cmd(eoi)
	if got := b.Master().ReadPIO(0, 1); got != 0 {
		t.Errorf("ISR after leaving special mask mode = %#x", got)
	}
}

func TestSpecialFullyNested(t *testing.T) {
	for _, c := range []struct {
		icw4 uint8
		nest bool
	}{{0x01, false}, {0x11, true}} {
		b := newBench(t, c.icw4)
		b.pulse(12)
		b.expect("slave", 12)
		b.pulse(8)
		if b.pending() != c.nest {
			t.Errorf("ICW4 %#x: a higher slave input nests: %v", c.icw4, !c.nest)
		}
		b.pulse(4)
		if c.nest {
			b.expect("nested", 8)
		}
		b.expectNone("lower master inputs wait")
	}
}

func TestPoll(t *testing.T) {
	b := newBench(t, 1)
	b.cmd(pollCmd)
	if got := b.Master().ReadPIO(0, 1); got != 0 {
		t.Errorf("poll without a request = %#x", got)
	}
	b.pulse(3, 9)
	b.cmd(pollCmd)
	if got := b.Master().ReadPIO(0, 1); got != pollPending|Cascade {
		t.Errorf("poll = %#x", got)
	}
	b.slaveCmd(pollCmd)
	if got := b.Slave().ReadPIO(1, 1); got != pollPending|1 {
		t.Errorf("slave poll = %#x", got)
	}
	b.expectNone("in service")
	if got := b.Slave().ReadPIO(1, 1); got != 0 {
		t.Errorf("second read = %#x, want the mask", got)
	}
}

// Linux probes for a PIC by writing a mask and reading it back.
func TestMaskReadsBackAndInitialization(t *testing.T) {
	b := newBench(t, 1)
	b.mask(0xfffb)
	if m, s := b.Master().ReadPIO(1, 1), b.Slave().ReadPIO(1, 1); m != 0xfb || s != 0xff {
		t.Errorf("masks %#x %#x", m, s)
	}
	// ICW1 clears mask, services and edges; without IC4 it ends after ICW3.
	b.mask(0)
	b.pulse(5)
	b.Acknowledge()
	b.pulse(6)
	m := b.Master()
	m.WritePIO(0, 1, 0x10)
	b.expectNone("while initializing")
	m.WritePIO(1, 1, 0x4f)
	m.WritePIO(1, 1, 0x04)
	m.WritePIO(1, 1, 0x0a) // OCW1 already
	if got := m.ReadPIO(1, 1); got != 0x0a {
		t.Errorf("IMR = %#x", got)
	}
	b.expectNone("edges are forgotten")
	b.pulse(5)
	if got := b.Acknowledge(); got != 0x4d {
		t.Errorf("vector %#x, want base 48h + 5", got)
	}
	// A single chip expects no ICW3.
	m.WritePIO(0, 1, 0x12)
	m.WritePIO(1, 1, 0x60)
	m.WritePIO(1, 1, 0xee)
	if got := m.ReadPIO(1, 1); got != 0xee {
		t.Errorf("IMR of a single chip = %#x", got)
	}
}

// A receiver may acknowledge from inside its SetLevel, and many goroutines may
// drive lines: the last level shown is the right one.
func TestConcurrentLinesSettle(t *testing.T) {
	b := newBench(t, 3)
	b.PIC.out = irq.LineFunc(func(high bool) {
		b.out.SetLevel(high)
		if high {
			b.Acknowledge()
		}
	})
	var wg sync.WaitGroup
	for _, n := range []int{1, 4, 9, 14} {
		wg.Go(func() {
			for range 1000 {
				b.pulse(n)
			}
		})
	}
	wg.Wait()
	b.expectNone("all acknowledged")
}

func TestUnconnectedInputs(t *testing.T) {
	b := newBench(t, 1)
	for _, n := range []int{-1, Cascade, Inputs} {
		b.Line(n).SetLevel(true)
	}
	b.expectNone("lines that lead nowhere")
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench(t, 1)
	m, e, l := b.Master(), b.ELCR(), b.Line(4)
	if n := testing.AllocsPerRun(100, func() {
		l.SetLevel(true)
		l.SetLevel(false)
		b.Acknowledge()
		m.WritePIO(0, 1, eoi)
		m.ReadPIO(0, 2)
		e.WritePIO(0, 2, e.ReadPIO(0, 2))
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(chiptest.Write(nil, 0, 0, pollCmd), uint16(0x11))
	f.Add(chiptest.Write(chiptest.Write(nil, 2, 0, 0xff), 1, 0, rotateEOI), uint16(0x4001))
	f.Fuzz(func(t *testing.T, data []byte, levels uint16) {
		b := newBench(t, 1)
		for n := range Inputs {
			b.Line(n).SetLevel(levels>>n&1 != 0)
		}
		chiptest.Play(data, &irq.ManualClock{},
			chiptest.Window{Device: b.Master(), Length: PortCount},
			chiptest.Window{Device: b.Slave(), Length: PortCount},
			chiptest.Window{Device: b.ELCR(), Length: ELCRCount})
		if b.out.High() != b.pending() {
			t.Error("INTR is not what the resolver says")
		}
		// A request is either acknowledged within 8 levels of nesting on each
		// chip or stays a level; edges cannot repeat.
		b.ELCR().WritePIO(0, 2, 0)
		for range 4 * Inputs {
			if !b.pending() {
				return
			}
			b.Acknowledge()
		}
		t.Error("edge-triggered requests never end")
	})
}
