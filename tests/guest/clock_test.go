package guest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

const (
	maxDeviation = 0.005            // of a clock against another
	maxDoubt     = maxDeviation / 2 // of a measurement; one that is less certain is repeated
	driftSpan    = 10 * time.Second
	pmTimerHz    = 3579545
	driftLimit   = 90 * time.Second // a machine so busy that no measurement is good in this time has failed
)

// moment brackets an instant by two readings of CLOCK_MONOTONIC.
type moment struct{ from, to time.Duration }

// observe runs f and brackets the instant at which it acted.
func observe(f func()) moment {
	from := monotonic()
	f()
	return moment{from, monotonic()}
}

// deviation compares the time between two moments with want. It returns the
// relative difference, and how far it may be off.
func deviation(a, b moment, want time.Duration) (relative, doubt float64) {
	shortest, longest := b.from-a.to, b.to-a.from
	middle := (shortest + longest) / 2
	return float64(middle-want) / float64(want), float64(longest-shortest) / 2 / float64(want)
}

// checkDrift compares the seconds of the RTC with CLOCK_MONOTONIC.
func checkDrift(*machine) (string, error) {
	rtc, err := os.Open("/dev/rtc0")
	if err != nil {
		return "", err
	}
	defer rtc.Close()
	begin := monotonic()
	first, firstTime, err := nextSecond(rtc)
	if err != nil {
		return "", err
	}
	for {
		last, lastTime, err := nextSecond(rtc)
		if err != nil {
			return "", err
		}
		span := lastTime.Sub(firstTime)
		if span >= driftSpan {
			relative, doubt := deviation(first, last, span)
			if doubt <= maxDoubt {
				return verdict("RTC", relative, doubt, span)
			}
		}
		if monotonic()-begin > driftLimit {
			return "", fmt.Errorf("no certain measurement within %v", driftLimit)
		}
		// A first edge that was seen late spoils every pair: a better one replaces it.
		if last.to-last.from < (first.to-first.from)/2 {
			first, firstTime = last, lastTime
		}
	}
}

// nextSecond waits for the RTC's next second and returns the moment at which it
// began: after the reading that last showed the old second was asked for, and
// before the one that showed the new second came.
func nextSecond(rtc *os.File) (moment, time.Time, error) {
	begin := monotonic()
	at := moment{from: begin}
	old, err := readRTC(rtc)
	for err == nil {
		asked := monotonic()
		var now time.Time
		now, err = readRTC(rtc)
		at.to = monotonic()
		if !now.Equal(old) {
			return at, now, err
		}
		if at.to-begin > stall {
			return at, now, errors.New("the RTC stands still")
		}
		at.from = asked
		time.Sleep(2 * time.Millisecond)
	}
	return at, old, err
}

func readRTC(rtc *os.File) (time.Time, error) {
	t, err := unix.IoctlGetRTCTime(int(rtc.Fd()))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the RTC: %w", err)
	}
	return time.Date(int(t.Year)+1900, time.Month(t.Mon+1), int(t.Mday), int(t.Hour), int(t.Min), int(t.Sec), 0, time.UTC), nil
}

// verdict judges a measurement.
func verdict(what string, relative, doubt float64, span time.Duration) (string, error) {
	figures := fmt.Sprintf("deviation=%+.4f%% doubt=%.4f%% span=%v", relative*100, doubt*100, span)
	if relative > maxDeviation || relative < -maxDeviation {
		return "", fmt.Errorf("%s against CLOCK_MONOTONIC: %s", what, figures)
	}
	return figures, nil
}

// checkPMTimer measures the ACPI PM timer (ACPI 6.5, 4.8.3.3), whose port and
// width are in the FADT (5.2.9: PM_TMR_BLK at 76, Flags at 112, TMR_VAL_EXT bit 8).
func checkPMTimer(m *machine) (detail string, err error) {
	port, bits, err := pmTimer()
	if err != nil {
		return "", err
	}
	err = onCPU(m.cpus[0], func() error {
		if err := sys.AllowPorts(port, 4); err != nil {
			return err
		}
		detail, err = pmRate(port, bits)
		return err
	})
	return detail, err
}

// pmRate reads the PM timer twice, a second apart, until one measurement is certain.
func pmRate(port uint16, bits int) (string, error) {
	mask := uint32(1)<<bits - 1
	wrap := time.Duration(mask) * time.Second / pmTimerHz
	for begin := monotonic(); monotonic()-begin < driftLimit; {
		var a, b uint32
		start := observe(func() { a = sys.InL(port) })
		time.Sleep(time.Second)
		stop := observe(func() { b = sys.InL(port) })
		if stop.to-start.from > wrap {
			continue
		}
		if a == b {
			return "", fmt.Errorf("the PM timer stands still at %#x", a)
		}
		counted := time.Duration((b-a)&mask) * time.Second / pmTimerHz
		if relative, doubt := deviation(start, stop, counted); doubt <= maxDoubt {
			return verdict("PM timer", relative, doubt, counted.Round(time.Microsecond))
		}
	}
	return "", fmt.Errorf("no certain measurement within %v", driftLimit)
}

// pmTimer returns the PM timer's port and width in bits.
func pmTimer() (port uint16, bits int, err error) {
	fadt, err := acpiTable("FACP")
	if err != nil {
		return 0, 0, err
	}
	if len(fadt) < 116 || le.Uint32(fadt[76:]) == 0 {
		return 0, 0, errors.New("the FADT names no PM timer")
	}
	bits = 24
	if le.Uint32(fadt[112:])&(1<<8) != 0 {
		bits = 32
	}
	return uint16(le.Uint32(fadt[76:])), bits, nil
}
