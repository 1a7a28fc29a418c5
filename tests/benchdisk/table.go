package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"keel/tests/bench/report"
	"keel/tests/benchdisk/fio"
)

const mebi = 1 << 20

// bounds are what Keel's speed over the limit should be at least (DESIGN, section 6).
var bounds = map[string]float64{"randread-1": 0.5, "randread-32": 0.75, "read-1m-4": 0.8}

// titles say the jobs to people.
var titles = map[string]string{
	"randread-1": "4 KiB random reads, depth 1", "randread-32": "4 KiB random reads, depth 32",
	"randwrite-1": "4 KiB random writes, depth 1", "randwrite-32": "4 KiB random writes, depth 32",
	"read-1m-4": "1 MiB sequential reads, depth 4",
}

func iops(f jobFigures) float64 { return f.IOPS }

// jobs are those that some sample has, in the order of the plan.
func (r *results) jobs() []fio.Job {
	p, _ := fio.ParsePlan(r.Plan) // was written by Plan.String
	return p.Jobs
}

// markdown writes the results for people.
func (r *results) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Keel's disks beside NVMe in VTL2 and nested QEMU\n")
	p("Written by `make bench-disk`. Medians of %d rounds. A ratio is speed over speed in the same round, with the least and the greatest of all rounds: above 1, the first is faster.\n", r.Rounds)
	p("Machine: %s, %d cores, %d MiB RAM, Linux %s, Debian %s. %s, accelerator %s. Date: %s.\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.RAM/mebi, r.Machine.Kernel, r.Machine.Debian, r.QEMU, r.Accel, r.Date)
	p("| Ratio | Bound | Keel virtio-scsi : NVMe in VTL2 | Keel storvsc : NVMe in VTL2 | QEMU virtio-scsi : NVMe in VTL2 | Keel virtio-scsi : QEMU | Keel storvsc : QEMU |")
	p("|---|---|---|---|---|---|---|")
	for _, j := range r.jobs() {
		bound := "-"
		if v, ok := bounds[j.Name]; ok {
			bound = fmt.Sprintf("%.2f of NVMe", v)
		}
		p("| %s | %s | %s | %s | %s | %s | %s |", titles[j.Name], bound,
			spread(r.ratios(keelVirtio, limit, j.Name)), spread(r.ratios(keelStorVSC, limit, j.Name)), spread(r.ratios(peerVirtio, limit, j.Name)),
			spread(r.ratios(keelVirtio, peerVirtio, j.Name)), spread(r.ratios(keelStorVSC, peerVirtio, j.Name)))
	}
	p("\n![Ratios of every round](results.svg)")
	r.sidesTable(&b, "I/Os per second", iops)
	r.sidesTable(&b, "Mean latency, µs", func(f jobFigures) float64 { return f.MeanUS })
	r.sidesTable(&b, "99th percentile of completion, µs", func(f jobFigures) float64 { return f.P99US })
	r.sidesTable(&b, "CPU time of the host per I/O, µs", func(f jobFigures) float64 { return f.CPUUS })
	r.exitsTable(&b)
	r.method(&b)
	return b.String()
}

// sidesTable writes medians of one figure, a row a job, a column a side.
func (r *results) sidesTable(b *strings.Builder, title string, get func(jobFigures) float64) {
	fmt.Fprintf(b, "\n| %s | %s |\n|---%s|\n", title, strings.Join(sides, " | "), strings.Repeat("|---", len(sides)))
	for _, j := range r.jobs() {
		var cells []string
		for _, side := range sides {
			cells = append(cells, report.Number(report.Median(r.values(side, j.Name, get))))
		}
		fmt.Fprintf(b, "| %s | %s |\n", titles[j.Name], strings.Join(cells, " | "))
	}
}

// exitsTable writes Keel's exits per I/O by kind.
func (r *results) exitsTable(b *strings.Builder) {
	kinds := map[string]bool{}
	for _, jobs := range r.ExitsPerIO {
		for _, exits := range jobs {
			for kind := range exits {
				kinds[kind] = true
			}
		}
	}
	if len(kinds) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(kinds))
	fmt.Fprintf(b, "\n| Keel's exits per I/O | %s | all |\n|---%s|---|\n", strings.Join(names, " | "), strings.Repeat("|---", len(names)))
	for _, side := range sides {
		for _, j := range r.jobs() {
			exits, ok := r.ExitsPerIO[side][j.Name]
			if !ok {
				continue
			}
			sum := 0.0
			fmt.Fprintf(b, "| %s, %s |", side, j.Name)
			for _, kind := range names {
				sum += exits[kind]
				fmt.Fprintf(b, " %.2f |", exits[kind])
			}
			fmt.Fprintf(b, " %.2f |\n", sum)
		}
	}
}

// method says how the figures came about, and what they leave out.
func (r *results) method(b *strings.Builder) {
	p := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	p("\n## How it is measured\n")
	p("- All sides have one image of %d MiB in the host's memory as one of QEMU's NVMe controllers, behind a root port and its Intel IOMMU, in the same VM of %d MiB",
		r.DiskBytes/mebi, r.VMMemory/mebi)
	p("  and one CPU more than the guest has VPs (%d), which the same code of `keel run` starts, through the same boot shim. One static fio with the same arguments runs", r.VPs)
	p("  in all: in the guest (`%s`, %d MiB), or in VTL2. Sides alternate; every other round goes backwards.", r.Kernel, r.GuestMemory/mebi)
	p("- `%s`: fio in VTL2's user space on the controller that VTL2's kernel drives: what is left when nothing is between. Its kernel, and that of nested QEMU, is", limit)
	p("  the release kernel with block layer, NVMe driver, io_submit and System V IPC on top (`kernelcfg`, flavour bench). Keel runs on the release kernel.")
	p("  The IOMMU maps each I/O, with the kernel's lazy invalidation.")
	p("- `%s`: Debian's QEMU in VTL2 with KVM's interrupt controllers and clock, its disk on an I/O thread:", peerVirtio)
	p("  `%s`", strings.Join(r.Peer, " "))
	p("- Plan `%s`: jobs, seconds that are measured, seconds before. fio is started as `%s`.", r.Plan, strings.Join(r.Fio, " "))
	p("- CPU time is that of the host's QEMU process during the steady part of a job: processors, guest, paravisor and the controller's emulation together.")
	if len(r.ExitsPerIO) > 0 {
		p("- Exits are the run report's of a boot with one job less those of a boot without, over fio's count.")
	}
	p("- A run that fails is repeated, at most %d times. Failures of %d runs:", attempts-1, len(r.Samples)+len(r.Failures))
	for _, side := range sides {
		n := 0
		for _, f := range r.Failures {
			if f.Side == side {
				n++
			}
		}
		p("  %s: %d.", side, n)
	}
	p("  `results.json` has their messages and every sample.")
}
