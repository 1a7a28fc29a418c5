package hostile

import (
	"cmp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

// maxVTL2Memory bounds what VTL2 may ever use, in bytes, whatever a guest does.
const maxVTL2Memory = 64 << 20

// guests lists the programs and how each must end: by itself, by a crash that is
// its own, or by the time-out.
var guests = []struct {
	name    string
	program program
	vps     int
	memory  string
	timeout string
	want    handoff.Outcome
	message []string // what the message of a crash must name: its cause, then what only a host of plain guests may know
	resets  uint64
	soak    bool
	isolated
}{
	{name: "Keel's pages", program: program{code: keelsPages}, want: handoff.OutcomePoweroff, isolated: only},
	{
		name: "instructions of a TEE", program: program{code: everyTEE, handlers: map[int]int{vectorUD: offSkip4Plain, vectorGP: offSkip2}},
		want: handoff.OutcomePoweroff, isolated: only,
	},
	{
		name: "triple fault", program: program{code: tripleFault},
		want: handoff.OutcomeGuestCrashed, message: []string{"VP 0: triple fault", "RIP 0x1000", "pio write 0x3f8/1"}, isolated: too,
	},
	{
		name: "code in a hole", program: program{code: runHole},
		want: handoff.OutcomeGuestCrashed, message: []string{"VP 0: ", "RIP 0xd0000000", "pio write 0x3f8/1"},
	},
	{
		name: "code behind memory", program: program{code: runBeyond},
		want: handoff.OutcomeGuestCrashed, message: []string{"VP 0: ", "RIP 0x90000000"},
	},
	{
		name: "handlers in a hole", program: program{code: vectorHole},
		want: handoff.OutcomeGuestCrashed, message: []string{"VP 0: ", "RIP 0x1000", "pio read 0x80/1"},
	},
	{name: "every port", program: program{code: everyPort}, want: handoff.OutcomePoweroff},
	{
		name: "every port in every size", program: program{code: with(everyPort, everyPortLimit, 0x10000)},
		timeout: "4m", want: handoff.OutcomePoweroff, soak: true,
	},
	{name: "every way to reset", program: program{code: everyReset}, want: handoff.OutcomePoweroff, resets: 5},
	{name: "long strings", program: program{code: longStrings}, want: handoff.OutcomePoweroff, isolated: too},
	{name: "endless output", program: program{code: endlessOut}, timeout: "8s", want: handoff.OutcomeTimeout, soak: true},
	{name: "endless input", program: program{code: endlessIn}, timeout: "8s", want: handoff.OutcomeTimeout},
	{name: "every APIC register", program: program{code: everyRegister}, want: handoff.OutcomePoweroff, isolated: too},
	{
		name: "every MSR", program: program{code: everyMSR, handlers: map[int]int{vectorGP: offSkip2}},
		want: handoff.OutcomePoweroff,
	},
	{
		name: "virtualization instructions", program: program{code: everySVM, handlers: map[int]int{vectorGP: offSkip3, vectorUD: offSkip3Plain}},
		want: handoff.OutcomePoweroff,
	},
	{
		name: "XCR0", program: program{code: narrowXCR0, handlers: map[int]int{vectorGP: offSkip3, vectorUD: offSkip3Plain}},
		want: handoff.OutcomePoweroff,
	},
	{name: "every hole", program: program{code: everyHole}, want: handoff.OutcomePoweroff},
	{name: "exotic instructions", program: program{code: exoticMMIO}, want: handoff.OutcomePoweroff},
	{name: "FPU state in a hole", program: program{code: fxsaveMMIO}, want: handoff.OutcomeGuestCrashed, message: []string{"VP 0: "}},
	{name: "start-up storm", program: program{code: startStorm}, vps: 4, want: handoff.OutcomePoweroff, resets: 1},
	{
		name: "start-up storm of many", program: program{code: startStorm}, vps: 16, memory: "2G",
		want: handoff.OutcomePoweroff, resets: 1,
	},
	{name: "interrupt storm", program: program{code: interruptStorm, handlers: storm()}, want: handoff.OutcomePoweroff},
	{name: "halted for ever", program: program{code: hangAll}, vps: 4, timeout: "8s", want: handoff.OutcomeTimeout},
	{name: "flood", program: program{code: flood}, timeout: "10s", want: handoff.OutcomeTimeout},
	{name: "flood to its end", program: program{code: flood}, timeout: "30m", want: handoff.OutcomePoweroff, soak: true},
}

// longPatience is for guests that do millions of exits; their own time is shorter.
const longPatience = time.Hour

// everyPortLimit is where everyPort holds the port from which on it tries one
// size only.
const everyPortLimit = 2

// storm handles the interrupts of interruptStorm.
func storm() map[int]int {
	handlers := map[int]int{vectorAPIC: offAckAPIC}
	for n := range 16 {
		handlers[vectorPIC+n] = offAckPIC
	}
	return handlers
}

// isolated says when a program runs on an emulated SNP machine. On an emulated TDX module
// it does so in the soak.
type isolated uint8

const (
	soaking isolated = iota // in the soak, too
	too
	only
)

func TestGuests(t *testing.T) {
	t.Parallel()
	for _, g := range guests {
		if g.soak && !soak {
			continue
		}
		run := func(isolation string) func(t *testing.T) {
			return func(t *testing.T) {
				t.Helper()
				t.Parallel()
				r := tool.Start(t, "--kernel", g.program.write(t), "--mem", cmp.Or(g.memory, "128M"), "--isolation", isolation,
					"--vps", strconv.Itoa(cmp.Or(g.vps, 1)), "--timeout", cmp.Or(g.timeout, "90s"))
				if g.soak {
					r.Patience = longPatience
				}
				report := r.Wait(t, g.want)
				checkReport(t, report)
				if report.Resets != g.resets {
					t.Errorf("%d resets, want %d", report.Resets, g.resets)
				}
				if g.want == handoff.OutcomeGuestCrashed {
					checkMessage(t, report.Message, isolation != "none", g.message[0], append(g.message[1:], "last exits: ")...)
				}
				if g.want == handoff.OutcomePoweroff && g.resets == 0 && !strings.HasSuffix(r.Console(), "survived\n") {
					t.Error("the guest did not say that it survived")
				}
			}
		}
		if g.isolated != only {
			t.Run(g.name, run("none"))
		}
		if g.isolated == too || g.isolated == only || g.isolated == soaking && soak {
			t.Run(g.name+", snp", run("snp"))
		}
		if soak {
			t.Run(g.name+", tdx", run("tdx"))
		}
	}
}

// checkReport checks that Keel's own figures arrived and that it stayed within
// its memory.
func checkReport(t *testing.T, r qemu.Report) {
	t.Helper()
	if r.GuestEntryMS == nil || len(r.Exits) == 0 || r.VTL2MemoryUsedBytes == 0 {
		t.Errorf("no figures: %+v", r)
	}
	if r.VTL2MemoryPeakBytes > maxVTL2Memory {
		t.Errorf("VTL2 needed %d bytes", r.VTL2MemoryPeakBytes)
	}
	if r.BadEvents != 0 {
		t.Errorf("%d lines on the control channel were no events", r.BadEvents)
	}
}

// checkMessage wants the cause in the message of a crash, and what the guest did in it
// unless that is the guest's own.
func checkMessage(t *testing.T, message string, confidential bool, cause string, details ...string) {
	t.Helper()
	if !strings.Contains(message, cause) {
		t.Errorf("the message %q lacks %q", message, cause)
	}
	for _, detail := range details {
		if strings.Contains(message, detail) == confidential {
			t.Errorf("the message %q, of a guest that is confidential: %v; with or without %q", message, confidential, detail)
		}
	}
}
