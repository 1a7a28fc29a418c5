package guest

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// check is one thing that the program verifies in a guest. run returns figures
// for the result line, or why the guest failed.
type check struct {
	name     string
	minCPUs  int
	parallel bool // shares its time with the others that are
	explicit bool // runs only when named
	run      func(*machine) (string, error)
}

// checks run in this order; the parallel ones together, after the others.
var checks = []check{
	{name: CheckCPUs, run: checkCPUs},
	{name: CheckNMI, run: checkNMI},
	{name: CheckBarrier, minCPUs: 2, run: checkBarrier},
	{name: CheckSerial, run: checkSerial},
	{name: CheckDrift, parallel: true, run: checkDrift},
	{name: CheckHRTimer, parallel: true, run: checkHRTimer},
	{name: CheckCalls, minCPUs: 2, parallel: true, run: checkCalls},
	{name: CheckMigrate, minCPUs: 2, parallel: true, run: checkMigrate},
	{name: CheckPIT, parallel: true, run: checkPIT},
	{name: CheckPMTimer, parallel: true, run: checkPMTimer},
	{name: CheckReboot, explicit: true, run: checkReboot},
	{name: CheckBench, explicit: true, run: runBench},
	{name: CheckIdle, explicit: true, run: idle},
}

// machine is what the checks know of the guest they run in.
type machine struct {
	cpus    []int  // online CPUs, as the kernel numbers them
	wantVPs int    // keel.vps, 0 when absent
	tests   string // keel.test
}

// TestMain runs the guest program where it is PID 1, and unit tests elsewhere.
func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		flag.Parse()
		_ = flag.Set("test.skip", "^TestGuest$") // a flag of package testing
		os.Exit(m.Run())
	}
	say(markUserspace)
	if err := prepare(); err != nil {
		say(markResult + "FAIL init " + err.Error())
	} else {
		flag.Parse()
		_ = flag.Set("test.run", "^TestGuest$")
		m.Run()
	}
	say(markDone)
	end(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// TestGuest runs the selected checks. It is the whole program of a guest.
func TestGuest(t *testing.T) {
	m, err := thisMachine()
	if err != nil {
		say(markResult + "FAIL init " + err.Error())
		t.Fatal(err)
	}
	for _, c := range checks {
		if !m.selects(c) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if c.parallel {
				t.Parallel()
			}
			detail, err := c.run(m)
			if err != nil {
				say(markResult + "FAIL " + c.name + " " + err.Error())
				t.Fatal(err)
			}
			say(markResult + "PASS " + c.name + " " + detail)
		})
	}
}

// selects reports whether the command line asks for the check.
func (m *machine) selects(c check) bool {
	if slices.Contains(strings.Split(m.tests, ","), c.name) {
		return true
	}
	return m.tests == selectDefault && !c.explicit && len(m.cpus) >= c.minCPUs
}

// prepare makes the root file system and silences the kernel: with level 0 nothing
// but a panic interleaves with the program's lines.
func prepare() error {
	for _, m := range []struct{ source, target, fstype string }{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT)
	return os.WriteFile("/proc/sys/kernel/printk", []byte("0 4 0 7\n"), 0)
}

// thisMachine reads what the kernel says of the guest.
func thisMachine() (*machine, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, err
	}
	m := &machine{tests: param(string(cmdline), paramTest)}
	if m.tests == "" {
		m.tests = selectDefault
	}
	if v := param(string(cmdline), paramVPs); v != "" {
		if m.wantVPs, err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("%s: %w", paramVPs, err)
		}
	}
	m.cpus, err = parseCPUList(strings.TrimSpace(string(online)))
	return m, err
}

var console sync.Mutex // one line at a time

// say prints a line on the console and waits until the UART has it, so that a
// line of the kernel cannot split it.
func say(line string) {
	console.Lock()
	defer console.Unlock()
	_, _ = os.Stdout.WriteString(line + "\n") // there is nowhere to report that to
	drain()
}

// drain waits until the console's output is on its way (tcdrain).
func drain() { _ = unix.IoctlSetInt(1, unix.TCSBRK, 1) }

// end powers off or restarts the guest.
func end(how int) {
	if err := unix.Reboot(how); err != nil {
		say(markResult + "FAIL end " + err.Error())
	}
	for {
		_ = unix.Pause()
	}
}

// idle leaves the guest running until it is ended from outside.
func idle(*machine) (string, error) {
	say(markNote + "idle")
	for {
		time.Sleep(time.Hour)
	}
}
