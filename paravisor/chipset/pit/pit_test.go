package pit

import (
	"fmt"
	"strings"
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

type bench struct {
	*PIT
	t     *testing.T
	line  irq.Recorder
	clock irq.ManualClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	b.PIT = New(&b.line, &b.clock)
	return b
}

func (b *bench) out(offset uint16, v uint8) { b.WritePIO(offset, 1, uint32(v)) }
func (b *bench) in(offset uint16) uint8     { return uint8(b.ReadPIO(offset, 1)) }
func (b *bench) port61() uint8              { return uint8(b.Speaker().ReadPIO(0, 1)) }

func (b *bench) gate2(high bool) {
	v := uint32(0)
	if high {
		v = spkGate2
	}
	b.Speaker().WritePIO(0, 1, v)
}

// ticks moves time to the start of the n-th input clock from now.
func (b *bench) ticks(n uint64) {
	k := Frequency.Ticks(b.clock.Now()) + n
	b.clock.Advance(Frequency.Nanos(k) - b.clock.Now())
}

func (b *bench) program(counter, access, mode uint8, bcd bool, count uint16) {
	cw := counter<<cwSelectShift | access<<cwAccessShift | mode<<cwModeShift
	if bcd {
		cw |= cwBCD
	}
	b.out(regControl, cw)
	if access != accessHigh {
		b.out(uint16(counter), uint8(count))
	}
	if access != accessLow {
		b.out(uint16(counter), uint8(count>>8))
	}
}

// wave returns counter 2's OUT, sampled at each of n clocks after this one.
func (b *bench) wave(n int) string {
	var w strings.Builder
	for range n {
		b.ticks(1)
		w.WriteByte("_-"[b.port61()&spkOut2/spkOut2])
	}
	return w.String()
}

// The waveforms of the 82C54 datasheet, figures 15 to 20, one character for
// each clock after the count (or, in modes 1 and 5, the trigger) was written.
func TestWaveforms(t *testing.T) {
	for _, c := range []struct {
		mode  uint8
		count uint16
		want  string
	}{
		{0, 4, "____-------"},
		{0, 1, "_----------"},
		{1, 3, "___--------"},
		{2, 3, "--_--_--_--"},
		{2, 4, "---_---_---"},
		{3, 4, "--__--__--__"},
		{3, 5, "---__---__---"},
		{3, 2, "-_-_-_-_"},
		{4, 3, "---_-------"},
		{5, 3, "---_-------"},
		{6, 3, "--_--_--_--"},
		{7, 4, "--__--__--__"},
	} {
		t.Run(fmt.Sprintf("mode%d/%d", c.mode, c.count), func(t *testing.T) {
			b := newBench(t)
			trigger := c.mode == 1 || c.mode == 5
			b.gate2(!trigger)
			b.program(2, accessBoth, c.mode, false, c.count)
			b.gate2(true)
			if got := b.wave(len(c.want)); got != c.want {
				t.Errorf("OUT = %s, want %s", got, c.want)
			}
		})
	}
}

// The counting element after each clock, from the same figures.
func TestCounts(t *testing.T) {
	for _, c := range []struct {
		mode  uint8
		bcd   bool
		count uint16
		want  []uint16
	}{
		{0, false, 4, []uint16{4, 3, 2, 1, 0, 0xffff, 0xfffe}},
		{0, true, 2, []uint16{2, 1, 0, 0x9999, 0x9998}},
		{0, true, 0, []uint16{0, 0x9999, 0x9998}},
		{0, true, 0x1001, []uint16{0x1001, 0x1000, 0x0999}},
		{0, false, 0, []uint16{0, 0xffff}},
		{2, false, 3, []uint16{3, 2, 1, 3, 2, 1}},
		{3, false, 4, []uint16{4, 2, 4, 2, 4}},
		{3, false, 5, []uint16{4, 2, 0, 4, 2, 4, 2, 0, 4, 2}},
		{4, false, 3, []uint16{3, 2, 1, 0, 0xffff}},
	} {
		b := newBench(t)
		b.gate2(true)
		b.program(2, accessBoth, c.mode, c.bcd, c.count)
		for i, want := range c.want {
			b.ticks(1)
			b.out(regControl, 2<<cwSelectShift)
			if got := uint16(b.in(2)) | uint16(b.in(2))<<8; got != want {
				t.Errorf("mode %d count %#x: clock %d reads %#x, want %#x", c.mode, c.count, i, got, want)
			}
		}
	}
}

// Figure 22: what the gate does in each mode.
func TestGate(t *testing.T) {
	for _, c := range []struct {
		mode            uint8
		low, afterwards string
	}{
		{0, "___", "__--"},  // counting stops and goes on
		{2, "---", "---_-"}, // OUT high at once, reload on rising
		{3, "---", "--__--"},
		{4, "---", "--_-"},
	} {
		b := newBench(t)
		b.gate2(true)
		b.program(2, accessLow, c.mode, false, 4)
		b.ticks(2)
		b.gate2(false)
		if got := b.wave(3); got != c.low {
			t.Errorf("mode %d, gate low: %s, want %s", c.mode, got, c.low)
		}
		b.gate2(true)
		if got := b.wave(len(c.afterwards)); got != c.afterwards {
			t.Errorf("mode %d, gate high again: %s, want %s", c.mode, got, c.afterwards)
		}
	}
	// Modes 1 and 5 start over with each rising edge.
	b := newBench(t)
	b.program(2, accessLow, 1, false, 3)
	b.gate2(true)
	b.ticks(2)
	b.gate2(false)
	b.gate2(true)
	if got := b.wave(5); got != "___--" {
		t.Errorf("retriggered one-shot: %s", got)
	}
}

// Modes 2 and 3 finish the period, or the half-wave, with the old count.
func TestNewCountAtBoundary(t *testing.T) {
	for _, c := range []struct {
		mode uint8
		want string
	}{
		{2, "--_-----_-----_"},
		{3, "-___---___--"},
	} {
		b := newBench(t)
		b.gate2(true)
		b.program(2, accessLow, c.mode, false, 4)
		b.ticks(1)
		b.out(2, 6)
		if got := b.wave(len(c.want)); got != c.want {
			t.Errorf("mode %d: %s, want %s", c.mode, got, c.want)
		}
	}
}

func TestAccessModesAndReadBack(t *testing.T) {
	b := newBench(t)
	b.program(0, accessHigh, 4, false, 0x1200)
	b.ticks(1)
	if got := b.in(0); got != 0x12 {
		t.Errorf("high byte = %#x", got)
	}
	b.program(0, accessLow, 4, false, 0x34)
	b.ticks(1)
	if got := b.in(0); got != 0x34 {
		t.Errorf("low byte = %#x", got)
	}
	b.program(0, accessBoth, 2, false, 0x1234)
	b.ticks(1)
	b.out(regControl, 3<<cwSelectShift|1<<rbSelectShift) // latch status and count
	b.ticks(100)
	b.out(regControl, 3<<cwSelectShift|1<<rbSelectShift) // ignored: not read yet
	want := []uint8{statusOut | accessBoth<<4 | 2<<1, 0x34, 0x12, 0xd0, 0x11}
	for i, w := range want {
		if got := b.in(0); got != w {
			t.Errorf("read %d = %#x, want %#x", i, got, w)
		}
	}
}

func TestStatusNullCount(t *testing.T) {
	b := newBench(t)
	status := func() uint8 {
		b.out(regControl, 3<<cwSelectShift|rbNoCount|2<<rbSelectShift)
		return b.in(1)
	}
	b.out(regControl, 1<<cwSelectShift|accessLow<<cwAccessShift|3<<cwModeShift|cwBCD)
	if got := status(); got != statusOut|statusNull|0x17 {
		t.Errorf("after the control word: %#x", got)
	}
	b.out(1, 0x20)
	if got := status(); got&statusNull == 0 {
		t.Error("count taken before the next clock")
	}
	b.ticks(1)
	if got := status(); got != statusOut|0x17 {
		t.Errorf("after the load: %#x", got)
	}
	b.out(1, 0x30)
	b.ticks(9)
	if got := status(); got&statusNull == 0 {
		t.Error("new count taken before the half-wave ended")
	}
	b.ticks(1)
	if got := status(); got != 0x17 {
		t.Errorf("in the low half: %#x", got)
	}
}

func TestPeriodicInterruptDoesNotDrift(t *testing.T) {
	for _, mode := range []uint8{2, 3} {
		b := newBench(t)
		b.program(0, accessBoth, mode, false, 4772) // 250 Hz
		edges := b.line.Edges()
		b.clock.Advance(100_000_000_000)
		if got, want := b.line.Edges()-edges, uint64(100*1193182/4772); got != want {
			t.Errorf("mode %d: %d interrupts in 100 s, want %d", mode, got, want)
		}
	}
}

func TestLatePeriodsDoNotBurst(t *testing.T) {
	b := newBench(t)
	b.program(0, accessBoth, 2, false, 1193)
	b.ticks(1193 - 10)
	edges := b.line.Edges()
	// The host is busy: the clock passes many periods before the call comes.
	late := irq.ManualClock{}
	late.Advance(b.clock.Now() + 50_000_000)
	b.PIT.clock = &late
	b.onTimer()
	b.onTimer()
	if got := b.line.Edges() - edges; got != 1 {
		t.Errorf("%d interrupts for a late alarm, want 1", got)
	}
	// The next one keeps the original phase.
	if got := (b.due - epoch - 1) % 1193; got != 0 {
		t.Errorf("next edge is %d ticks off", got)
	}
}

func TestInterruptRateIsBounded(t *testing.T) {
	b := newBench(t)
	b.program(0, accessLow, 2, false, 2)
	edges := b.line.Edges()
	b.clock.Advance(1_000_000)
	if got := b.line.Edges() - edges; got > 1_000_000/minGap+1 || got < 10 {
		t.Errorf("%d interrupts in 1 ms", got)
	}
	b.program(0, accessLow, 2, false, 1)
	edges = b.line.Edges()
	b.clock.Advance(1_000_000)
	if b.line.Edges() != edges {
		t.Error("the illegal count of 1 interrupts")
	}
}

func TestOneShotInterrupt(t *testing.T) {
	b := newBench(t)
	b.program(0, accessBoth, 0, false, 1000)
	b.ticks(1000)
	if b.line.High() {
		t.Error("OUT rises before N+1 clocks")
	}
	b.ticks(1)
	if !b.line.High() || b.line.Edges() != 1 {
		t.Errorf("high %v, %d edges", b.line.High(), b.line.Edges())
	}
	b.clock.Advance(1_000_000_000)
	if b.line.Edges() != 1 {
		t.Error("one-shot repeats")
	}
	b.out(0, 0xe8) // the first byte of a new count lowers OUT and stops counting
	if b.line.High() {
		t.Error("OUT stays high")
	}
	b.clock.Advance(1_000_000_000)
	b.out(0, 3)
	b.program(1, accessLow, 2, false, 9) // leaves counter 0 alone
	b.ticks(1001)
	if b.line.Edges() != 2 {
		t.Errorf("%d edges after reprogramming, want 2", b.line.Edges())
	}
}

func TestPort61(t *testing.T) {
	b := newBench(t)
	s := b.Speaker()
	s.WritePIO(0, 1, 0xff)
	if got := b.port61() &^ (spkRefresh | spkOut2); got != spkWritable {
		t.Errorf("port 61h = %#x", got)
	}
	toggles, last := 0, b.port61()
	for range 1800 {
		b.ticks(1)
		if v := b.port61(); (v^last)&spkRefresh != 0 {
			toggles++
			last = v
		}
	}
	if toggles != 100 {
		t.Errorf("refresh toggled %d times in 100 refresh periods", toggles)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench(t)
	b.program(0, accessBoth, 2, false, 4772)
	if n := testing.AllocsPerRun(100, func() {
		b.out(regControl, 0)
		b.ReadPIO(0, 2)
		b.port61()
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	seed := chiptest.Write(nil, 0, regControl, 0x36)
	seed = chiptest.Write(chiptest.Write(seed, 0, 0, 3), 0, 0, 0)
	f.Add(chiptest.Advance(seed, 1_000_000))
	f.Add(chiptest.Write(chiptest.Write(seed, 1, 0, 1), 0, regControl, 0xfe))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 60 {
			return // a long stretch of short periods only takes time
		}
		b := newBench(t)
		chiptest.Play(data, &b.clock, chiptest.Window{Device: b.PIT, Length: PortCount},
			chiptest.Window{Device: b.Speaker(), Length: SpeakerPortCount})
		tick := b.tick()
		b.pulse(tick)
		for i := range b.counters {
			c := &b.counters[i]
			c.settle(tick)
			rise := c.rise(tick)
			if rise == never {
				continue
			}
			// The predicted edge is one: low before, high after.
			c.settle(rise - 1)
			if c.out(rise - 1) {
				t.Errorf("counter %d mode %d n %d: high before its rise", i, c.mode(), c.n)
			}
			c.settle(rise)
			if !c.out(rise) {
				t.Errorf("counter %d mode %d n %d: low after its rise", i, c.mode(), c.n)
			}
		}
	})
}
