package boot

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"keel/boot/handoff"
	"keel/tests/guest"
	"keel/tests/harness"
)

// row is one guest.
type row struct {
	kernel string
	vps    int
	params string
	ci     bool
}

// matrix lists the guests that must run: Debian's kernels with every number of VPs
// and every way of using the interrupt controllers and clocks. Those marked ci run
// every time, each number and each way once with each kernel; KEEL_SOAK runs all.
var matrix = []row{
	{"6.1", 1, "", true},
	{"6.1", 2, "", false},
	{"6.1", 4, "", true},
	{"6.1", 1, "nox2apic", false},
	{"6.1", 2, "nox2apic", true},
	{"6.1", 4, "nox2apic", false},
	{"6.1", 1, "noapic", true},
	{"6.1", 2, "noapic", false},
	{"6.1", 4, "noapic", false},
	{"6.1", 1, "notsc", false},
	{"6.1", 2, "notsc", true},
	{"6.1", 4, "notsc", false},

	{"5.10", 1, "", true},
	{"5.10", 2, "", false},
	{"5.10", 4, "", true},
	{"5.10", 1, "nox2apic", false},
	{"5.10", 2, "nox2apic", true},
	{"5.10", 4, "nox2apic", false},
	{"5.10", 1, "noapic", true},
	{"5.10", 2, "noapic", false},
	{"5.10", 4, "noapic", false},
	{"5.10", 1, "notsc", true},
	{"5.10", 2, "notsc", false},
	{"5.10", 4, "notsc", false},
}

func TestGuests(t *testing.T) {
	t.Parallel()
	// The slow ones first: else one processor waits for the last of them.
	slices.SortStableFunc(matrix, func(a, b row) int { return b.vps - a.vps })
	for _, m := range matrix {
		if !m.ci && !harness.Soak() {
			continue
		}
		t.Run(fmt.Sprintf("%s/%d/%s", m.kernel, m.vps, m.params), func(t *testing.T) {
			t.Parallel()
			checks := guest.Checks(m.vps)
			r := tool.Start(t, programFlags(m.kernel, m.vps, m.params, checks...)...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			console := guest.Parse(r.Console())
			if err := console.Check(checks...); err != nil {
				t.Error(err)
			}
			for _, note := range console.Notes {
				t.Log(note)
			}
			checkReport(t, report, m.vps)
			if report.Resets != 0 {
				t.Errorf("the guest started over %d times", report.Resets)
			}
		})
	}
}

// programFlags boot the guest test program.
func programFlags(kernel string, vps int, params string, checks ...string) []string {
	return []string{
		"--kernel", payload.kernels[kernel], "--initrd", payload.program, "--vps", strconv.Itoa(vps),
		"--append", guest.Cmdline(vps, checks...) + " " + params, "--timeout", harness.Patience.String(),
	}
}
