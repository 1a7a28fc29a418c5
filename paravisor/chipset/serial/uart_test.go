package serial

import (
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

type bench struct {
	*UART
	t     *testing.T
	line  irq.Recorder
	clock irq.ManualClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	b.UART = New(&b.line, &b.clock)
	return b
}

func (b *bench) out(reg uint16, v uint8) { b.WritePIO(reg, 1, uint32(v)) }
func (b *bench) in(reg uint16) uint8     { return uint8(b.ReadPIO(reg, 1)) }

func (b *bench) expect(what string, reg uint16, want uint8) {
	b.t.Helper()
	if got := b.in(reg); got != want {
		b.t.Errorf("%s: register %d = %#02x, want %#02x", what, reg, got, want)
	}
}

func (b *bench) expectLine(what string, high bool) {
	b.t.Helper()
	if b.line.High() != high {
		b.t.Errorf("%s: line high = %v", what, !high)
	}
}

// host queues input as the reader goroutine does.
func (b *bench) host(s string) {
	b.t.Helper()
	if !b.feed(b.t.Context(), []byte(s)) {
		b.t.Fatal("input refused")
	}
}

// resetState is table III of the datasheet, as bytes read back.
var resetState = []struct {
	name string
	reg  uint16
	want uint8
}{
	{"IER", regIER, 0},
	{"IIR", regIIR, iirNone},
	{"LCR", regLCR, 0},
	{"MCR", regMCR, 0},
	{"LSR", regLSR, lsrTHREmpty | lsrTXEmpty},
	{"MSR", regMSR, msrCTS | msrDSR | msrDCD},
}

func TestReset(t *testing.T) {
	b := newBench(t)
	for range 2 {
		for _, c := range resetState {
			b.expect(c.name, c.reg, c.want)
		}
		for reg := range uint16(PortCount) {
			b.out(reg, 0x5f)
		}
		b.out(regIER, 0x0f)
		b.Reset()
		b.expectLine("after reset", false)
	}
}

func TestReadBackMasks(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name string
		reg  uint16
		want uint8
	}{{"IER", regIER, 0x0f}, {"MCR", regMCR, 0x1f}, {"SCR", regSCR, 0xff}, {"LCR", regLCR, 0xff}} {
		b.out(c.reg, 0xff)
		b.expect(c.name, c.reg, c.want)
	}
	// DLAB is set now: the divisor latch shadows data and IER.
	b.WritePIO(regData, 2, 0x1234)
	b.expect("DLL", regData, 0x34)
	b.expect("DLM", regIER, 0x12)
	b.out(regLCR, 0x03)
	b.expect("IER behind DLAB", regIER, 0x0f)
}

// A driver identifies the chip by what FCR leaves in IIR bits 6 and 7.
func TestFIFOIdentification(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ fcr, want uint8 }{
		{0x01, 0xc1}, {0xe1, 0xc1}, {0x00, 0x01}, {0xc0, 0x01},
	} {
		b.out(regIIR, c.fcr)
		b.expect("IIR", regIIR, c.want)
	}
}

// Linux's autoconfig: in loopback, OUT2 and RTS come back as DCD and CTS.
func TestLoopbackModemWires(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ mcr, msr uint8 }{
		{mcrLoop, 0},
		{mcrLoop | mcrDTR, msrDSR},
		{mcrLoop | mcrRTS, msrCTS},
		{mcrLoop | mcrOut1, msrRI},
		{mcrLoop | mcrOut2, msrDCD},
		{0x1a, 0x90},
		{0x1f, 0xf0},
	} {
		b.out(regMCR, c.mcr)
		b.in(regMSR)
		b.expect("wires", regMSR, c.msr)
	}
	b.out(regMCR, mcrLoop|mcrOut1)
	b.in(regMSR)
	b.out(regMCR, mcrLoop)
	b.expect("trailing edge of RI", regMSR, msrTrailRI)
	b.out(regMCR, mcrLoop|mcrOut1)
	b.expect("leading edge of RI", regMSR, msrRI)
}

