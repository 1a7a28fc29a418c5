package pm

import (
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

type bench struct {
	*PM
	t     *testing.T
	sci   irq.Recorder
	clock irq.ManualClock
	slept []uint8
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	b.PM = New(&b.sci, &b.clock, func(typ uint8) {
		b.ReadPIO(ControlOffset, 2) // the callback may use the chip
		b.slept = append(b.slept, typ)
	})
	return b
}

func (b *bench) expect(what string, offset uint16, size int, want uint32) {
	b.t.Helper()
	mask := uint32(1<<(8*size) - 1)
	if got := b.ReadPIO(offset, size) & mask; got != want {
		b.t.Errorf("%s: %#x.%d = %#x, want %#x", what, offset, size, got, want)
	}
}

// What each register keeps when all ones are written (ACPI §4.8.3).
func TestWritableBits(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset uint16
		size   int
		want   uint32
	}{
		{"PM1_STS", EventOffset, 2, 0},
		{"PM1_EN", EventOffset + 2, 2, 0x0521}, // TMR, GBL, PWRBTN, RTC
		{"PM1_CNT", ControlOffset, 2, 0x1c03},
		{"reserved", 0x0c, 4, 0},
		{"GPE0_STS", GPE0Offset, 4, 0},
		{"GPE0_EN", GPE0Offset + 4, 4, 0xffffffff},
	} {
		b := newBench(t)
		b.WritePIO(c.offset, c.size, 0xffffffff)
		b.expect(c.name, c.offset, c.size, c.want)
		b.Reset()
		want := uint32(0)
		if c.offset == ControlOffset {
			want = cntSCIEnable
		}
		b.expect(c.name+" after reset", c.offset, c.size, want)
	}
}

func TestByteLanes(t *testing.T) {
	b := newBench(t)
	b.WritePIO(EventOffset+3, 1, 0x01)
	b.expect("PM1_EN high byte", EventOffset+2, 2, pm1PowerButton)
	b.WritePIO(EventOffset, 4, pm1Global<<16)
	b.expect("PM1_EN by dword", EventOffset+2, 2, pm1Global)
	b.WritePIO(GPE0Offset+5, 2, 0xabcd)
	b.expect("unaligned GPE0_EN", GPE0Offset+4, 4, 0x00abcd00)
	b.expect("across registers", GPE0Offset+3, 4, 0xabcd0000)
	b.expect("enable and control", EventOffset+2, 4, cntSCIEnable<<16|pm1Global)
}

// Operating systems read each fixed enable back and give an event up whose bit
// does not stick.
func TestFixedEnables(t *testing.T) {
	for _, bit := range []uint32{1 << 0, 1 << 5, 1 << 8, 1 << 10} {
		b := newBench(t)
		b.WritePIO(EventOffset+2, 2, bit)
		b.expect("enabled", EventOffset+2, 2, bit)
		if b.sci.High() {
			t.Errorf("enable %#x alone raises the SCI", bit)
		}
		b.WritePIO(EventOffset+2, 2, 0)
		b.expect("disabled", EventOffset+2, 2, 0)
	}
}

func TestPowerButton(t *testing.T) {
	b := newBench(t)
	b.PowerButton()
	if b.sci.High() {
		t.Error("SCI without enable")
	}
	b.WritePIO(EventOffset+2, 2, pm1PowerButton)
	if !b.sci.High() {
		t.Error("no SCI")
	}
	b.expect("PM1_STS", EventOffset, 2, pm1PowerButton)
	b.WritePIO(EventOffset, 2, pm1Timer) // another bit
	if !b.sci.High() {
		t.Error("SCI ends without its status being cleared")
	}
	b.WritePIO(EventOffset, 2, pm1PowerButton)
	if b.sci.High() {
		t.Error("SCI stays")
	}
}

