package rtc

import (
	"testing"
	"time"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

const second = int64(time.Second)

// start lies 0.25 s into a second, on Saturday afternoon.
var start = time.Date(2026, 2, 28, 15, 59, 58, 250_000_000, time.UTC)

type bench struct {
	*RTC
	t     *testing.T
	line  irq.Recorder
	clock irq.ManualClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	b.clock.Advance(12345)
	b.RTC = New(&b.line, &b.clock, func() time.Time { return start })
	return b
}

func (b *bench) in(index uint8) uint8 {
	b.WritePIO(0, 1, uint32(index))
	return uint8(b.ReadPIO(1, 1))
}

// out writes index and data with one word access.
func (b *bench) out(index, v uint8) { b.WritePIO(0, 2, uint32(v)<<8|uint32(index)) }

func (b *bench) expect(what string, index, want uint8) {
	b.t.Helper()
	if got := b.in(index); got != want {
		b.t.Errorf("%s: byte %#x = %#02x, want %#02x", what, index, got, want)
	}
}

// timeIndices orders the clock's bytes as the tables below list them.
var timeIndices = [8]uint8{
	regSeconds, regMinutes, regHours, regWeekday, regDay, regMonth, regYear, CenturyIndex,
}

func (b *bench) expectTime(what string, want [8]uint8) {
	b.t.Helper()
	for i, index := range timeIndices {
		b.expect(what, index, want[i])
	}
}

func TestPowerOnAndReset(t *testing.T) {
	b := newBench(t)
	for range 2 {
		b.expect("A", regA, 0x26)
		b.expect("B", regB, b24Hour)
		b.expect("C", regC, 0)
		b.expect("D", regD, dVRT)
		b.out(regB, b24Hour|bPIE|bAIE|bUIE|bSQWE)
		b.clock.Advance(2 * second)
		if !b.line.High() {
			t.Error("no interrupt")
		}
		b.Reset()
		if b.line.High() {
			t.Error("interrupt survives reset")
		}
	}
}

// Table 3 of the datasheet: the same time in each format.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		name string
		b    uint8
		want [8]uint8
	}{
		{"BCD 24 h", b24Hour, [8]uint8{0x58, 0x59, 0x15, 7, 0x28, 0x02, 0x26, 0x20}},
		{"BCD 12 h", 0, [8]uint8{0x58, 0x59, 0x83, 7, 0x28, 0x02, 0x26, 0x20}},
		{"binary 24 h", bBinary | b24Hour, [8]uint8{58, 59, 15, 7, 28, 2, 26, 20}},
		{"binary 12 h", bBinary, [8]uint8{58, 59, 0x83, 7, 28, 2, 26, 20}},
	} {
		b := newBench(t)
		b.out(regB, c.b)
		b.expectTime(c.name, c.want)
		// Stopping and restarting converts there and back.
		b.out(regB, c.b|bSET)
		b.expectTime(c.name+" stopped", c.want)
		b.out(regB, c.b)
		b.expectTime(c.name+" restarted", c.want)
	}
}

func TestTwelveHourClock(t *testing.T) {
	b := newBench(t)
	b.out(regB, bBinary|b24Hour)
	for h := range uint8(24) {
		b.out(regB, bBinary|b24Hour)
		b.out(regHours, h)
		b.out(regB, bBinary)
		want := (h+11)%12 + 1
		if h >= 12 {
			want |= hourPM
		}
		b.expect("12 h", regHours, want)
		b.out(regHours, want)
		b.out(regB, bBinary|b24Hour)
		b.expect("24 h", regHours, h)
	}
}

func TestTimeRunsAndCarries(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(second*3/4 - 1)
	b.expect("before the update", regSeconds, 0x58)
	b.clock.Advance(1)
	b.expect("after it", regSeconds, 0x59)
	b.clock.Advance(second + 8*3600*second)
	b.expectTime("next month", [8]uint8{0x00, 0x00, 0x00, 1, 0x01, 0x03, 0x26, 0x20})
}

// The order in which Linux sets the clock: SET, divider reset, bytes, SET off,
// divider on. The first update follows half a second later.
func TestSettingAsLinuxDoes(t *testing.T) {
	b := newBench(t)
	b.out(regB, bSET|b24Hour)
	b.out(regA, 0x76)
	want := [8]uint8{0x59, 0x59, 0x23, 3, 0x31, 0x12, 0x99, 0x25}
	for i, index := range timeIndices {
		b.out(index, want[i])
	}
	b.clock.Advance(10 * second)
	b.expectTime("stopped", want)
	b.out(regB, b24Hour)
	b.expectTime("divider still in reset", want)
	b.out(regA, 0x26)
	b.clock.Advance(second/2 - 1)
	b.expectTime("running", want)
	b.clock.Advance(1)
	b.expectTime("the next century", [8]uint8{0x00, 0x00, 0x00, 4, 0x01, 0x01, 0x00, 0x26})
}

func TestSETKeepsPhaseAndClearsUIE(t *testing.T) {
	b := newBench(t)
	b.out(regB, bSET|bUIE|b24Hour)
	b.expect("UIE cleared", regB, bSET|b24Hour)
	b.clock.Advance(5*second + second/2)
	b.out(regB, b24Hour)
	b.clock.Advance(second/4 - 1)
	b.expect("old phase", regSeconds, 0x58)
	b.clock.Advance(1)
	b.expect("update", regSeconds, 0x59)
	b.out(regMinutes, 0x10) // a single byte, without SET
	b.expect("minute", regMinutes, 0x10)
	b.expect("second", regSeconds, 0x59)
	b.clock.Advance(second)
	b.expect("carry", regMinutes, 0x11)
}

