package main

import (
	"context"
	"slices"
	"time"

	"keel/boot/qemu"
	"keel/tests/bench/peer"
	"keel/tests/bench/report"
)

// results is everything that results.json holds.
type results struct {
	Date        string              `json:"date"`
	Machine     report.Machine      `json:"machine"`
	QEMU        string              `json:"qemu"` // of the host; nested QEMU is the same binary
	Accel       qemu.Accel          `json:"accel"`
	Rounds      int                 `json:"rounds"`
	GuestMemory uint64              `json:"guest_memory_bytes"`
	VMMemory    uint64              `json:"vm_memory_bytes"`
	Kernel      string              `json:"guest_kernel"`
	Commands    map[string][]string `json:"nested_qemu_commands"`
	Images      images              `json:"images"`
	Samples     []sample            `json:"samples"`
	Failures    []failure           `json:"failures"`
}

// failure is a run that did not come to its end.
type failure struct {
	side
	Error string `json:"error"`
	Late  bool   `json:"late"` // after userspace: what it had measured counts
}

// images lists sizes in bytes.
type images struct {
	Keel           int64 `json:"keel_igvm_bytes"`
	Peer           int64 `json:"peer_igvm_bytes"`
	PeerInitramfs  int64 `json:"peer_initramfs_bytes"`
	VTL2Kernel     int64 `json:"vtl2_kernel_bytes"`
	GuestKernel    int   `json:"guest_kernel_bytes"`
	GuestInitramfs int   `json:"guest_initrd_bytes"`
}

// write composes the results and writes them as data, as a table and as a plot.
func (b *bench) write(ctx context.Context, r *results, folder string) error {
	var err error
	if r.QEMU, err = report.Version(ctx, peer.QEMUPath); err != nil {
		return err
	}
	r.Date, r.Machine, r.Accel = time.Now().UTC().Format(time.DateOnly), report.ThisMachine(), b.accel
	r.GuestMemory, r.VMMemory, r.Kernel = b.memory, b.vm, b.kernelName
	r.Commands = map[string][]string{}
	for _, s := range sides {
		if chip, ok := irqchips[s.Monitor]; ok {
			r.Commands[s.String()] = b.machine(chip, s.VPs).Command()
		}
	}
	r.Images = images{
		Keel: b.keel.IGVMBytes, Peer: b.peer.IGVMBytes, PeerInitramfs: b.peer.InitramfsBytes, VTL2Kernel: b.peer.KernelBytes,
		GuestKernel: len(b.kernel), GuestInitramfs: len(b.initrd),
	}
	return report.Write(folder, r, r.markdown(), r.plot())
}

// reached reports whether a boot of the side reached userspace.
func (r *results) reached(at side) bool {
	return slices.ContainsFunc(r.Samples, func(s sample) bool { return s.side == at })
}

// of returns what get takes from each sample of a side; samples without it are
// left out.
func (r *results) of(s side, get func(*sample) (float64, bool)) []float64 {
	var values []float64
	for i := range r.Samples {
		if r.Samples[i].side != s {
			continue
		}
		if v, ok := get(&r.Samples[i]); ok {
			values = append(values, v)
		}
	}
	return values
}
