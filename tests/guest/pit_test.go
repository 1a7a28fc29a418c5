package guest

import (
	"errors"
	"fmt"
	"math"
	"time"

	"keel/hcl/sys"
)

// Ports of the 8254 PIT and of port B (Intel 8254 datasheet; ICH9 datasheet, 13.7.1).
const (
	portPIT0   = 0x40
	portPIT2   = 0x42
	portPITCmd = 0x43
	portB      = 0x61

	pitHz = 1193182

	pitLatch2   = 0x80 // channel 2, counter latch
	pitOneShot0 = 0x30 // channel 0, low then high byte, mode 0
	pitOneShot2 = 0xb0 // channel 2, low then high byte, mode 0

	portBGate2   = 1 << 0
	portBSpeaker = 1 << 1
	portBOut2    = 1 << 5
)

// checkPIT measures channel 2, the one that does not interrupt: its rate by latching
// its count, then its output pin, which goes high when the count reaches zero.
func checkPIT(m *machine) (detail string, err error) {
	err = onCPU(m.cpus[0], func() error {
		if err := errors.Join(sys.AllowPorts(portPIT0, 4), sys.AllowPorts(portB, 1)); err != nil {
			return err
		}
		before := sys.InB(portB)
		defer sys.OutB(portB, before)
		sys.OutB(portB, before&^portBSpeaker|portBGate2)
		detail, err = pitRate()
		if err != nil {
			return err
		}
		if err := lowWhileCounting(); err != nil {
			return err
		}
		return waitFor("OUT2", stall, func() (bool, error) { return sys.InB(portB)&portBOut2 != 0, nil })
	})
	return detail, err
}

// lowWhileCounting looks at OUT2 while a count runs. A thread that did not run for as
// long as the count looks again.
func lowWhileCounting() error {
	const count = 0xffff * time.Second / pitHz
	for begin := monotonic(); monotonic()-begin < driftLimit; {
		loaded := monotonic()
		loadPIT2(0xffff)
		if sys.InB(portB)&portBOut2 == 0 {
			return nil
		}
		if monotonic()-loaded < count {
			return errors.New("OUT2 is high while the count runs")
		}
	}
	return fmt.Errorf("no look at OUT2 while a count runs within %v", driftLimit)
}

// pitRate measures channel 2 over a second. Its 16 bits wrap every 55 ms, and in
// mode 0 it counts on; the clock tells how often it wrapped, as long as the two
// agree to half a turn.
func pitRate() (string, error) {
	const turn = 1 << 16
	for begin := monotonic(); monotonic()-begin < driftLimit; {
		loadPIT2(0xffff)
		start := observe(latchPIT2)
		a := readPIT2()
		time.Sleep(time.Second)
		stop := observe(latchPIT2)
		b := readPIT2()
		rest := float64((a - b) % turn)
		turns := math.Round(((stop.from-start.from).Seconds()*pitHz - rest) / turn)
		counted := time.Duration((turns*turn + rest) / pitHz * float64(time.Second))
		if relative, doubt := deviation(start, stop, counted); doubt <= maxDoubt {
			return verdict("PIT channel 2", relative, doubt, counted.Round(time.Microsecond))
		}
	}
	return "", fmt.Errorf("no certain measurement within %v", driftLimit)
}

// loadPIT2 starts a count in channel 2.
func loadPIT2(count uint16) {
	sys.OutB(portPITCmd, pitOneShot2)
	sys.OutB(portPIT2, uint8(count))
	sys.OutB(portPIT2, uint8(count>>8))
}

// latchPIT2 holds the count of channel 2 for readPIT2.
func latchPIT2() { sys.OutB(portPITCmd, pitLatch2) }

// readPIT2 returns the latched count.
func readPIT2() uint32 {
	low := sys.InB(portPIT2)
	return uint32(sys.InB(portPIT2))<<8 | uint32(low)
}