func TestUpdateInProgress(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(second*3/4 - updateWarning - 1)
	b.expect("early", regA, 0x26)
	b.clock.Advance(1)
	b.expect("warning", regA, 0x26|aUIP)
	b.clock.Advance(updateWarning - 1)
	b.expect("last moment", regA, 0x26|aUIP)
	b.clock.Advance(1)
	b.expect("updated", regA, 0x26)
	b.clock.Advance(-1 + second)
	b.out(regB, bSET|b24Hour)
	b.expect("no update is coming", regA, 0x26)
}

func TestUpdateEndedInterrupt(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(3 * second)
	b.expect("UF without enable", regC, cUF|cPF)
	b.expect("cleared by the read", regC, 0)
	b.out(regB, bUIE|b24Hour)
	for i := range uint64(3) {
		b.clock.Advance(second)
		if b.line.Edges() != i+1 || !b.line.High() {
			t.Errorf("update %d: %d edges", i, b.line.Edges())
		}
		if got := b.in(regC) &^ cPF; got != cIRQF|cUF {
			t.Errorf("C = %#x", got)
		}
	}
	b.clock.Advance(10 * second)
	if b.line.Edges() != 4 {
		t.Errorf("%d edges while C was not read, want 4", b.line.Edges())
	}
}

// Table 5: periodic interrupt rates with the 32.768 kHz time base.
func TestPeriodicRates(t *testing.T) {
	for rate, want := range []uint64{
		0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2,
	} {
		b := newBench(t)
		b.out(regA, aDividerRun|uint8(rate))
		b.out(regB, bPIE|b24Hour)
		b.in(regC)
		// The guest acknowledges each interrupt by reading C.
		b.RTC.line = irq.LineFunc(func(high bool) {
			if high {
				b.line.SetLevel(true)
				b.flags = 0
				b.line.SetLevel(false)
			}
		})
		b.line = irq.Recorder{}
		b.clock.Advance(10 * second)
		if got := b.line.Edges(); got != 10*want {
			t.Errorf("rate %d: %d interrupts in 10 s, want %d", rate, got, 10*want)
		}
	}
}

func TestLatePeriodsDoNotBurst(t *testing.T) {
	b := newBench(t)
	b.out(regB, bPIE|b24Hour)
	b.clock.Advance(second)
	if b.line.Edges() != 1 {
		t.Errorf("%d edges while C was not read, want 1", b.line.Edges())
	}
	b.expect("C", regC, cIRQF|cPF|cUF)
	b.onTimer() // a stale call finds nothing new
	if b.line.High() {
		t.Error("interrupt repeats")
	}
}

func TestAlarm(t *testing.T) {
	for _, c := range []struct {
		name    string
		h, m, s uint8
		after   int64 // seconds from start to the alarm; 0: none within two days
	}{
		{"exact", 0x16, 0x00, 0x05, 7},
		{"any hour", 0xff, 0x01, 0x00, 62},
		{"any hour and minute", 0xc0, 0xc0, 0x30, 32},
		{"every second", 0xff, 0xff, 0xff, 1},
		{"tomorrow", 0x15, 0x59, 0x58, 86400},
		{"impossible", 0x30, 0x00, 0x00, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.out(regHoursAlarm, c.h)
			b.out(regMinutesAlarm, c.m)
			b.out(regSecondsAlarm, c.s)
			b.out(regB, bAIE|b24Hour)
			if c.after == 0 {
				b.clock.Advance(2 * 86400 * second)
				if b.line.High() {
					t.Error("it rings")
				}
				return
			}
			b.clock.Advance(c.after*second - second/4 - 1)
			if b.line.High() {
				t.Error("early")
			}
			b.clock.Advance(1)
			if !b.line.High() || b.in(regC)&(cIRQF|cAF) != cIRQF|cAF {
				t.Error("it does not ring")
			}
		})
	}
}

// A guest that polls C finds an alarm that rang any time before.
func TestAlarmFlagWithoutInterrupt(t *testing.T) {
	b := newBench(t)
	b.out(regHoursAlarm, 0x12)
	b.clock.Advance(86400 * second)
	if b.in(regC)&cAF == 0 {
		t.Error("AF is clear")
	}
}

func TestRAMAndPorts(t *testing.T) {
	b := newBench(t)
	b.out(0x34, 0x5a)
	b.Reset()
	b.expect("kept by the battery", 0x34, 0x5a)
	b.out(regC, 0xff)
	b.out(regD, 0)
	b.expect("D is read-only", regD, dVRT)
	b.WritePIO(0, 1, 0x80|0x34) // bit 7 masks NMIs and is no part of the index
	if got := b.ReadPIO(0, 2); got != 0x5aff {
		t.Errorf("ports read %#x, want 0x5aff", got)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench(t)
	if n := testing.AllocsPerRun(100, func() {
		b.in(regHours)
		b.in(regC)
		b.out(regMinutes, 0x10)
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	seed := chiptest.Write(nil, 0, portIndex, regB)
	f.Add(chiptest.Advance(chiptest.Write(seed, 0, portData, 0x72), 1_500_000_000))
	f.Add(chiptest.Write(chiptest.Write(seed, 0, portData, bSET), 0, portData, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 60 {
			return // seconds of 8 kHz only take time
		}
		b := newBench(t)
		chiptest.Play(data, &b.clock, chiptest.Window{Device: b.RTC, Length: PortCount})
		b.expect("D", regD, dVRT)
		enabled := b.in(regB)
		if c := b.in(regC); (c&cIRQF != 0) != (c&enabled&cMask != 0) || c&0x0f != 0 {
			t.Errorf("C = %#x with B = %#x", c, enabled)
		}
		if b.line.High() {
			t.Error("reading C leaves the line high")
		}
	})
}
