package guest

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// param returns the value of a kernel parameter, or "".
func param(cmdline, name string) string {
	for f := range strings.FieldsSeq(cmdline) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return v
		}
	}
	return ""
}

// parseCPUList reads a list such as "0-2,5".
func parseCPUList(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		b, err := strconv.Atoi(last)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		for ; a <= b; a++ {
			cpus = append(cpus, a)
		}
	}
	return cpus, nil
}

// interrupts maps the rows of /proc/interrupts to their counts for each column of
// a CPU. A row has its first word as key ("NMI", "4"), a device's row also the
// name of its action ("ttyS0").
type interrupts map[string][]uint64

func parseInterrupts(text string) interrupts {
	rows := interrupts{}
	head, rest, _ := strings.Cut(text, "\n")
	columns := len(strings.Fields(head))
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var counts []uint64
		for _, word := range f[1:] {
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil || len(counts) == columns {
				break
			}
			counts = append(counts, n)
		}
		rows[strings.TrimSuffix(f[0], ":")] = counts
		rows[f[len(f)-1]] = counts
	}
	return rows
}

func readInterrupts() (interrupts, error) {
	text, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return nil, err
	}
	return parseInterrupts(string(text)), nil
}

// sum adds up the counts of a row over all CPUs.
func (i interrupts) sum(row string) (total uint64) {
	for _, n := range i[row] {
		total += n
	}
	return total
}

// calls returns the function call interrupts taken. TLB flushes are such calls, and
// Linux 5.10 counts them in their own row alone, where 6.1 counts them in both.
func (i interrupts) calls() uint64 { return i.sum("CAL") + i.sum("TLB") }

// onCPU runs f on a thread that is bound to the CPU. The thread ends with it.
func onCPU(cpu int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := bind(cpu); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// bind moves the calling thread to the CPU.
func bind(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to CPU %d: %w", cpu, err)
	}
	return nil
}

// monotonic returns CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// waitFor polls cond until it holds; a wait of limit is a stall.
func waitFor(what string, limit time.Duration, cond func() (bool, error)) error {
	for begin := monotonic(); ; time.Sleep(time.Millisecond) {
		ok, err := cond()
		if ok || err != nil {
			return err
		}
		if monotonic()-begin > limit {
			return fmt.Errorf("%s: stalled for %v", what, limit)
		}
	}
}

// acpiTable returns a table that the firmware gave to the kernel.
func acpiTable(signature string) ([]byte, error) {
	table, err := os.ReadFile("/sys/firmware/acpi/tables/" + signature)
	if err != nil {
		return nil, err
	}
	if len(table) < 44 {
		return nil, fmt.Errorf("ACPI table %s has %d bytes", signature, len(table))
	}
	return table, nil
}

var le = binary.LittleEndian