func TestGPE(t *testing.T) {
	b := newBench(t)
	b.WritePIO(GPE0Offset+4, 4, 1<<17)
	for _, n := range []int{-1, 3, GPECount} {
		b.RaiseGPE(n)
	}
	b.expect("GPE0_STS", GPE0Offset, 4, 1<<3)
	if b.sci.High() {
		t.Error("SCI for an event that is not enabled")
	}
	b.RaiseGPE(17)
	if !b.sci.High() {
		t.Error("no SCI")
	}
	b.WritePIO(GPE0Offset+2, 1, 1<<1)
	b.expect("cleared", GPE0Offset, 4, 1<<3)
	if b.sci.High() {
		t.Error("SCI stays")
	}
}

func TestSleep(t *testing.T) {
	b := newBench(t)
	const s5 = SleepTypeS5 << cntSleepTypeShift
	b.WritePIO(ControlOffset, 2, s5) // Linux writes the type first
	if len(b.slept) != 0 {
		t.Fatal("slept without SLP_EN")
	}
	b.WritePIO(ControlOffset, 2, s5|cntSleepEnable)
	b.WritePIO(ControlOffset+1, 1, (1<<cntSleepTypeShift|cntSleepEnable)>>8)
	if len(b.slept) != 2 || b.slept[0] != SleepTypeS5 || b.slept[1] != 1 {
		t.Errorf("slept with types %v", b.slept)
	}
	b.expect("SLP_EN is write-only", ControlOffset, 2, 1<<cntSleepTypeShift|cntSCIEnable)
}

func TestTimerCounts(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(1_000_000_000)
	b.expect("after 1 s", TimerOffset, 4, 3579545)
	b.expect("its upper half", TimerOffset+2, 2, 3579545>>16)
	b.Reset()
	b.clock.Advance(1_200_000_000_000)
	b.expect("after 1201 s", TimerOffset, 4, 1201*3579545%(1<<32))
}

func TestTimerOverflow(t *testing.T) {
	b := newBench(t)
	to := func(at int64) { b.clock.Advance(at - b.clock.Now()) }
	to(TimerFrequency.Nanos(1 << 31))
	b.expect("TMR_STS without enable", EventOffset, 2, pm1Timer)
	b.WritePIO(EventOffset, 2, pm1Timer)
	b.WritePIO(EventOffset+2, 2, pm1Timer)
	for i := range uint64(3) {
		at := TimerFrequency.Nanos((i + 2) << 31)
		to(at - 1)
		if b.sci.High() {
			t.Errorf("overflow %d comes early", i)
		}
		to(at)
		if !b.sci.High() || b.sci.Edges() != i+1 {
			t.Errorf("overflow %d: SCI %v after %d edges", i, b.sci.High(), b.sci.Edges())
		}
		b.WritePIO(EventOffset, 2, pm1Timer)
	}
}

func TestAccessesDoNotAllocate(t *testing.T) {
	b := newBench(t)
	if n := testing.AllocsPerRun(100, func() {
		b.ReadPIO(TimerOffset, 4)
		b.ReadPIO(EventOffset, 4)
		b.WritePIO(EventOffset, 4, pm1Timer<<16)
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(chiptest.Write(nil, 0, EventOffset+2, 0xff))
	f.Add(chiptest.Advance(chiptest.Write(nil, 0, ControlOffset+1, 0x3c), 1<<30))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench(t)
		b.PowerButton()
		b.RaiseGPE(7)
		chiptest.Play(data, &b.clock, chiptest.Window{Device: b.PM, Length: BlockSize})
		status, enable := uint16(b.ReadPIO(EventOffset, 2)), uint16(b.ReadPIO(EventOffset+2, 2))
		gpe := b.ReadPIO(GPE0Offset, 4) & b.ReadPIO(GPE0Offset+4, 4)
		if status&^pm1StatusMask != 0 || b.ReadPIO(ControlOffset, 1)&cntSCIEnable == 0 {
			t.Errorf("status %#x", status)
		}
		if want := status&enable != 0 || gpe != 0; b.sci.High() != want {
			t.Errorf("SCI %v, want %v", b.sci.High(), want)
		}
	})
}
