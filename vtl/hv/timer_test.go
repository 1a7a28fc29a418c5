package hv

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/hv"
)

// Configurations as guests write them.
const (
	directTimer  = hv.STIMER_DIRECT | stimerIRQ<<hv.STIMER_VECTOR_SHIFT
	messageTimer = vmbusSINT << hv.STIMER_SINT_SHIFT
)

func TestOneShot(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config uint64
	}{
		{"direct", directTimer | hv.STIMER_AUTO_ENABLE},
		{"message", messageTimer | hv.STIMER_AUTO_ENABLE},
		{"lazy", messageTimer | hv.STIMER_AUTO_ENABLE | hv.STIMER_LAZY},
	} {
		g := newRig(t, 2)
		g.synic(1)
		for n := range uint64(3) {
			at := (n+1)*1000 + 5
			g.write(1, hv.MSR_STIMER0_CONFIG+2, tt.config)
			g.write(1, hv.MSR_STIMER0_COUNT+2, at)
			check(t, tt.name+": enabled", g.read(1, hv.MSR_STIMER0_CONFIG+2), tt.config|hv.STIMER_ENABLED)
			// Clock and reference time may differ by the rounding of one unit.
			g.advance(int64(at)*100 - 101 - g.clock.Now())
			check(t, tt.name+": interrupts too early", len(g.rec.take(1)), 0)
			g.advance(1_000)
			check(t, tt.name+": interrupts", len(g.rec.take(1)), 1)
			check(t, tt.name+": enabled after it", g.read(1, hv.MSR_STIMER0_CONFIG+2), tt.config)
			check(t, tt.name+": deadline after it", g.TimerDeadline(1), 0)
			if tt.config&hv.STIMER_DIRECT != 0 {
				continue
			}
			slot := g.slot(1, vmbusSINT)
			check(t, tt.name+": type", kind(slot), 0x80000010)
			p := payload(slot)
			check(t, tt.name+": size", len(p), 24)
			check(t, tt.name+": timer", binary.LittleEndian.Uint32(p), 1)
			check(t, tt.name+": expiration", binary.LittleEndian.Uint64(p[8:]), at)
			if d := binary.LittleEndian.Uint64(p[16:]); d < at || d > at+1 {
				t.Errorf("%s: delivered at %d, want %d", tt.name, d, at)
			}
			g.empty(1, vmbusSINT)
		}
		check(t, tt.name+": interrupts of the other VP", len(g.rec.take(0)), 0)
	}
}

func TestOneShotInThePastExpiresAtOnce(t *testing.T) {
	g := newRig(t, 1)
	g.advance(1e9)
	g.write(0, hv.MSR_STIMER0_COUNT, 5)
	g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_ENABLED)
	check(t, "interrupts", len(g.rec.take(0)), 1)
}

func TestWhatDisablesATimer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config uint64
		count  uint64
		runs   bool
	}{
		{"nothing", directTimer | hv.STIMER_AUTO_ENABLE, 100, true},
		{"count 0", directTimer | hv.STIMER_AUTO_ENABLE, 0, false},
		{"not enabled", directTimer, 100, false},
		{"source 0", hv.STIMER_AUTO_ENABLE, 100, false},
		{"vector 15", hv.STIMER_DIRECT | 15<<hv.STIMER_VECTOR_SHIFT | hv.STIMER_AUTO_ENABLE, 100, false},
	} {
		g := newRig(t, 1)
		g.write(0, hv.MSR_STIMER0_CONFIG, tt.config)
		g.write(0, hv.MSR_STIMER0_COUNT, tt.count)
		check(t, tt.name+": enabled", g.read(0, hv.MSR_STIMER0_CONFIG)&1 != 0, tt.runs)
		check(t, tt.name+": has a deadline", g.TimerDeadline(0) != 0, tt.runs)
	}
	g := newRig(t, 1)
	g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_AUTO_ENABLE)
	g.write(0, hv.MSR_STIMER0_COUNT, 100)
	g.write(0, hv.MSR_STIMER0_COUNT, 0)
	g.advance(1e9)
	check(t, "interrupts of a stopped timer", len(g.rec.take(0)), 0)
}

