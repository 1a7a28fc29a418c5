package main

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"time"

	"keel/tests/bench/report"
	"keel/tests/benchtpm/command"
	peer "keel/vtpm/vtpmtest/swtpm"
)

// results is everything that results.json holds.
type results struct {
	Date     string         `json:"date"`
	Machine  report.Machine `json:"machine"`
	SWTPM    string         `json:"swtpm"` // version
	Packages []string       `json:"packages"`
	Command  []string       `json:"swtpm_command"`
	Rounds   int            `json:"rounds"`
	// Operations are those that were measured, in order.
	Operations []string `json:"operations"`
	Samples    []sample `json:"samples"`
	// Fresh is the memory after the self-test, before the first operation.
	Fresh   memories `json:"fresh_memory"`
	Locked  bool     `json:"worker_memory_locked"`
	Commits commits  `json:"commits"`
	States  string   `json:"states"` // folder
	// Inside is what guests measured.
	Inside        []insideSample `json:"inside,omitempty"`
	InsideCommand []string       `json:"inside_swtpm_command,omitempty"`
	// InsideFailures are boots of nested QEMU that did not come to their end.
	InsideFailures []string `json:"inside_failures,omitempty"`
}

// commits are those of the worker's state that the operations made.
type commits struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean_us"`
	Bytes int     `json:"state_bytes"` // size of the last
}

// write composes the results and writes them as data, as a table and as a plot.
func (b *bench) write(ctx context.Context, r *results, folder string) error {
	var err error
	if r.SWTPM, err = peer.Version(ctx); err != nil {
		return err
	}
	r.Date, r.Machine, r.Packages = time.Now().UTC().Format(time.DateOnly), report.ThisMachine(), packages(ctx)
	r.Command = append([]string{"swtpm"}, peer.Args("FOLDER", "SOCKET", "CONTROL")...)
	r.Locked, r.States = b.locked, b.where
	if k, ok := b.warm[worker].(*keelTPM); ok {
		s := k.Stats()
		r.Commits = commits{Count: s.Commits, Bytes: s.Permanent}
		if s.Commits > 0 {
			r.Commits.Mean = float64(s.CommitTotal.Nanoseconds()) / 1e3 / float64(s.Commits)
		}
	}
	return report.Write(folder, r, r.markdown(), r.plot())
}

// packages returns the versions of Debian's packages that matter: swtpm has the engine as
// a shared library, the worker as a static one.
func packages(ctx context.Context) []string {
	out, _ := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}\n", "swtpm", "libtpms0", "libtpms-dev").Output()
	return strings.Split(strings.TrimSpace(string(out)), "\n") // where they are not from packages, nothing
}

// find returns an operation.
func find(name string) *command.Operation {
	i := slices.IndexFunc(command.Operations, func(op command.Operation) bool { return op.Name == name })
	if i < 0 {
		return &command.Operation{Name: name}
	}
	return &command.Operations[i]
}

// times returns what a round is compared by, in µs.
func (s *sample) times() (ours, theirs float64) {
	if find(s.Operation).Luck {
		return s.Worker.Mean, s.SWTPM.Mean // as their sums: both ran as many
	}
	return s.Worker.Median, s.SWTPM.Median
}

// of returns the samples of an operation, in the order of the rounds.
func (r *results) of(name string) []sample {
	var list []sample
	for _, s := range r.Samples {
		if s.Operation == name {
			list = append(list, s)
		}
	}
	return list
}

// ratios returns the worker's time over swtpm's, round by round: what makes a whole round
// slow cancels out.
func (r *results) ratios(name string) []float64 {
	var values []float64
	for _, s := range r.of(name) {
		if ours, theirs := s.times(); theirs > 0 {
			values = append(values, ours/theirs)
		}
	}
	return values
}

// medians returns the medians of both sides' times over all rounds, in µs.
func (r *results) medians(name string) (ours, theirs float64) {
	var a, b []float64
	for _, s := range r.of(name) {
		x, y := s.times()
		a, b = append(a, x), append(b, y)
	}
	return report.Median(a), report.Median(b)
}

// total compares the sums over all rounds of an operation, and tells the standard error
// that luck alone gives the ratio. n is the number of commands on each side.
func (r *results) total(name string) (ratio, deviation float64, n int) {
	type sum struct{ times, squares float64 }
	var side [sides]sum
	for _, s := range r.of(name) {
		n += s.Count
		for i, f := range []figures{s.Worker, s.SWTPM} {
			side[i].times += f.Mean * float64(s.Count)
			side[i].squares += f.Deviation * f.Deviation * float64(s.Count)
		}
	}
	if n == 0 || side[swtpm].times == 0 {
		return 0, 0, 0
	}
	// The variance of a sum is the sum of variances; relative ones add up in a ratio.
	var relative float64
	for _, s := range side {
		relative += s.squares / (s.times * s.times)
	}
	ratio = side[worker].times / side[swtpm].times
	return ratio, ratio * math.Sqrt(relative), n
}

// spread formats the median of ratios with the least and the greatest.
func spread(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", report.Median(values), slices.Min(values), slices.Max(values))
}
