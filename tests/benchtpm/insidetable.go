package main

import (
	"fmt"
	"strings"

	"keel/tests/bench/report"
	"keel/tests/benchtpm/command"
)

// insideOf returns what get takes from each sample of a side.
func (r *results) insideOf(side inside, get func(*insideSample) (float64, bool)) []float64 {
	var values []float64
	for i := range r.Inside {
		if r.Inside[i].inside != side {
			continue
		}
		if v, ok := get(&r.Inside[i]); ok {
			values = append(values, v)
		}
	}
	return values
}

// insideTable writes what guests measured.
func (r *results) insideTable(b *strings.Builder) {
	p := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	rounds := 0
	for i := range r.Inside {
		rounds = max(rounds, r.Inside[i].Round+1)
	}
	p("\n## From inside a guest\n")
	p("The same commands through the driver of Debian's kernel 6.1: beneath Keel, and beneath nested QEMU with swtpm in the same VM and VTL2 kernel. Medians of %d boots, µs.\n", rounds)
	p("| Operation | CRB, ratio | Keel | QEMU | TIS, ratio | Keel | QEMU |")
	p("|---|---|---|---|---|---|---|")
	for i := range command.Operations {
		name := command.Operations[i].Name
		median := func(monitor, front string) float64 {
			return report.Median(r.insideOf(inside{monitor, front}, func(s *insideSample) (float64, bool) {
				v, ok := s.Figures[name]
				return v, ok
			}))
		}
		if median("keel", "crb") == 0 {
			continue
		}
		row := []string{name}
		for _, front := range []string{"crb", "tis"} {
			ours, theirs := median("keel", front), median("qemu", front)
			row = append(row, report.Ratio(ours, theirs), report.Number(ours), report.Number(theirs))
		}
		p("| %s |", strings.Join(row, " | "))
	}
	entry := func(front string) float64 {
		return report.Median(r.insideOf(inside{"keel", front}, func(s *insideSample) (float64, bool) { return s.EntryMS, s.EntryMS > 0 }))
	}
	p("\nA boot with a new TPM, which makes its keys and certificates then, comes to the guest's first instruction after %s ms (CRB) and %s ms (TIS), without a TPM after %s ms.",
		report.Number(entry("crb")), report.Number(entry("tis")), report.Number(entry("off")))
	if len(r.InsideFailures) > 0 {
		p("%d boots of nested QEMU did not come to their end (`results.json` has their messages); a side without figures never did.", len(r.InsideFailures))
	}
	p("Nested QEMU has `kernel-irqchip=on`. Its firmware, qboot, measures nothing. swtpm runs as `%s`.", strings.Join(r.InsideCommand, " "))
}