// TestPeriodicDoesNotDrift: the n-th expiry is n periods after the first, whenever
// they were noticed.
func TestPeriodicDoesNotDrift(t *testing.T) {
	const period = 2_345 // units
	g := newRig(t, 1)
	g.advance(777)
	g.write(0, hv.MSR_STIMER0_COUNT, period)
	g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	start := g.clock.Now()
	for range 1000 {
		g.advance(period*100 + 13)
	}
	want := int((g.clock.Now() - start) / (period * 100))
	if got := len(g.rec.take(0)); got < want-1 || got > want {
		t.Errorf("%d expiries, want %d", got, want)
	}
	check(t, "still enabled", g.read(0, hv.MSR_STIMER0_CONFIG)&1, 1)
	// The next one keeps the phase.
	next := g.TimerDeadline(0) - start
	if phase := next % (period * 100); phase > 300 && phase < period*100-300 {
		t.Errorf("the next expiry is %d ns out of phase", phase)
	}
}

func TestMissedPeriodsAreSkipped(t *testing.T) {
	g := newRig(t, 1)
	g.write(0, hv.MSR_STIMER0_COUNT, 10_000)
	g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	g.clock.Advance(10_000*100*7 + 50)
	check(t, "interrupts before the thread looks", len(g.rec.take(0)), 0)
	g.CheckTimers(0)
	check(t, "interrupts", len(g.rec.take(0)), 1)
	check(t, "missed", g.Stats().TimersMissed, 6)
	check(t, "deadline in periods", (g.TimerDeadline(0)+200)/1_000_000, 8)
}

