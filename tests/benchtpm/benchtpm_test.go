package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/tests/bench/report/reporttest"
	"keel/tests/benchtpm/command"
	"keel/vtpm/vtpmtest"
	peer "keel/vtpm/vtpmtest/swtpm"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }

func TestSummarize(t *testing.T) {
	tests := []struct {
		times []time.Duration
		want  figures
	}{
		{nil, figures{}},
		{[]time.Duration{1500 * time.Nanosecond}, figures{1.5, 1.5, 0}},
		{[]time.Duration{9 * time.Microsecond, 3 * time.Microsecond, 3 * time.Microsecond}, figures{3, 5, math.Sqrt(12)}},
		{[]time.Duration{4 * time.Millisecond, 2 * time.Millisecond}, figures{3000, 3000, math.Sqrt(2e6)}},
	}
	for _, tt := range tests {
		got := summarize(tt.times)
		if !near(got.Median, tt.want.Median) || !near(got.Mean, tt.want.Mean) || !near(got.Deviation, tt.want.Deviation) {
			t.Errorf("%v gave %+v, want %+v", tt.times, got, tt.want)
		}
	}
}

func TestParseMemory(t *testing.T) {
	const status = "Name:\tpvtpm\nVmPeak:\t 1240000 kB\nVmHWM:\t   14000 kB\nVmRSS:\t   13600 kB\nRssAnon:\t 5000 kB\n"
	if got, err := parseMemory(status); err != nil || got != (memory{RSS: 13600 << 10, Peak: 14000 << 10}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "Name:\tpvtpm\nState:\tZ (zombie)\n", strings.Replace(status, "13600", "x", 1), strings.Replace(status, "13600", "-1", 1),
		strings.Replace(status, "14000", "99999999999999", 1),
	} {
		if got, err := parseMemory(bad); !errors.Is(err, errMemory) {
			t.Errorf("%q gave %+v, %v", bad, got, err)
		}
	}
	if m, err := memoryOf(os.Getpid()); err != nil || m.RSS > m.Peak+1<<20 || m.RSS < 1<<20 {
		t.Errorf("%+v, %v of this process", m, err)
	}
}

