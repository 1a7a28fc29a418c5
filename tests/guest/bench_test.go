package guest

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// Registers of COM1 that can be read without a consequence (16550 datasheet, 8.0).
const (
	portCOM1    = 0x3f8
	portLSR     = portCOM1 + 5
	portScratch = portCOM1 + 7
)

const (
	benchRounds = 5 // of each figure; the fastest counts, so that a busy host weighs less
	benchCount  = 2000
	timerCount  = 500
)

// runBench prints what single operations cost that leave the guest. It uses what
// every PC has, so that the same payload runs beneath any VMM.
func runBench(m *machine) (string, error) {
	err := onCPU(m.cpus[0], benchPorts)
	if err == nil {
		err = onCPU(m.cpus[0], benchTimer)
	}
	if err == nil && len(m.cpus) > 1 {
		err = benchCalls(m)
	}
	return "done", err
}

// bench prints the microseconds that op takes, the best of several rounds.
func bench(name string, count int, op func() error) error {
	best := time.Duration(1<<63 - 1)
	for range benchRounds {
		begin := monotonic()
		for range count {
			if err := op(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		best = min(best, monotonic()-begin)
	}
	say(fmt.Sprintf("%s%s %.3f us", markBench, name, float64(best.Nanoseconds())/1000/float64(count)))
	return nil
}

// benchPorts measures port accesses: one exit each.
func benchPorts() error {
	pm, _, err := pmTimer()
	if err != nil {
		return err
	}
	if err := errors.Join(sys.AllowPorts(portCOM1, 8), sys.AllowPorts(pm, 4)); err != nil {
		return err
	}
	return errors.Join(
		bench("serial_read", benchCount, func() error { sys.InB(portLSR); return nil }),
		bench("serial_write", benchCount, func() error { sys.OutB(portScratch, 0x55); return nil }),
		bench("pmtimer_read", benchCount, func() error { sys.InL(pm); return nil }),
	)
}

// benchTimer measures the local APIC: arming and disarming the timer writes its
// count register twice without an interrupt, and a sleep of 50 us adds delivery of
// the interrupt, its end and the write that arms it.
func benchTimer() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	soon := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(500 * time.Microsecond))}
	var never unix.ItimerSpec
	nap := unix.NsecToTimespec(int64(50 * time.Microsecond))
	return errors.Join(
		bench("apic_timer_arm", timerCount, func() error {
			return errors.Join(unix.TimerfdSettime(fd, 0, &soon, nil), unix.TimerfdSettime(fd, 0, &never, nil))
		}),
		bench("apic_timer_sleep_50us", timerCount, func() error {
			err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &nap, nil)
			if err == unix.EINTR { // Go's runtime wanted the thread; the sleep is about over
				return nil
			}
			return err
		}),
	)
}

// benchCalls measures a function call on another CPU, which is an IPI, its delivery
// to a halted CPU and the wait for it.
func benchCalls(m *machine) error {
	fd, err := clockEvent(m.cpus[1])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var value [8]byte
	return onCPU(m.cpus[0], func() error {
		return bench("ipi_call", timerCount, func() error {
			_, err := sys.ReadNow(fd, value[:])
			return err
		})
	})
}