// TestHostilePeriod: a period of 100 ns must not cost more than the bound allows.
func TestHostilePeriod(t *testing.T) {
	for _, count := range []uint64{1, 2, 999, minPeriod} {
		g := newRig(t, 1)
		g.synic(0)
		for i := range uint32(hv.STIMER_COUNT) {
			g.write(0, hv.MSR_STIMER0_COUNT+2*i, count)
			g.write(0, hv.MSR_STIMER0_CONFIG+2*i, directTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
		}
		g.rec.take(0)
		g.advance(minPeriod * 100 * 50)
		if n := len(g.rec.take(0)); n > 4*51 || n < 4*24 {
			t.Errorf("period %d: %d interrupts in 50 times the bound", count, n)
		}
	}
}

// TestTimerMessagesMerge: a timer has one message at a time, and it does not take
// the room of other messages.
func TestTimerMessagesMerge(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	for range queueLength + 1 {
		g.PostMessage(0, vmbusSINT, 1, nil)
	}
	g.write(0, hv.MSR_STIMER0_COUNT, 2000)
	g.write(0, hv.MSR_STIMER0_CONFIG, messageTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	g.advance(2000 * 100 * 10)
	timers, others := 0, 0
	for kind(g.slot(0, vmbusSINT)) != 0 {
		if kind(g.slot(0, vmbusSINT)) == hv.HvMessageTimerExpired {
			timers++
		} else {
			others++
		}
		g.empty(0, vmbusSINT)
	}
	check(t, "timer messages", timers, 1)
	check(t, "other messages", others, queueLength+1)
	g.advance(2000 * 100)
	check(t, "the next one", kind(g.slot(0, vmbusSINT)), hv.HvMessageTimerExpired)
}

// TestNewSettingDropsTheOldMessage: a timer that is set again before its message has
// found room does not send it any more.
func TestNewSettingDropsTheOldMessage(t *testing.T) {
	for _, register := range []uint32{hv.MSR_STIMER0_CONFIG, hv.MSR_STIMER0_COUNT} {
		g := newRig(t, 1)
		g.synic(0)
		g.PostMessage(0, vmbusSINT, 1, nil)
		g.write(0, hv.MSR_STIMER0_CONFIG, messageTimer|hv.STIMER_AUTO_ENABLE)
		g.write(0, hv.MSR_STIMER0_COUNT, 100)
		g.advance(100_000)
		g.write(0, register, 0)
		g.empty(0, vmbusSINT)
		check(t, "type", kind(g.slot(0, vmbusSINT)), 0)
	}
}

// TestTimerMessageTimes: a message that waited tells when the timer expired and when
// it arrived itself; expiries in between are part of it.
func TestTimerMessageTimes(t *testing.T) {
	g := newRig(t, 1)
	g.synic(0)
	g.PostMessage(0, vmbusSINT, 1, nil)
	g.write(0, hv.MSR_STIMER0_COUNT+6, 5000)
	g.write(0, hv.MSR_STIMER0_CONFIG+6, messageTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	first := g.vps[0].timers[3].next
	g.advance(5000 * 100 * 3)
	g.empty(0, vmbusSINT)
	p := payload(g.slot(0, vmbusSINT))
	check(t, "timer", binary.LittleEndian.Uint32(p), 3)
	check(t, "expiration", binary.LittleEndian.Uint64(p[8:]), first)
	check(t, "delivery", binary.LittleEndian.Uint64(p[16:]), g.now(0))
}

// TestFarAndWrappingCounts must neither expire nor overflow.
func TestFarAndWrappingCounts(t *testing.T) {
	for _, count := range []uint64{1 << 40, 1 << 62, 1 << 63, ^uint64(0) - 1, ^uint64(0)} {
		for _, mode := range []uint64{0, hv.STIMER_PERIODIC} {
			g := newRig(t, 1)
			g.advance(1e9)
			g.write(0, hv.MSR_STIMER0_COUNT, count)
			g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|mode|hv.STIMER_ENABLED)
			if d := g.TimerDeadline(0); d <= g.clock.Now() {
				t.Errorf("count %#x: deadline %d", count, d)
			}
			g.advance(3600e9)
			check(t, "interrupts", len(g.rec.take(0)), 0)
		}
	}
}

// TestEarlyAlarm: a clock that runs ahead of the counter must not make a timer
// expire early, only look again.
func TestEarlyAlarm(t *testing.T) {
	var g *rig
	g = newRig(t, 1, func(c *Config) {
		c.TSC = func(int) uint64 { return uint64(g.clock.Now()) * 2 * 99 / 100 }
	})
	g.read(0, hv.MSR_TIME_REF_COUNT)
	g.write(0, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_AUTO_ENABLE)
	g.write(0, hv.MSR_STIMER0_COUNT, 1_000_000)
	for len(g.rec.raised[0]) == 0 && g.clock.Now() < 200e6 {
		g.advance(10_000)
	}
	if now := g.read(0, hv.MSR_TIME_REF_COUNT); now < 1_000_000 || now > 1_000_200 {
		t.Errorf("expired at reference time %d, want 1000000", now)
	}
}

// TestBackwardCounter: a guest that turns its counter far back and forward again
// keeps nobody busy.
func TestBackwardCounter(t *testing.T) {
	tsc := uint64(1) << 50
	g := newRig(t, 1, func(c *Config) { c.TSC = func(int) uint64 { return tsc } })
	for i := range uint32(hv.STIMER_COUNT) {
		g.write(0, hv.MSR_STIMER0_COUNT+2*i, 1<<(i*20))
		g.write(0, hv.MSR_STIMER0_CONFIG+2*i, directTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	}
	for _, v := range []uint64{0, ^uint64(0), 1, 1 << 63, 1 << 50} {
		tsc = v
		g.CheckTimers(0)
		g.CheckTimers(0)
		now := g.now(0)
		for i := range g.vps[0].timers {
			if tm := &g.vps[0].timers[i]; tm.enabled() && tm.next <= now {
				t.Errorf("counter %#x: timer %d is due again at once", v, i)
			}
		}
	}
}
