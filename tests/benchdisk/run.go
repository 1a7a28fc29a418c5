package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/tests/bench/peer"
	"keel/tests/bench/peerimage"
	"keel/tests/bench/vm"
	"keel/tests/benchdisk/fio"
	"keel/tests/guest"
)

// The sides of the comparison.
const (
	limit       = "nvme-in-vtl2"
	keelVirtio  = "keel-virtio-scsi"
	keelStorVSC = "keel-storvsc"
	peerVirtio  = "qemu-virtio-scsi"
)

// sides are measured in this order.
var sides = []string{limit, keelVirtio, keelStorVSC, peerVirtio}

// fronts are those sides that are Keel's.
var fronts = map[string]config.Front{keelVirtio: config.FrontVirtioSCSI, keelStorVSC: config.FrontStorVSC}

// sample is what one boot measured.
type sample struct {
	Side    string                `json:"side"`
	Round   int                   `json:"round"`
	Figures map[string]jobFigures `json:"jobs"` // by name
	Exits   map[string]uint64     `json:"exits,omitempty"`
}

// jobFigures are what one job measured.
type jobFigures struct {
	IOPS   float64 `json:"iops"`
	MeanUS float64 `json:"mean_us"`
	P99US  float64 `json:"p99_us"`
	// CPUUS is the time that the host's CPUs spent on the whole VM, emulation of the
	// controller included, per I/O; 0 when the windows were not seen.
	CPUUS float64 `json:"cpu_us"`
	IOs   float64 `json:"ios"`
}

// line is a sample in short.
func (s *sample) line(p fio.Plan) string {
	var words []string
	for _, j := range p.Jobs {
		words = append(words, fmt.Sprintf("%s %.0f/s", j.Name, s.Figures[j.Name].IOPS))
	}
	return strings.Join(words, ", ")
}

// bench is what all boots share.
type bench struct {
	kernel, initrd []byte // of the guest
	kernelName     string // file name
	modules        map[string][]string
	fio, load      string // programs on this machine
	keel           peerimage.Image
	peer           peerimage.Image
	disk           string // image
	diskBytes      uint64
	vps            int
	memory         uint64 // of the guest, bytes
	vm             uint64 // of the VM, bytes; the same for all sides
	plan           fio.Plan
	timeout        time.Duration
	accel          qemu.Accel // what auto meant, known after the first boot
	work           string     // folder for scratch files
	name           string     // of the VM
}

// options composes the VM of a side. Only image and configuration differ.
func (b *bench) options(side string, plan fio.Plan) (*qemu.Options, error) {
	disk := qemu.Disk{Files: []string{b.disk}, Front: qemu.FrontVirtioSCSI, BlockSize: 512}
	disks := []qemu.Disk{disk}
	if err := qemu.NameDisks(disks); err != nil {
		return nil, err
	}
	o := &qemu.Options{
		Image: b.peer.PVH, ImageBytes: b.peer.IGVMBytes, Kernel: b.kernel, Initrd: b.initrd,
		VPs: b.vps, Memory: b.memory, Name: b.name, Accel: qemu.AccelAuto, Loader: qemu.LoaderPVH, Disks: disks,
		Console: qemu.ConsoleStdio, Log: filepath.Join(b.work, "log"), VTL2Log: filepath.Join(b.work, "vtl2"), Timeout: b.timeout,
		VMMemory: b.vm,
	}
	var err error
	switch front, ours := fronts[side]; {
	case ours:
		o.Image, o.ImageBytes = b.keel.PVH, b.keel.IGVMBytes
		o.Config, err = config.Marshal(&config.Config{
			GuestName: o.Name, VPs: b.vps, Memory: b.memory, CommandLine: b.cmdline(side, plan),
			KernelSize: uint64(len(b.kernel)), HasInitrd: true, InitrdSize: uint64(len(b.initrd)),
			Disks: []config.Disk{{Serials: disks[0].Serials, Front: front}},
		})
	case side == limit:
		o.Config, err = json.Marshal(peer.Config{
			Args: []string{"/" + loadPath, "-alone", "-plan", plan.String(), nvmeDisk}, Disk: nvmeDisk,
		})
	default:
		o.Config, err = json.Marshal(peer.Config{Args: b.machine(plan).Command(), Memory: b.memory, VPs: b.vps, Disk: nvmeDisk})
	}
	return o, err
}

// cmdline is the command line of the guest kernel.
func (b *bench) cmdline(side string, plan fio.Plan) string {
	return "console=ttyS0 quiet panic=-1 keel.modules=" + strings.Join(b.modules[side], ",") + " keel.script=load keel.plan=" + plan.String()
}

func (b *bench) machine(plan fio.Plan) peer.Machine {
	return peer.Machine{
		IRQChip: "on", VPs: b.vps, Memory: b.memory, Append: b.cmdline(peerVirtio, plan), Disk: nvmeDisk,
		Emulated: b.accel != qemu.AccelKVM,
	}
}

// boot runs one side once. The sample holds what was measured also when there is an
// error.
func (b *bench) boot(ctx context.Context, side string, plan fio.Plan) (sample, string, error) {
	o, err := b.options(side, plan)
	if err != nil {
		return sample{}, "", err
	}
	console := newListener(o.Name)
	report, failed := vm.Run(ctx, o, console)
	if b.accel = report.Accel; failed != nil {
		failed = fmt.Errorf("%s: %w", side, failed)
	}
	text, windows := console.heard()
	s, err := evaluate(side, plan, text, windows)
	s.Exits = report.Exits
	return s, text, errors.Join(failed, err)
}

// evaluate turns what a side said into a sample.
func evaluate(side string, plan fio.Plan, text string, windows map[string]window) (sample, error) {
	t := guest.Parse(text)
	s := sample{Side: side, Figures: map[string]jobFigures{}}
	values := map[string]float64{}
	for _, f := range t.Bench {
		values[f.Name] = f.Value
	}
	for _, j := range plan.Jobs {
		f := jobFigures{
			IOPS: values[j.Name+".iops"], MeanUS: values[j.Name+".mean"], P99US: values[j.Name+".p99"], IOs: values[j.Name+".ios"],
		}
		if f.IOPS <= 0 {
			continue
		}
		if w := windows[j.Name]; w.wall > 0 {
			f.CPUUS = float64(w.cpu.Microseconds()) / w.wall.Seconds() / f.IOPS
		}
		s.Figures[j.Name] = f
	}
	checks := []string{"load"}
	if side != limit {
		checks = append(checks, "modules", "script")
	}
	if err := t.Check(checks...); err != nil {
		return s, fmt.Errorf("%w: %s: %w", vm.ErrRun, side, err)
	}
	return s, nil
}
