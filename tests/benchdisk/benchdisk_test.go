package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"keel/tests/bench/report/reporttest"
	"keel/tests/bench/vm"
	"keel/tests/benchdisk/fio"
)

// console is what a side says that runs one job.
const console = "KEEL-GUEST userspace\r\nKEEL-GUEST result PASS modules sd_mod\r\nKEEL-GUEST note window randread-1 begin\r\n" +
	"KEEL-GUEST note window randread-1 end\r\nKEEL-BENCH randread-1.iops 500.0 1/s\r\nKEEL-BENCH randread-1.ios 5000.0 1\r\n" +
	"KEEL-BENCH randread-1.mean 2000.0 us\r\nKEEL-BENCH randread-1.p99 3000.0 us\r\nKEEL-GUEST result PASS load x\r\n" +
	"KEEL-GUEST result PASS script load\r\nKEEL-GUEST done\r\n"

var onePlan = fio.Plan{Jobs: fio.Jobs[:1], Seconds: 10, Ramp: 2}

func TestEvaluate(t *testing.T) {
	windows := map[string]window{"randread-1": {wall: 8 * time.Second, cpu: 6 * time.Second}}
	s, err := evaluate(keelVirtio, onePlan, console, windows)
	if err != nil {
		t.Fatal(err)
	}
	// 6 s in 8 s are 0.75 s in each, over 500 I/Os.
	want := map[string]jobFigures{"randread-1": {IOPS: 500, MeanUS: 2000, P99US: 3000, CPUUS: 1500, IOs: 5000}}
	if s.Side != keelVirtio || !maps.Equal(s.Figures, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
	if s, err := evaluate(keelVirtio, onePlan, console, nil); err != nil || s.Figures["randread-1"].CPUUS != 0 {
		t.Errorf("%+v, %v without windows", s, err)
	}
	for name, text := range map[string]string{
		"fails":      strings.Replace(console, "PASS load", "FAIL load", 1),
		"no modules": strings.Replace(console, "PASS modules", "FAIL modules", 1),
		"no end":     strings.Replace(console, "KEEL-GUEST done", "", 1),
	} {
		if s, err := evaluate(keelVirtio, onePlan, text, nil); !errors.Is(err, vm.ErrRun) || s.Figures["randread-1"].IOPS != 500 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestListener(t *testing.T) {
	cost := time.Duration(0)
	l := newListener("nobody")
	l.cost = func() (time.Duration, error) { cost += 3 * time.Second; return cost, nil }
	for _, part := range strings.SplitAfter(console, "w") { // lines come in pieces
		fmt.Fprint(l, part)
	}
	fmt.Fprint(l, windowWords+"other end\n") // has not begun
	text, windows := l.heard()
	if w := windows["randread-1"]; len(windows) != 1 || w.cpu != 3*time.Second || w.wall <= 0 {
		t.Errorf("%+v", windows)
	}
	if !strings.HasPrefix(text, console) {
		t.Errorf("the console is %q", text)
	}
	if _, err := costOf("no such machine")(); err == nil {
		t.Error("a VM that is not there has a cost")
	}
}

func TestCPUTime(t *testing.T) {
	const stat = "4711 (qemu (x) y) S 1 4711 1 0 -1 4194560 100 0 3 0 250 150 0 0 20 0 5 0 1 2 3\n"
	if got, err := cpuTime(stat); err != nil || got != 4*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", strings.Replace(stat, "250", "x", 1)} {
		if got, err := cpuTime(bad); !errors.Is(err, vm.ErrRun) {
			t.Errorf("%q gave %v, %v", bad, got, err)
		}
	}
}

func TestPerIO(t *testing.T) {
	got := perIO(map[string]uint64{"mmio": 3000, "halt": 50, "pio": 7}, map[string]uint64{"mmio": 1000, "halt": 60}, 1000)
	if want := map[string]float64{"mmio": 2, "halt": 0, "pio": 0.007}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// example holds three rounds, of which the second was slow for all.
func example() *results {
	r := &results{
		Rounds: 3, Plan: fio.Plan{Jobs: fio.Jobs[:2], Seconds: 10, Ramp: 2}.String(), Peer: []string{"qemu", "-x"}, Fio: []string{"--y"},
		ExitsPerIO: map[string]map[string]map[string]float64{keelVirtio: {"randread-1": {"mmio": 1.5, "halt": 1}}},
		Failures:   []failure{{peerVirtio, "lost"}},
	}
	for round := range 3 {
		for i, side := range sides {
			v := []float64{1000, 600, 500, 250}[i] * []float64{1, 0.1, 1.2}[round]
			r.Samples = append(r.Samples, sample{Side: side, Round: round, Figures: map[string]jobFigures{"randread-1": {IOPS: v, MeanUS: 1e6 / v, CPUUS: 400}}})
		}
	}
	return r
}

func TestRatiosAreOfOneRound(t *testing.T) {
	r := example()
	for _, v := range r.ratios(keelVirtio, limit, "randread-1") {
		if math.Abs(v-0.6) > 1e-9 {
			t.Errorf("ratio %v", v)
		}
	}
	r.Samples = slices.DeleteFunc(r.Samples, func(s sample) bool { return s.Side == limit && s.Round == 0 })
	if got := r.ratios(keelVirtio, limit, "randread-1"); len(got) != 2 {
		t.Errorf("%v without the first round of the limit", got)
	}
	if got := spread(nil); got != "-" {
		t.Errorf("spread of nothing is %q", got)
	}
}

func TestMarkdown(t *testing.T) {
	text := example().markdown()
	for _, want := range []string{
		"| 4 KiB random reads, depth 1 | 0.50 of NVMe | 0.60 (0.60 to 0.60) | 0.50 (0.50 to 0.50) | 0.25 (0.25 to 0.25) | 2.40 (2.40 to 2.40) | 2.00 (2.00 to 2.00) |",
		"| 4 KiB random reads, depth 32 | 0.75 of NVMe | - | - | - | - | - |",
		"| 4 KiB random reads, depth 1 | 1000 | 600 | 500 | 250 |",
		"| keel-virtio-scsi, randread-1 | 1.00 | 1.50 | 2.50 |",
		"  qemu-virtio-scsi: 1.",
		"`qemu -x`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line with %q in\n%s", want, text)
		}
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	for name, r := range map[string]*results{"example": example(), "empty": {}} {
		text := r.plot()
		dots := reporttest.Dots(t, text)
		if want := len(r.Samples) * 3 / 4; dots != want {
			t.Errorf("%s: %d dots, want %d", name, dots, want)
		}
	}
}

func TestEveryJobHasATitle(t *testing.T) {
	for _, j := range fio.Jobs {
		if titles[j.Name] == "" {
			t.Errorf("%s has none", j.Name)
		}
	}
	for name := range bounds {
		if fio.Find(name) == nil {
			t.Errorf("a bound for %s, which is no job", name)
		}
	}
}