func TestSelected(t *testing.T) {
	if got := selected(""); len(got) != len(command.Operations) {
		t.Errorf("%s", names(got))
	}
	if got := names(selected("NV_")); got != "NV_Write, NV_Read" {
		t.Errorf("%s", got)
	}
	for _, f := range []flags{{rounds: 0}, {rounds: -1, only: "NV"}, {rounds: 1, only: "no such thing"}} {
		if err := run(t.Context(), f); !errors.Is(err, errUsage) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// example holds three rounds of three operations, of which the second was slow for all.
func example() *results {
	r := &results{
		Rounds: 3, SWTPM: "9.9", Command: []string{"swtpm", "-x"}, Locked: true, States: "/somewhere",
		Operations: []string{"Startup", "GetRandom", "Create RSA-2048"},
		Fresh:      memories{memory{8 << 20, 9 << 20}, memory{6 << 20, 6 << 20}},
	}
	for round := range 3 {
		slow := []float64{1, 10, 1.2}[round]
		memory := memories{memory{12 << 20, 13 << 20}, memory{7 << 20, 7<<20 + 1<<19}}
		r.Samples = append(r.Samples,
			sample{
				Operation: "Startup", Round: round, Count: 5, Worker: figures{Median: 400 * slow}, SWTPM: figures{Median: 200 * slow},
				Resets: &resets{figures{Median: 9000}, figures{Median: 300}}, Memory: memories{},
			},
			// Means that differ must not matter here.
			sample{Operation: "GetRandom", Round: round, Count: 50, Worker: figures{Median: 40 * slow, Mean: 1}, SWTPM: figures{Median: 50 * slow, Mean: 900}, Memory: memory},
			// And medians not here.
			sample{
				Operation: "Create RSA-2048", Round: round, Count: 30, Memory: memory,
				Worker: figures{1, float64(100 + 100*round), 30}, SWTPM: figures{2, float64(200 - 50*round), 40},
			})
	}
	return r
}

func TestRatiosAreOfOneRound(t *testing.T) {
	r := example()
	for name, want := range map[string][]float64{"Startup": {2, 2, 2}, "GetRandom": {0.8, 0.8, 0.8}, "Create RSA-2048": {0.5, 200.0 / 150, 3}, "none": nil} {
		if got := r.ratios(name); !slices.EqualFunc(got, want, near) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if ours, theirs := r.medians("GetRandom"); ours != 48 || theirs != 60 {
		t.Errorf("medians %v, %v", ours, theirs)
	}
	if got := spread(nil); got != "-" {
		t.Errorf("spread of nothing is %q", got)
	}
}

func TestTotal(t *testing.T) {
	// 600 and 450 times 30; variances 90 × 30² and 90 × 40².
	ratio, deviation, n := example().total("Create RSA-2048")
	want := 600.0 / 450 * math.Sqrt(90*900/(18000.0*18000)+90*1600/(13500.0*13500))
	if n != 90 || !near(ratio, 600.0/450) || !near(deviation, want) {
		t.Errorf("%v, %v, %d; want %v, %v, 90", ratio, deviation, n, 600.0/450, want)
	}
	if _, _, n := example().total("none"); n != 0 {
		t.Errorf("%d keys of nothing", n)
	}
}

func TestMarkdown(t *testing.T) {
	text := example().markdown()
	for _, want := range []string{
		"| Startup | 1.00 | 2.00 (2.00 to 2.00) | 480 | 240 | 5 |",
		"| GetRandom | 1.00 | 0.80 (0.80 to 0.80) | 48.0 | 60.0 | 50 |",
		"| Create RSA-2048 (means) | 1.00 | 1.33 (0.50 to 3.00) | 200 | 150 | 30 |",
		"The sums over all 90 keys of each side have the ratio 1.33, to which luck gives a standard error of 0.04.",
		"| worker | 14.0 | 8.00 | 12.0 | 13.0 |",
		"| swtpm | - | 6.00 | 7.00 | 7.50 |",
		"take Keel 9000 µs, which starts a new process in a new sandbox, and swtpm 300 µs",
		"`swtpm -x`", "memory is locked,", "in `/somewhere`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line with %q in\n%s", want, text)
		}
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	far := example()
	far.Samples[0].Worker.Median *= 100
	for name, r := range map[string]*results{"example": example(), "far off": far, "empty": {}} {
		text := r.plot()
		dots := reporttest.Dots(t, text)
		if dots != len(r.Samples) {
			t.Errorf("%s: %d dots, want %d", name, dots, len(r.Samples))
		}
		if ticks := strings.Count(text, `text-anchor="middle"`); ticks > 30 {
			t.Errorf("%s: %d ticks", name, ticks)
		}
	}
}

// codes are the command codes that are to be measured (Library part 2 §6.5.2).
var codes = map[string]uint32{
	"Startup": 0x144, "GetRandom": 0x17B, "PCR_Extend": 0x182, "PCR_Read": 0x17E, "NV_Write": 0x137, "NV_Read": 0x14E,
	"Create RSA-2048": 0x153, "Create P-256": 0x153, "Sign RSA-2048": 0x15D, "Sign P-256": 0x15D, "Quote P-256": 0x158,
}

// watched is a TPM that knows what it was sent since it was asked to.
type watched struct {
	tpm
	commands [][]byte
	replies  []string
	resets   int
}

func (w *watched) Send(command []byte) ([]byte, error) {
	response, err := w.tpm.Send(command)
	w.commands, w.replies = append(w.commands, slices.Clone(command)), append(w.replies, string(response))
	return response, err
}

func (w *watched) Reset(ctx context.Context) error {
	w.resets++
	return w.tpm.Reset(ctx)
}

// of returns the different commands with a code, and the different responses to them.
func (w *watched) of(code uint32) (sent, commands, replies int) {
	c, r := map[string]bool{}, map[string]bool{}
	for i, command := range w.commands {
		if binary.BigEndian.Uint32(command[6:]) == code {
			sent++
			c[string(command)], r[w.replies[i]] = true, true
		}
	}
	return sent, len(c), len(r)
}

// TestOperations runs every operation on two TPMs.
func TestOperations(t *testing.T) {
	var pair [sides]tpm
	for i := range pair {
		p, err := peer.Start(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if err := powerOn(p); err != nil {
			t.Fatal(err)
		}
		pair[i] = p
	}
	for _, op := range command.Operations {
		t.Run(op.Name, func(t *testing.T) {
			op.Count = 4
			if op.Luck {
				op.Count = 1
			}
			for round := range 2 { // what the first leaves behind stands in the second's way
				ours, theirs := &watched{tpm: pair[worker]}, &watched{tpm: pair[swtpm]}
				s, err := compare(t.Context(), &op, [sides]tpm{ours, theirs}, round)
				if err != nil {
					t.Fatal(err)
				}
				if s.Operation != op.Name || s.Round != round || s.Count != op.Count || s.Worker.Median <= 0 || s.SWTPM.Median <= 0 || s.Memory.SWTPM.RSS == 0 {
					t.Errorf("%+v", s)
				}
				if want := op.Cold; (s.Resets != nil) != want || (ours.resets == 1+op.Count) != want {
					t.Errorf("%d resets, %+v", ours.resets, s.Resets)
				}
				checkTraffic(t, op, ours, theirs)
			}
		})
	}
}

func checkTraffic(t *testing.T, op command.Operation, ours, theirs *watched) {
	t.Helper()
	code, ok := codes[op.Name]
	if !ok {
		t.Fatal("no command code is known")
	}
	sent, commands, replies := ours.of(code)
	if sent < 1+op.Count {
		t.Errorf("%d commands, want %d at least", sent, 1+op.Count)
	}
	if n, _, _ := theirs.of(code); n != sent {
		t.Errorf("%d commands here, %d there", sent, n)
	}
	// Each write writes something else, and random numbers and signatures on P-256 differ.
	if op.Vary != nil && commands < 1+op.Count {
		t.Errorf("%d different commands of %d", commands, sent)
	}
	if slices.Contains([]string{"GetRandom", "Create P-256", "Create RSA-2048", "Sign P-256", "Quote P-256"}, op.Name) && replies != sent {
		t.Errorf("%d different responses of %d", replies, sent)
	}
}

// TestCommandsDiffer: sides that would run different commands are not compared.
func TestCommandsDiffer(t *testing.T) {
	n := byte(0)
	op := command.Operation{Name: "odd", Count: 1, Prepare: func(*command.Kit) ([]byte, error) { n++; return []byte{n}, nil }}
	if s, err := compare(t.Context(), &op, [sides]tpm{}, 0); !errors.Is(err, command.Err) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestWorker: the image's worker runs commands, and a reset gives it a new process and
// keeps its state.
func TestWorker(t *testing.T) {
	vtpmtest.NeedRoot(t)
	program, err := buildWorker(t.Context(), "../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755); err != nil { // a test's folders are its user's
		t.Fatal(err)
	}
	k, err := startWorker(t.Context(), program, filepath.Join(t.TempDir(), "tpm"), vtpmtest.CanLock())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := powerOn(k); err != nil {
		t.Fatal(err)
	}
	kit := &command.Kit{TPM: k}
	if _, err := kit.DefineIndex(8); err != nil {
		t.Fatal(err)
	}
	before := k.Pid()
	if m, err := memoryOf(before); err != nil || m.RSS == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := errors.Join(powerOff(t.Context(), k), powerOn(k)); err != nil {
		t.Fatal(err)
	}
	if k.Pid() == before {
		t.Error("a reset kept the process")
	}
	if err := kit.Forget(); err != nil {
		t.Errorf("the index is gone: %v", err)
	}
	if s := k.Stats(); s.Commits < 3 {
		t.Errorf("%d commits", s.Commits)
	}
}

// TestOnOneProcessor: all threads are on one processor meanwhile, and on all afterwards.
func TestOnOneProcessor(t *testing.T) {
	allowed := func() int {
		done := make(chan int)
		go func() {
			runtime.LockOSThread() // a thread of its own, which ends with it
			var cpus unix.CPUSet
			if err := unix.SchedGetaffinity(0, &cpus); err != nil {
				t.Error(err)
			}
			done <- cpus.Count()
		}()
		return <-done
	}
	before := allowed()
	failed := errors.New("failed")
	if err := onOneProcessor(func() error {
		if n := allowed(); n != 1 {
			t.Errorf("on %d processors", n)
		}
		return failed
	}); !errors.Is(err, failed) {
		t.Error(err)
	}
	if n := allowed(); n != before {
		t.Errorf("on %d of %d processors afterwards", n, before)
	}
}
