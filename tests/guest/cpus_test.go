package guest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

const (
	crossCalls   = 10000
	barrierCalls = 50 // each some ten exits of every CPU, as a move is
	moves        = 50
	// stall separates a lost interrupt from a slow machine. It is no time budget:
	// what takes this long will never come.
	stall = 20 * time.Second
)

// Commands of membarrier(2).
const (
	membarrierExpedited         = 1 << 3
	membarrierRegisterExpedited = 1 << 4
)

func checkCPUs(m *machine) (string, error) {
	if m.wantVPs != 0 && len(m.cpus) != m.wantVPs {
		return "", fmt.Errorf("%d CPUs online, want %d", len(m.cpus), m.wantVPs)
	}
	if err := checkFlags(); err != nil {
		return "", err
	}
	before, err := readInterrupts()
	if err != nil {
		return "", err
	}
	// Each CPU runs a thread and gets interrupts of its own timer while it does.
	for column, cpu := range m.cpus {
		err := onCPU(cpu, func() error {
			return waitFor(fmt.Sprintf("timer of CPU %d", cpu), stall, func() (bool, error) {
				now, err := readInterrupts()
				if err != nil {
					return false, err
				}
				if len(now["LOC"]) <= column {
					return false, fmt.Errorf("/proc/interrupts has no local timer of CPU %d", cpu)
				}
				return now["LOC"][column] >= before["LOC"][column]+5, nil
			})
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("online=%d", len(m.cpus)), nil
}

// checkFlags makes sure that nothing tells the guest of a TEE.
func checkFlags() error {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	_, flags, _ := strings.Cut(string(info), "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	for f := range strings.FieldsSeq(flags) {
		if strings.HasPrefix(f, "sev") || strings.HasPrefix(f, "tdx") || f == "sme" {
			return fmt.Errorf("the CPUs have the flag %s", f)
		}
	}
	return nil
}

// checkBarrier interrupts CPUs that are busy in user mode, in the two ways in which
// a program can ask for it: membarrier, and taking away write access to a page.
func checkBarrier(m *machine) (string, error) {
	var stop atomic.Bool
	var ready, spinners sync.WaitGroup
	for _, cpu := range m.cpus[1:] {
		ready.Add(1)
		spinners.Go(func() {
			err := onCPU(cpu, func() error {
				ready.Done()
				for spins := 0; !stop.Load(); spins++ {
					continue // in user mode, without a system call
				}
				return nil
			})
			if err != nil {
				ready.Done()
			}
		})
	}
	ready.Wait()
	defer spinners.Wait()
	defer stop.Store(true)

	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterExpedited, 0, 0); errno != 0 {
		return "", fmt.Errorf("register membarrier: %w", errno)
	}
	before, err := readInterrupts()
	if err != nil {
		return "", err
	}
	// A CPU that happens to run another check instead needs no interrupt, which may last
	// for a while.
	const most = 20 * barrierCalls
	for made := barrierCalls; ; made += barrierCalls {
		if err := onCPU(m.cpus[0], barriers); err != nil {
			return "", err
		}
		now, err := readInterrupts()
		if err != nil {
			return "", err
		}
		got := now.calls() - before.calls()
		switch {
		case got >= barrierCalls:
			return fmt.Sprintf("made=%d calls=%d tlb=%d", made, now.sum("CAL")-before.sum("CAL"), now.sum("TLB")-before.sum("TLB")), nil
		case made == most:
			return "", fmt.Errorf("%d function call interrupts for %d barriers and as many TLB flushes", got, made)
		}
	}
}

// barriers interrupts the CPUs that run this program, barrierCalls times in each way.
func barriers() error {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	for range barrierCalls {
		if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierExpedited, 0, 0); errno != 0 {
			return fmt.Errorf("membarrier: %w", errno)
		}
		page[0]++
		if err := unix.Mprotect(page, unix.PROT_READ); err != nil {
			return fmt.Errorf("mprotect: %w", err)
		}
		if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return fmt.Errorf("mprotect: %w", err)
		}
	}
	return unix.Munmap(page)
}

// checkCalls makes cross-CPU function calls by reading performance events that
// live on other CPUs: the kernel runs each read on the event's CPU (perf_event_open(2);
// kernel/events/core.c, perf_event_read). Software events need no PMU. The kernel
// counts the calls: it makes some of its own, to wake what runs there.
func checkCalls(m *machine) (string, error) {
	events := make([]int, len(m.cpus))
	for i, cpu := range m.cpus {
		fd, err := clockEvent(cpu)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		events[i] = fd
	}
	before, err := readInterrupts()
	if err != nil {
		return "", err
	}
	begin, made, got := monotonic(), 0, uint64(0)
	for got < crossCalls {
		// A read that finds its CPU still busy with another call needs no interrupt of
		// its own.
		if made > 2*crossCalls {
			return "", fmt.Errorf("%d function call interrupts for %d reads", got, made)
		}
		for from, cpu := range m.cpus {
			err := onCPU(cpu, func() error {
				n, err := readOthers(events, from)
				made += n
				return err
			})
			if err != nil {
				return "", err
			}
		}
		now, err := readInterrupts()
		if err != nil {
			return "", err
		}
		got = now.calls() - before.calls()
	}
	took := monotonic() - begin
	return fmt.Sprintf("calls=%d reads=%d us_per_call=%.1f", got, made, float64(took.Microseconds())/float64(got)), nil
}

// clockEvent opens a performance event that counts the time of a CPU.
func clockEvent(cpu int) (fd int, err error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   unix.PERF_ATTR_SIZE_VER5,
	}
	fd, err = unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("perf_event_open on CPU %d: %w", cpu, err)
	}
	return fd, nil
}

// readOthers reads every event but that of CPU number from a hundred times. A value
// may repeat, where the CPU's clock is coarse, but not go back.
func readOthers(events []int, from int) (calls int, err error) {
	var value [8]byte
	for i, fd := range events {
		if i == from {
			continue
		}
		var last uint64
		for range 100 {
			if n, err := sys.ReadNow(fd, value[:]); err != nil || n != len(value) {
				return calls, fmt.Errorf("read of a performance event: %d bytes, %w", n, err)
			}
			now := le.Uint64(value[:])
			if now < last {
				return calls, fmt.Errorf("clock of CPU number %d went from %d to %d", i, last, now)
			}
			last = now
			calls++
		}
	}
	return calls, nil
}

// checkMigrate moves a thread from CPU to CPU. Each move wakes the stopper thread
// of the CPU that it leaves.
func checkMigrate(m *machine) (string, error) {
	begin := monotonic()
	err := onCPU(m.cpus[0], func() error {
		for i := range moves {
			cpu := m.cpus[i%len(m.cpus)]
			if err := bind(cpu); err != nil {
				return err
			}
			on, err := runsOn()
			if err != nil {
				return err
			}
			if on != cpu {
				return fmt.Errorf("move %d to CPU %d ended on CPU %d", i, cpu, on)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("moves=%d us_per_move=%.1f", moves, float64((monotonic()-begin).Microseconds())/moves), nil
}

// runsOn returns the CPU that runs the calling thread: the 39th field of its stat
// file (proc_pid_stat(5)).
func runsOn() (int, error) {
	stat, err := os.ReadFile("/proc/thread-self/stat")
	if err != nil {
		return 0, err
	}
	// The second field may hold spaces and ends at the last parenthesis.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 37 {
		return 0, fmt.Errorf("short stat file: %q", stat)
	}
	return strconv.Atoi(f[36])
}
