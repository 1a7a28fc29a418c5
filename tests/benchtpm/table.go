package main

import (
	"fmt"
	"strings"

	"keel/tests/bench/report"
	"keel/tests/benchtpm/command"
)

const mebi = 1 << 20

// ratioBound is what the worker's time over swtpm's should be at most.
const ratioBound = 1.0

// markdown writes the results for people.
func (r *results) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Keel's TPM beside swtpm\n")
	p("Written by `make bench-tpm`. A ratio is the worker's time over swtpm's in the same round: median of %d rounds, the least and the greatest. Below 1, the worker is faster.\n", r.Rounds)
	p("Machine: %s, %d cores, %d MiB RAM, Linux %s, Debian %s. swtpm %s; packages %s. Date: %s.\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.RAM/mebi, r.Machine.Kernel, r.Machine.Debian, r.SWTPM, strings.Join(r.Packages, ", "), r.Date)
	p("| Operation | Bound | Ratio | Worker, µs | swtpm, µs | Commands a round |")
	p("|---|---|---|---|---|---|")
	for _, name := range r.Operations {
		ours, theirs := r.medians(name)
		note, count := "", 0
		if find(name).Luck {
			note = " (means)"
		}
		for _, s := range r.of(name) {
			count = s.Count
		}
		p("| %s%s | %.2f | %s | %s | %s | %d |", name, note, ratioBound, spread(r.ratios(name)), report.Number(ours), report.Number(theirs), count)
	}
	r.lucky(&b)
	p("\n![Ratios of every round](results.svg)\n")
	r.memoryTable(&b)
	if len(r.Inside) > 0 {
		r.insideTable(&b)
	}
	r.method(&b)
	return b.String()
}

// lucky writes what all rounds together say of operations whose times are luck.
func (r *results) lucky(b *strings.Builder) {
	for _, name := range r.Operations {
		ratio, deviation, n := r.total(name)
		if !find(name).Luck || n == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s searches for primes, and how long that takes is luck: the ratio of single rounds says little.\n", name)
		fmt.Fprintf(b, "The sums over all %d keys of each side have the ratio %.2f, to which luck gives a standard error of %.2f.\n", n, ratio, deviation)
	}
}

// memoryTable writes what the processes have resident.
func (r *results) memoryTable(b *strings.Builder) {
	var last memories
	for _, s := range r.Samples {
		if !find(s.Operation).Cold {
			last = s.Memory
		}
	}
	b.WriteString("| Resident, MiB | Bound | After the self-test | After all operations | Peak |\n|---|---|---|---|---|\n")
	row := func(name, bound string, fresh, end memory) {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, bound, mib(fresh.RSS), mib(end.RSS), mib(end.Peak))
	}
	row(sideNames[worker], mib(memoryBound), r.Fresh.Worker, last.Worker)
	row(sideNames[swtpm], "-", r.Fresh.SWTPM, last.SWTPM)
}

func mib(bytes uint64) string { return report.Number(float64(bytes) / mebi) }

// method says how the figures came about, and what they leave out.
func (r *results) method(b *strings.Builder) {
	p := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	p("\n## How it is measured\n")
	p("- The worker is the image's, in its sandbox, behind package `vtpm`: a time is that of one call of `Execute`, with both hops over the")
	p("  socket pair, the volatile state that comes back where the command changed it (a PCR_Extend is repeated instead), and the commit of permanent state to a sealed store in a file. swtpm runs as")
	p("  `%s`; a time is one write to its socket and the reading of the response. Sockets of both block.", strings.Join(r.Command, " "))
	p("- Both have the same engine, libtpms: the worker that of libtpms-dev, swtpm that of libtpms0. swtpm loses its volatile state when it dies, and the last writes when the host does:")
	p("  it renames a file, unsealed, and does not wait for the disk. The worker's state is sealed and synced. Both states lie in `%s`.", r.States)
	p("- Everything runs on one processor: on two, where the kernel puts processes that wake each other is luck, worth a factor of 1.6.")
	p("- Both sides run the same bytes, command by command in turn, each first every other time. One command a round and side is not counted.")
	p("  Before, both ran the full self-test. In a round, times of single commands give a median, in the table their median over rounds.")
	p("- Startup is the command alone, after an orderly Shutdown and a reset. What is not in it: %s.", r.resets())
	p("- Keys are created and loaded below a P-256 storage key. RSA signs with RSASSA and SHA-256, P-256 with ECDSA and SHA-256; a quote is of")
	p("  PCRs 0 to 7. GetRandom asks for %d bytes, NV commands move %d, each write other ones.", command.RandomSize, command.NVSize)
	p("- The worker's state was committed %d times, each in %s µs on average, the last with %d bytes of the engine's.", r.Commits.Count, report.Number(r.Commits.Mean), r.Commits.Bytes)
	lock := "locked"
	if !r.Locked {
		lock = "not locked, which this machine does not allow"
	}
	p("- Resident is VmRSS of one process through all rounds, but for Startup, which has processes of its own; peak is VmHWM. The worker's memory is %s,", lock)
	p("  and its program is static; swtpm's has the pages of shared libraries that it touched.")
	p("- Nothing but what guests measured has registers (CRB, TIS) and exits in its time. `results.json` has every round.")
}

// resets tells what the resets before Startup took.
func (r *results) resets() string {
	var ours, theirs []float64
	for _, s := range r.Samples {
		if s.Resets != nil {
			ours, theirs = append(ours, s.Resets.Worker.Median), append(theirs, s.Resets.SWTPM.Median)
		}
	}
	return fmt.Sprintf("Shutdown and reset take Keel %s µs, which starts a new process in a new sandbox, and swtpm %s µs, whose process stays",
		report.Number(report.Median(ours)), report.Number(report.Median(theirs)))
}
