package guest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// transcript is a console as a guest writes it: the terminal adds carriage returns.
func transcript(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

func TestParse(t *testing.T) {
	got := Parse(transcript(
		"[    0.000000] Linux version 6.1",
		"KEEL-GUEST userspace",
		"KEEL-GUEST result PASS cpus online=2",
		"KEEL-GUEST result FAIL drift deviation=+1.0% span=10s",
		"KEEL-GUEST note hrtimer cpu=0 steps=8",
		"KEEL-BENCH serial_read 1.250 us",
		"KEEL-BENCH broken x us",
		"KEEL-GUEST done",
	))
	if got.Boots != 1 || !got.Done {
		t.Errorf("boots %d, done %v", got.Boots, got.Done)
	}
	if want := []Result{{"cpus", true, "online=2"}, {"drift", false, "deviation=+1.0% span=10s"}}; !slices.Equal(got.Results, want) {
		t.Errorf("results %v, want %v", got.Results, want)
	}
	if want := []Figure{{"serial_read", 1.25, "us"}}; !slices.Equal(got.Bench, want) {
		t.Errorf("figures %v, want %v", got.Bench, want)
	}
	if want := []string{"hrtimer cpu=0 steps=8"}; !slices.Equal(got.Notes, want) {
		t.Errorf("notes %v, want %v", got.Notes, want)
	}
}

func TestTranscriptCheck(t *testing.T) {
	pattern := func(omit int) string {
		var s strings.Builder
		for i := range patternLines {
			if i != omit {
				s.WriteString(strings.ReplaceAll(PatternLine(i), "\n", "\r\n"))
			}
		}
		return s.String()
	}
	const pass, serial, done = "KEEL-GUEST result PASS pit ok\r\n", "KEEL-GUEST result PASS serial ok\r\n", "KEEL-GUEST done\r\n"
	tests := []struct {
		name, console, want string // part of the error, "" for none
	}{
		{"all well", pass + pattern(-1) + serial + done, ""},
		{"no result", pattern(-1) + serial + done, "pit: no result"},
		{"failed", "KEEL-GUEST result FAIL pit stands still\r\n" + pattern(-1) + serial + done, "pit: stands still"},
		{"a line is lost", pass + pattern(100) + serial + done, "100 of 128"},
		{"a byte is lost", pass + strings.Replace(pattern(-1), "!", "", 1) + serial + done, "of 128"},
		{"the end is missing", pass + pattern(-1) + serial, "end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Parse(tt.console).Check(CheckPIT, CheckSerial)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPatternLine(t *testing.T) {
	for i := range patternLines {
		line := PatternLine(i)
		if len(line) != patternLine || strings.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestChecksAreImplemented(t *testing.T) {
	for _, cpus := range []int{1, 4} {
		var want []string
		for _, c := range checks {
			if !c.explicit && cpus >= c.minCPUs {
				want = append(want, c.name)
			}
		}
		got := Checks(cpus)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d CPUs: Checks lists %v, the program runs %v", cpus, got, want)
		}
	}
}

func TestSelects(t *testing.T) {
	one, two := &machine{cpus: []int{0}, tests: "all"}, &machine{cpus: []int{0, 1}, tests: "pit,bench"}
	tests := []struct {
		m    *machine
		c    check
		want bool
	}{
		{one, check{name: CheckPIT}, true},
		{one, check{name: CheckCalls, minCPUs: 2}, false},
		{one, check{name: CheckBench, explicit: true}, false},
		{two, check{name: CheckBench, explicit: true}, true},
		{two, check{name: CheckDrift}, false},
	}
	for _, tt := range tests {
		if got := tt.m.selects(tt.c); got != tt.want {
			t.Errorf("keel.test=%s: %s runs: %v, want %v", tt.m.tests, tt.c.name, got, tt.want)
		}
	}
}

func TestParseInterrupts(t *testing.T) {
	rows := parseInterrupts(`           CPU0       CPU1
  4:          0       2048   IO-APIC   4-edge      ttyS0
NMI:          1          2   Non-maskable interrupts
CAL:        100         50   Function call interrupts
TLB:         10          0   TLB shootdowns
ERR:          3
`)
	for row, want := range map[string]uint64{"4": 2048, "ttyS0": 2048, "NMI": 3, "CAL": 150, "ERR": 3, "none": 0} {
		if got := rows.sum(row); got != want {
			t.Errorf("row %s counts %d, want %d", row, got, want)
		}
	}
	if got := rows.calls(); got != 160 {
		t.Errorf("%d calls, want 160", got)
	}
}

func TestParseCPUList(t *testing.T) {
	got, err := parseCPUList("0-2,5")
	if err != nil || !slices.Equal(got, []int{0, 1, 2, 5}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseCPUList("0-x"); err == nil {
		t.Error("no error for a malformed list")
	}
}

func TestParam(t *testing.T) {
	const cmdline = "console=ttyS0 xkeel.vps=9 keel.vps=4 keel.test=a,b\n"
	for name, want := range map[string]string{"keel.vps": "4", "keel.test": "a,b", "keel": "", "root": ""} {
		if got := param(cmdline, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := Cmdline(2, CheckPIT, CheckNMI); param(got, paramVPs) != "2" || param(got, paramTest) != "pit,nmi" {
		t.Errorf("command line %q", got)
	}
}

func TestDeviation(t *testing.T) {
	second := time.Second
	tests := []struct {
		name            string
		a, b            moment
		relative, doubt float64
	}{
		{"exact", moment{0, 0}, moment{second, second}, 0, 0},
		{"one percent fast", moment{0, 0}, moment{1010 * time.Millisecond, 1010 * time.Millisecond}, 0.01, 0},
		{"seen late at both ends", moment{0, second / 10}, moment{second, second + second/10}, 0, 0.1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			relative, doubt := deviation(tt.a, tt.b, second)
			if abs(relative-tt.relative) > 1e-9 || abs(doubt-tt.doubt) > 1e-9 {
				t.Errorf("deviation %v, doubt %v, want %v, %v", relative, doubt, tt.relative, tt.doubt)
			}
		})
	}
	if _, err := verdict("clock", 0.004, 0, second); err != nil {
		t.Error(err)
	}
	for _, relative := range []float64{0.006, -0.006} {
		if _, err := verdict("clock", relative, 0, second); err == nil {
			t.Errorf("a deviation of %v passed", relative)
		}
	}
}

func abs(v float64) float64 { return max(v, -v) }

func TestHistogram(t *testing.T) {
	var h histogram
	for _, late := range []time.Duration{0, 500, 3 * time.Microsecond, time.Hour} {
		h.add(late)
	}
	if want := "steps=4 worst_us=3600000000 late_us <1:2 <4:1 <2147483648:1"; h.String() != want {
		t.Errorf("histogram %q, want %q", h.String(), want)
	}
}

func TestMADT(t *testing.T) {
	madt := make([]byte, 44)
	madt = append(madt, 0, 8, 0, 0, 1, 0, 0, 0)                    // local APIC
	madt = append(madt, 1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0) // IOAPIC at FEC00000h, GSI 0
	madt = append(madt, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0)             // IRQ 0 is GSI 2
	madt = append(madt, 2, 10, 0, 9, 9, 0, 0, 0, 0xf, 0)           // IRQ 9 is GSI 9
	pin, err := timerPinOf(madt)
	if err != nil || pin != (timerPin{ioapic: 0xfec00000, index: 2}) {
		t.Errorf("pin %+v, %v", pin, err)
	}
	for name, bad := range map[string][]byte{"no IOAPIC": madt[:52], "entry of length 0": append(slices.Clone(madt), 5, 0), "cut short": madt[:60]} {
		if _, err := timerPinOf(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
