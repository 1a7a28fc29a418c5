package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// Registers of the IOAPIC (Intel 82093AA datasheet, 3.1 and 3.2).
const (
	ioapicSelect  = 0x00
	ioapicWindow  = 0x10
	ioapicTable   = 0x10     // first register of the redirection table, two a pin
	rteNMIEdge    = 0x4 << 8 // delivery mode NMI, physical, edge, active high, not masked
	rteMasked     = 1 << 16
	isaTimer      = 0    // ISA interrupt of PIT channel 0
	pitShortCount = 1193 // a millisecond
)

// checkNMI delivers NMIs to every CPU in two ways. Between CPUs the kernel sends
// them itself, through the local APIC's ICR: its backtrace of all CPUs interrupts
// every CPU but the one that asks. To any CPU, an only one included, the IOAPIC
// sends them: its timer pin is set to delivery mode NMI and PIT channel 0, which the
// kernel does not use once the local APIC timers run, raises it once. The IOAPIC is
// memory-mapped in xAPIC and x2APIC mode alike, so this needs no mode-specific code.
func checkNMI(m *machine) (string, error) {
	// The kernel prints the header of the backtrace whatever the console's level is:
	// no line may be under way.
	console.Lock()
	defer console.Unlock()
	pin, err := findTimerPin()
	if err != nil {
		return "", err
	}
	ids, err := apicIDs()
	if err != nil {
		return "", err
	}
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return "", err
	}
	defer mem.Close()
	page, err := unix.Mmap(int(mem.Fd()), int64(pin.ioapic), 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return "", fmt.Errorf("map the IOAPIC (needs iomem=relaxed): %w", err)
	}
	defer func() { _ = unix.Munmap(page) }()
	for column, cpu := range m.cpus {
		err := onCPU(m.cpus[0], func() error {
			var undo func() error
			err := awaitNMI(column, "IOAPIC", func() (err error) {
				undo, err = pin.raise(page, ids[cpu])
				return err
			})
			if undo != nil {
				err = errors.Join(err, undo())
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if len(m.cpus) == 1 {
		return "ioapic=1", nil
	}
	for column := range m.cpus {
		err := onCPU(m.cpus[(column+1)%len(m.cpus)], func() error {
			return awaitNMI(column, "local APIC", func() error { return os.WriteFile("/proc/sysrq-trigger", []byte("l"), 0) })
		})
		if err != nil {
			return "", err
		}
	}
	time.Sleep(100 * time.Millisecond) // what the kernel still prints
	return fmt.Sprintf("ioapic=%d icr=%d", len(m.cpus), len(m.cpus)), nil
}

// awaitNMI runs send and waits for an NMI in the given column of /proc/interrupts.
func awaitNMI(column int, source string, send func() error) error {
	before, err := readInterrupts()
	if err != nil {
		return err
	}
	if err := send(); err != nil {
		return err
	}
	what := fmt.Sprintf("NMI of the %s to CPU number %d", source, column)
	return waitFor(what, stall, func() (bool, error) {
		now, err := readInterrupts()
		if err != nil {
			return false, err
		}
		if len(now["NMI"]) <= column {
			return false, errors.New("/proc/interrupts has no NMI count")
		}
		return now["NMI"][column] > before["NMI"][column], nil
	})
}

// timerPin is the IOAPIC input to which PIT channel 0 is wired.
type timerPin struct {
	ioapic uint32 // physical address
	index  uint32
}

// findTimerPin reads the MADT (ACPI 6.5, 5.2.12: I/O APIC structure type 1,
// interrupt source override type 2).
func findTimerPin() (timerPin, error) {
	madt, err := acpiTable("APIC")
	if err != nil {
		return timerPin{}, err
	}
	return timerPinOf(madt)
}

func timerPinOf(madt []byte) (timerPin, error) {
	var pin timerPin
	gsi := uint32(isaTimer)
	var base uint32
	for rest := madt[44:]; len(rest) >= 2; rest = rest[rest[1]:] {
		if rest[1] < 2 || int(rest[1]) > len(rest) {
			return timerPin{}, errors.New("the MADT has an entry of impossible length")
		}
		switch {
		case rest[0] == 1 && rest[1] >= 12 && pin.ioapic == 0:
			pin.ioapic, base = le.Uint32(rest[4:]), le.Uint32(rest[8:])
		case rest[0] == 2 && rest[1] >= 10 && rest[3] == isaTimer:
			gsi = le.Uint32(rest[4:])
		}
	}
	if pin.ioapic == 0 || gsi < base {
		return timerPin{}, errors.New("the MADT names no IOAPIC for the timer")
	}
	pin.index = gsi - base
	return pin, nil
}

// apicIDs maps CPUs to the IDs of their local APICs.
func apicIDs() (map[int]uint32, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	ids := map[int]uint32{}
	cpu := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			continue
		}
		switch strings.TrimSpace(key) {
		case "processor":
			cpu = n
		case "apicid":
			ids[cpu] = uint32(n)
		}
	}
	return ids, nil
}

// raise sends an NMI to the local APIC with the ID when PIT channel 0 has counted a
// millisecond. The returned function puts the pin back as it was.
func (p timerPin) raise(page []byte, id uint32) (undo func() error, err error) {
	if err := sys.AllowPorts(portPIT0, 4); err != nil {
		return nil, err
	}
	read := func(n uint32) uint32 {
		store32(page[ioapicSelect:], n)
		return load32(page[ioapicWindow:])
	}
	write := func(n, v uint32) {
		store32(page[ioapicSelect:], n)
		store32(page[ioapicWindow:], v)
	}
	low := ioapicTable + 2*p.index
	high := low + 1
	oldLow, oldHigh := read(low), read(high)
	write(low, oldLow|rteMasked)
	write(high, id<<24)
	write(low, rteNMIEdge)
	// Mode 0 takes the output low at once and high after the count: one edge.
	startPIT0(pitShortCount)
	return func() error {
		write(low, oldLow|rteMasked)
		write(high, oldHigh)
		write(low, oldLow)
		startPIT0(0) // as Linux leaves a PIT that it has shut down (drivers/clocksource/i8253.c)
		if got := read(high); got != oldHigh {
			return fmt.Errorf("redirection entry %d reads %#x after %#x was written", p.index, got, oldHigh)
		}
		return nil
	}, nil
}

// store32 and load32 access a device register. They must not be inlined: a compiler
// that sees two stores to an address leaves out the first.
//
//go:noinline
func store32(register []byte, v uint32) { le.PutUint32(register, v) }

//go:noinline
func load32(register []byte) uint32 { return le.Uint32(register) }

// startPIT0 starts a count in channel 0.
func startPIT0(count uint16) {
	sys.OutB(portPITCmd, pitOneShot0)
	sys.OutB(portPIT0, uint8(count))
	sys.OutB(portPIT0, uint8(count>>8))
}