func TestLoopbackDataAndOverrun(t *testing.T) {
	b := newBench(t)
	b.out(regMCR, mcrLoop)
	b.out(regData, 'a')
	b.out(regData, 'b')
	b.expect("LSR without FIFO", regLSR, lsrDataReady|lsrOverrun|lsrTHREmpty|lsrTXEmpty)
	b.expect("LSR clears on read", regLSR, lsrDataReady|lsrTHREmpty|lsrTXEmpty)
	b.expect("the newer character", regData, 'b')

	b.out(regIIR, fcrEnable)
	for i := range uint8(fifoDepth + 1) {
		b.out(regData, i)
	}
	b.expect("LSR with FIFO", regLSR, lsrDataReady|lsrOverrun|lsrTHREmpty|lsrTXEmpty)
	for i := range uint8(fifoDepth) {
		b.expect("FIFO", regData, i)
	}
	b.expect("empty", regLSR, lsrTHREmpty|lsrTXEmpty)
	if b.tx.n != 0 {
		t.Errorf("%d characters left the chip in loopback", b.tx.n)
	}
}

// lineBreak is a break condition on the wire, behind the input so far.
func (b *bench) lineBreak() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending.push(rxChar{errors: lsrBreak})
	b.refill()
	b.update()
}

func TestBreak(t *testing.T) {
	b := newBench(t)
	b.out(regIIR, fcrEnable)
	b.out(regIER, ierLineStatus)
	b.out(regMCR, mcrRTS|mcrOut2)
	b.host("x")
	b.lineBreak()
	b.expect("error waits behind x", regLSR, lsrDataReady|lsrTHREmpty|lsrTXEmpty|lsrFIFOError)
	b.expectLine("break queued", false)
	b.expect("data", regData, 'x')
	b.expectLine("break at the top", true)
	b.expect("IIR", regIIR, iirFIFOs|iirLineStatus)
	b.expect("LSR", regLSR, lsrDataReady|lsrBreak|lsrTHREmpty|lsrTXEmpty|lsrFIFOError)
	b.expect("IIR after LSR", regIIR, iirFIFOs|iirNone)
	b.expect("null character", regData, 0)

	b.out(regMCR, mcrLoop)
	b.out(regLCR, lcrBreak)
	b.out(regLCR, lcrBreak) // still one break, not two
	b.expect("looped", regLSR, lsrDataReady|lsrBreak|lsrTHREmpty|lsrTXEmpty|lsrFIFOError)
	b.in(regData)
	b.expect("once", regLSR, lsrTHREmpty|lsrTXEmpty)
}

// Table IV: priorities, sources and what resets each interrupt.
func TestInterruptPriorities(t *testing.T) {
	b := newBench(t)
	b.out(regIIR, fcrEnable|1<<fcrTriggerShift) // four characters
	b.out(regMCR, mcrRTS|mcrOut2|mcrLoop)
	b.out(regMCR, mcrRTS|mcrOut2) // modem wires change: deltas
	b.out(regIER, ierMask)
	b.lineBreak()
	b.host("abc")
	b.expectLine("all sources", true)
	steps := []struct {
		want  uint8
		clear func()
	}{
		{iirLineStatus, func() { b.in(regLSR) }},
		{iirReceived, func() { b.in(regData) }},
		{iirTHREmpty, func() {}}, // reading IIR itself clears it
		{iirModemStatus, func() { b.in(regMSR) }},
		{iirNone, func() {}},
	}
	for i, s := range steps {
		if got := b.in(regIIR); got != iirFIFOs|s.want {
			t.Fatalf("step %d: IIR = %#02x, want %#02x", i, got, iirFIFOs|s.want)
		}
		s.clear()
	}
	b.expectLine("all served", false)
}

