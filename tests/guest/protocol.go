// Package guest is the guest test program and the protocol in which it reports.
//
// The program is this package's test binary: as PID 1 of a guest it runs the
// checks that its kernel command line asks for, prints a line for each result on
// the console, and powers the guest off. Started on a host, the same binary runs
// the unit tests of its own parts. It knows nothing of Keel and judges any
// machine by the same measure.
//
// Kernel parameters:
//
//	keel.test=LIST  comma-separated names of checks (see Checks), "all" when absent
//	keel.vps=N      number of CPUs that must be online; not checked when absent
//	iomem=relaxed   needed by check "nmi", which programs the IOAPIC through /dev/mem
//	hpet=disable    needed by check "nmi" on machines with an HPET
package guest

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Markers that begin the program's console lines.
const (
	markUserspace = "KEEL-GUEST userspace"
	markResult    = "KEEL-GUEST result " // PASS or FAIL, name, detail
	markNote      = "KEEL-GUEST note "   // name, figures for a human
	markDone      = "KEEL-GUEST done"
	markBench     = "KEEL-BENCH "  // name, value, unit
	markPattern   = "KEEL-SERIAL " // index, body, CRC-32 of index and body
)

// Names of the checks.
const (
	CheckCPUs     = "cpus"    // as many CPUs online as keel.vps says, each with a ticking timer
	CheckNMI      = "nmi"     // NMIs from the IOAPIC and, between CPUs, from the local APIC
	CheckBarrier  = "barrier" // membarrier and TLB shootdown against busy CPUs
	CheckCalls    = "calls"   // 10,000 cross-CPU function calls
	CheckMigrate  = "migrate" // threads that move between CPUs
	CheckDrift    = "drift"   // CLOCK_MONOTONIC against the RTC
	CheckHRTimer  = "hrtimer" // lateness of 1 ms timer steps
	CheckPIT      = "pit"     // rate and output pin of PIT channel 2
	CheckPMTimer  = "pmtimer" // rate of the ACPI PM timer
	CheckSerial   = "serial"  // interrupt-driven output, PatternBytes long
	CheckReboot   = "reboot"  // two boots, told apart by a byte of CMOS RAM
	CheckBench    = "bench"   // no check: prints microseconds per exit
	CheckCrash    = "crash"   // no check: panics the guest kernel
	CheckIdle     = "idle"    // no check: sleeps until the guest is ended from outside
	selectDefault = "all"     // every check that does not end the guest
	paramTest     = "keel.test"
	paramVPs      = "keel.vps"
)

// Checks returns the names of the checks that "all" runs on a guest with that
// many CPUs.
func Checks(cpus int) []string {
	names := []string{CheckCPUs, CheckNMI, CheckSerial, CheckDrift, CheckHRTimer, CheckPIT, CheckPMTimer}
	if cpus > 1 {
		names = append(names, CheckBarrier, CheckCalls, CheckMigrate)
	}
	return names
}

// Geometry of the serial pattern.
const (
	PatternBytes = 16 << 10
	patternLine  = 128 // bytes of a line with its line feed
	patternLines = PatternBytes / patternLine
)

// PatternLine returns line i of the serial pattern with its line feed.
func PatternLine(i int) string {
	head := fmt.Sprintf("%s%04d ", markPattern, i)
	body := make([]byte, patternLine-len(head)-len(" 00000000\n"))
	for j := range body {
		// All printable characters but space, shifted from line to line.
		body[j] = byte('!' + (i*7+j)%('~'-'!'+1))
	}
	line := head + string(body)
	return fmt.Sprintf("%s %08x\n", line, crc32.ChecksumIEEE([]byte(line)))
}

// Result is the outcome of one check.
type Result struct {
	Name   string
	Passed bool
	Detail string
}

// Figure is one line of the bench payload.
type Figure struct {
	Name  string
	Value float64
	Unit  string
}

// Transcript is what the program said on a console.
type Transcript struct {
	Boots   int // times that its userspace began
	Results []Result
	Notes   []string
	Bench   []Figure
	Pattern int  // lines of the serial pattern that arrived whole and in order
	Done    bool // it came to its end
}

// Parse reads the console of a guest. Lines of others are ignored.
func Parse(console string) Transcript {
	var t Transcript
	for line := range strings.Lines(console) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasSuffix(line, markUserspace):
			t.Boots++
		case strings.HasPrefix(line, markResult):
			f := strings.SplitN(line[len(markResult):], " ", 3)
			if len(f) == 3 {
				t.Results = append(t.Results, Result{Name: f[1], Passed: f[0] == "PASS", Detail: f[2]})
			}
		case strings.HasPrefix(line, markNote):
			t.Notes = append(t.Notes, line[len(markNote):])
		case strings.HasPrefix(line, markBench):
			f := strings.Fields(line[len(markBench):])
			if len(f) != 3 {
				continue
			}
			if v, err := strconv.ParseFloat(f[1], 64); err == nil {
				t.Bench = append(t.Bench, Figure{Name: f[0], Value: v, Unit: f[2]})
			}
		case strings.HasPrefix(line, markPattern):
			if line+"\n" == PatternLine(t.Pattern) {
				t.Pattern++
			}
		case line == markDone:
			t.Done = true
		}
	}
	return t
}

// Check returns an error that names every check of want that did not pass, and a
// serial pattern that did not arrive whole.
func (t Transcript) Check(want ...string) error {
	var bad []string
	for _, name := range want {
		verdict := name + ": no result"
		for _, r := range t.Results {
			if r.Name == name && r.Passed {
				verdict = ""
			} else if r.Name == name {
				verdict = name + ": " + r.Detail
			}
		}
		if name == CheckSerial && verdict == "" && t.Pattern != patternLines {
			verdict = fmt.Sprintf("serial: %d of %d lines of the pattern arrived", t.Pattern, patternLines)
		}
		if verdict != "" {
			bad = append(bad, verdict)
		}
	}
	if !t.Done {
		bad = append(bad, "the program did not come to its end")
	}
	if len(bad) > 0 {
		return fmt.Errorf("guest checks failed: %s", strings.Join(bad, "; "))
	}
	return nil
}
