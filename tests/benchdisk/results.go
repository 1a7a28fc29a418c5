package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"keel/boot/qemu"
	"keel/tests/bench/peer"
	"keel/tests/bench/report"
)

// results is everything that results.json holds.
type results struct {
	Date        string         `json:"date"`
	Machine     report.Machine `json:"machine"`
	QEMU        string         `json:"qemu"` // of the host; nested QEMU is the same binary
	Accel       qemu.Accel     `json:"accel"`
	Rounds      int            `json:"rounds"`
	VPs         int            `json:"vps"`
	GuestMemory uint64         `json:"guest_memory_bytes"`
	VMMemory    uint64         `json:"vm_memory_bytes"`
	Kernel      string         `json:"guest_kernel"`
	Plan        string         `json:"plan"`
	DiskBytes   uint64         `json:"disk_bytes"`
	Fio         []string       `json:"fio"` // arguments of the first job in VTL2
	Peer        []string       `json:"nested_qemu_command"`
	Samples     []sample       `json:"samples"`
	Failures    []failure      `json:"failures"`
	// ExitsPerIO has Keel's exits by side, job and kind.
	ExitsPerIO map[string]map[string]map[string]float64 `json:"exits_per_io,omitempty"`
}

// failure is a run that did not come to its end.
type failure struct {
	Side  string `json:"side"`
	Error string `json:"error"`
}

// write composes the results and writes them as data, as tables and as a plot.
func (b *bench) write(ctx context.Context, r *results, folder string) error {
	var err error
	if r.QEMU, err = report.Version(ctx, peer.QEMUPath); err != nil {
		return err
	}
	r.Date, r.Machine, r.Accel = time.Now().UTC().Format(time.DateOnly), report.ThisMachine(), b.accel
	r.VPs, r.GuestMemory, r.VMMemory, r.Kernel, r.DiskBytes = b.vps, b.memory, b.vm, b.kernelName, b.diskBytes
	r.Plan, r.Peer = b.plan.String(), b.machine(b.plan).Command()
	if len(b.plan.Jobs) > 0 {
		r.Fio = b.plan.Args(b.plan.Jobs[0], nvmeDisk)
	}
	return report.Write(folder, r, r.markdown(), r.plot())
}

// values returns what get takes from a job of each sample of a side.
func (r *results) values(side, job string, get func(jobFigures) float64) []float64 {
	var values []float64
	for i := range r.Samples {
		if f, ok := r.Samples[i].Figures[job]; ok && r.Samples[i].Side == side {
			values = append(values, get(f))
		}
	}
	return values
}

// ratios returns a side's speed over another's, round by round: what makes a whole
// round slow cancels out.
func (r *results) ratios(side, reference, job string) []float64 {
	of := map[int]float64{}
	for i := range r.Samples {
		if f, ok := r.Samples[i].Figures[job]; ok && r.Samples[i].Side == reference {
			of[r.Samples[i].Round] = f.IOPS
		}
	}
	var values []float64
	for i := range r.Samples {
		f, ok := r.Samples[i].Figures[job]
		if base := of[r.Samples[i].Round]; ok && r.Samples[i].Side == side && base > 0 {
			values = append(values, f.IOPS/base)
		}
	}
	return values
}

// spread formats the median of ratios with the least and the greatest.
func spread(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", report.Median(values), slices.Min(values), slices.Max(values))
}
