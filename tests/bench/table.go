package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"keel/tests/bench/report"
)

// row is one measure of the comparison.
type row struct {
	name   string
	unit   string
	vps    int
	get    func(*sample) (float64, bool)
	budget string // DESIGN, section 6; empty where it sets none
}

const mebi = 1 << 20

// rows lists the measures, the headline first.
func (r *results) rows() []row {
	var rows []row
	for _, vps := range []int{1, 2} {
		boot := "ratio at most 0.7"
		rows = append(rows,
			row{"boot: monitor's start to userspace", "ms", vps, func(s *sample) (float64, bool) { return s.UserspaceMS, true }, boot},
		)
		for _, name := range r.figures(vps) {
			rows = append(rows, row{"guest: " + name, "us", vps, func(s *sample) (float64, bool) {
				v, ok := s.Figures[name]
				return v, ok
			}, "ratio below 1 to irqchip=off"})
		}
		memory := ""
		if vps == 2 {
			memory = "at most 48 MiB"
		}
		rows = append(rows, row{"memory of VTL2, peak", "MiB", vps, func(s *sample) (float64, bool) { return float64(s.MemoryPeak) / mebi, s.MemoryPeak > 0 }, memory})
	}
	return rows
}

// figures returns the names of all figures that guests of that size printed.
func (r *results) figures(vps int) []string {
	names := map[string]bool{}
	for i := range r.Samples {
		if r.Samples[i].VPs == vps {
			for name := range r.Samples[i].Figures {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// medians are the middles of one row, 0 where nothing was measured.
type medians struct{ keel, snp, tdx, off, on float64 }

func (r *results) medians(w row) medians {
	of := func(monitor string) float64 { return report.Median(r.of(side{monitor, w.vps}, w.get)) }
	return medians{of(keel), of(keelSNP), of(keelTDX), of(qemuOff), of(qemuOn)}
}

// markdown writes the results for people.
func (r *results) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Keel beside nested QEMU\n")
	p("Written by `make bench`. Medians of %d rounds. A ratio is Keel's value over QEMU's: below 1, Keel is faster or smaller.\n", r.Rounds)
	p("The last two ratios are those of `--isolation snp` and `tdx`, on the emulated machines, to Keel without isolation: at most 1.5 for the boot.\n")
	p("Machine: %s, %d cores, %d MiB RAM, Linux %s, Debian %s. %s, accelerator %s. Date: %s.\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.RAM/mebi, r.Machine.Kernel, r.Machine.Debian, r.QEMU, r.Accel, r.Date)
	p("| Measure | VPs | Ratio to irqchip=off | Ratio to irqchip=on | Keel | QEMU, irqchip=off | QEMU, irqchip=on | Unit | Budget | Keel, snp | Keel, tdx | Ratio of snp | Ratio of tdx |")
	p("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, w := range r.rows() {
		m := r.medians(w)
		p("| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", w.name, w.vps, report.Ratio(m.keel, m.off), report.Ratio(m.keel, m.on),
			report.Number(m.keel), report.Number(m.off), report.Number(m.on), w.unit, w.budget,
			report.Number(m.snp), report.Number(m.tdx), report.Ratio(m.snp, m.keel), report.Ratio(m.tdx, m.keel))
	}
	size := func(n int64) string { return report.Number(float64(n) / mebi) }
	p("| image file | any | %[1]s | %[1]s | %[2]s | %[3]s | %[3]s | MiB | at most 16 MiB | | | | |", report.Ratio(float64(r.Images.Keel), float64(r.Images.Peer)), size(r.Images.Keel), size(r.Images.Peer))
	p("\n![Ratios and boot times](results.svg)\n")
	p("References for memory and image (DESIGN, section 6): OpenHCL's release image takes 64 MiB (confidential) or 70 MiB (x64); its initramfs has")
	p("14.9 MB raw, 6.5 MB packed, plus a kernel. The peer's image is the VTL2 kernel (%s MiB) with Debian's QEMU, its libraries and firmware (%s MiB).\n",
		size(r.Images.VTL2Kernel), size(r.Images.PeerInitramfs))
	b.WriteString(r.method())
	return b.String()
}

// method says how the figures came about, and what they leave out.
func (r *results) method() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("## How it is measured\n")
	p("- All sides run the guest kernel `%s` with the same initrd and %d MiB of memory in large pages, in the same VM of %d MiB", r.Kernel, r.GuestMemory/mebi, r.VMMemory/mebi)
	p("  and one CPU more than the guest has VPs, which the same code of `keel run` starts, on the same VTL2 kernel with the same command line, through the same boot shim.")
	p("  Sides alternate; every other round goes backwards.")
	p("- The clock starts when PID 1 of VTL2 is ready to start the monitor, and stops when `KEEL-GUEST userspace` reaches the host through the same")
	p("  virtio-serial port. Inside the VM the time stamp counter counts, outside the host's clock; they meet at power-on, whose moment QEMU's trace has.")
	p("- In QEMU's favour, its kernel and initrd lie in VTL2's memory when the clock starts and are not held against its memory; Keel fetches both after.")
	p("  The reservation of large pages counts on both sides. QEMU boots through qboot, has no HPET, SMM, USB, SATA, SMBus or VGA, and keeps KVM's")
	p("  paravirtual clock, which Keel does not offer.")
	p("- Microseconds are those of the guest program (`tests/guest`, check `bench`): for each operation the best mean of five rounds.")
	p("- Memory is all of the VM's less the guest's and what is free, sampled every 250 ms while the guest runs.")
	p("- QEMU 7.2 with irqchip=off emulates one CPU only (see `tests/bench/run.go`), so that side has no figures at 2 VPs.")
	p("- A run that failed after userspace counts with what it had measured; one that failed before is repeated, up to %d times a round, unless its time was up. A side that", attempts)
	p("  never reached userspace in the first round is left out of the others. Failures, of %d runs in all:", len(r.Samples)+r.early())
	for _, at := range sides {
		early, late := 0, 0
		for _, f := range r.Failures {
			if f.side == at && f.Late {
				late++
			} else if f.side == at {
				early++
			}
		}
		p("  %s: %d before userspace, %d after.", at, early, late)
	}
	p("  `results.json` has their messages. Nested virtualization in QEMU's emulation has defects; QEMU with irqchip=off meets them most.")
	p("\nKeel's guest exits per run, boot and payload together (medians):\n")
	p("| Exit | 1 VP | 2 VPs | 1 VP, snp | 2 VPs, snp | 1 VP, tdx | 2 VPs, tdx |\n|---|---|---|---|---|---|---|")
	for _, kind := range r.exitKinds() {
		of := func(monitor string, vps int) float64 {
			return report.Median(r.of(side{monitor, vps}, func(s *sample) (float64, bool) { return float64(s.Exits[kind]), len(s.Exits) > 0 }))
		}
		p("| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |", kind,
			of(keel, 1), of(keel, 2), of(keelSNP, 1), of(keelSNP, 2), of(keelTDX, 1), of(keelTDX, 2))
	}
	p("\nNested QEMU is started as:\n")
	for _, name := range slices.Sorted(maps.Keys(r.Commands)) {
		p("- %s: `%s`", name, strings.Join(r.Commands[name], " "))
	}
	return b.String()
}

// early counts the runs that gave no sample.
func (r *results) early() int {
	n := 0
	for _, f := range r.Failures {
		if !f.Late {
			n++
		}
	}
	return n
}

// exitKinds returns the kinds of Keel's exits.
func (r *results) exitKinds() []string {
	kinds := map[string]bool{}
	for i := range r.Samples {
		for kind := range r.Samples[i].Exits {
			kinds[kind] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}