func TestOUT2GatesLine(t *testing.T) {
	b := newBench(t)
	b.out(regIER, ierTHREmpty)
	b.expectLine("OUT2 low", false)
	b.out(regMCR, mcrOut2)
	b.expectLine("OUT2 high", true)
	b.out(regMCR, mcrOut2|mcrLoop)
	b.expectLine("loopback turns the pin off", false)
}

// What Linux 8250 checks at startup: each enabling of the interrupt reports an
// empty register, once, and a write raises it again.
func TestTHREmptyInterrupt(t *testing.T) {
	b := newBench(t)
	b.out(regMCR, mcrOut2)
	for range 2 {
		b.out(regIER, ierTHREmpty)
		b.expectLine("enabled", true)
		b.expect("first", regIIR, iirTHREmpty)
		b.expect("cleared by the read", regIIR, iirNone)
		b.expectLine("cleared", false)
		b.out(regIER, ierTHREmpty) // no edge of the enable bit
		b.expect("rewritten", regIIR, iirNone)
		b.out(regIER, 0)
	}
	b.out(regIER, ierTHREmpty)
	b.in(regIIR)
	edges := b.line.Edges()
	b.out(regData, 'x')
	if b.line.Edges() != edges+1 {
		t.Error("no new edge after a character was sent")
	}
}

func TestTriggerLevelsAndTimeout(t *testing.T) {
	for code, level := range triggerLevels {
		b := newBench(t)
		b.out(regIIR, fcrEnable|uint8(code)<<fcrTriggerShift)
		b.out(regIER, ierReceived)
		b.out(regMCR, mcrRTS|mcrOut2)
		for i := 1; i < level; i++ {
			b.host("x")
		}
		b.expect("below the level", regIIR, iirFIFOs|iirNone)
		b.host("x")
		b.expect("at the level", regIIR, iirFIFOs|iirReceived)
		b.expectLine("at the level", true)
		b.in(regData)
		b.expect("below again", regIIR, iirFIFOs|iirNone)
		b.clock.Advance(timeoutDelay - 1)
		b.expectLine("before the timeout", false)
		b.clock.Advance(1)
		b.expectLine("timeout", level > 1)
		if level > 1 {
			b.expect("timeout", regIIR, iirFIFOs|iirTimeout)
			b.in(regData)
			b.expectLine("a read resets it", false)
		}
	}
}

func TestTimeoutRestartsWithEachCharacter(t *testing.T) {
	b := newBench(t)
	b.out(regIIR, fcrEnable|3<<fcrTriggerShift)
	b.out(regIER, ierReceived)
	b.out(regMCR, mcrRTS|mcrOut2)
	b.host("a")
	b.clock.Advance(timeoutDelay / 2)
	b.host("b")
	b.clock.Advance(timeoutDelay - 1)
	b.expectLine("restarted", false)
	b.onTimer() // a late call of the replaced expiry
	b.expectLine("stale call", false)
	b.out(regIIR, fcrEnable|fcrClearRX|3<<fcrTriggerShift)
	b.clock.Advance(2 * timeoutDelay)
	b.expectLine("FIFO cleared", false)
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench(t)
	b.out(regMCR, mcrOut2)
	if n := testing.AllocsPerRun(100, func() {
		b.out(regData, 'x')
		b.in(regLSR)
		b.ReadPIO(regIIR, 4)
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(chiptest.Write(chiptest.Write(nil, 0, regMCR, mcrLoop), 0, regData, 'x'))
	f.Add(chiptest.Advance(chiptest.Write(nil, 0, regIIR, 0xc1), timeoutDelay))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench(t)
		b.host("typed")
		chiptest.Play(data, &b.clock, chiptest.Window{Device: b.UART, Length: PortCount})
		b.out(regLCR, 0)
		if b.in(regIER)&^ierMask != 0 || b.in(regMCR)&^mcrMask != 0 {
			t.Error("reserved bits are set")
		}
		for range fifoDepth {
			b.in(regData)
		}
		b.pending.clear()
		b.in(regData)
		b.Reset()
		for _, c := range resetState {
			b.expect(c.name, c.reg, c.want)
		}
	})
}
