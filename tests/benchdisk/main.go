// Command benchdisk measures the disks that Keel translates beside an NVMe controller
// that VTL2's own kernel drives (the limit) and beside nested QEMU with virtio-scsi on
// that controller (the peer): the same fio on the same image behind the same emulated
// controller and IOMMU, in the same VM. It judges nothing: it writes what it saw to
// tests/benchdisk/results.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"keel/boot"
	"keel/boot/qemu"
	"keel/kernelcfg"
	"keel/tests/bench/peerimage"
	"keel/tests/bench/vm"
	"keel/tests/benchdisk/fio"
)

// flags are the choices of a measurement.
type flags struct {
	rounds, vps         int
	memory, vm, size    string
	image, vtl2, kernel string
	vtl2Append          string
	out, dir            string
	only, jobs          string
	seconds, ramp       int
	exits               bool
	timeout             time.Duration
}

func main() {
	var f flags
	flag.IntVar(&f.rounds, "n", 7, "rounds; each boots every side once, in alternating order")
	flag.IntVar(&f.vps, "vps", 1, "VPs of the guest; the VM of every side has one CPU more")
	flag.StringVar(&f.memory, "mem", "512M", "memory of the guest")
	flag.StringVar(&f.vm, "vm-mem", "832M", "memory of the VM, the same for all sides")
	flag.StringVar(&f.size, "size", "1G", "size of the disk")
	flag.StringVar(&f.dir, "dir", "", "folder for the disk's image (default /dev/shm where it has room, else one for temporary files)")
	flag.StringVar(&f.image, "image", "build/keel.igvm", "image of Keel")
	flag.StringVar(&f.vtl2, "vtl2-kernel", "", "VTL2 kernel of limit and peer (default the bench kernel, built when it is missing)")
	flag.StringVar(&f.vtl2Append, "vtl2-append", "", "further words for the command line of that kernel; for experiments")
	flag.StringVar(&f.kernel, "kernel", "6.1", "guest kernel: "+strings.Join(kernelcfg.GuestKernels(), " or "))
	flag.StringVar(&f.out, "out", "tests/benchdisk/results", "folder for the results")
	flag.StringVar(&f.only, "only", "", "measure only the sides whose name contains this, once; writes no results, prints consoles")
	flag.StringVar(&f.jobs, "jobs", "", "jobs, apart by commas (default all)")
	flag.IntVar(&f.seconds, "seconds", 10, "each job is measured for so long")
	flag.IntVar(&f.ramp, "ramp", 2, "seconds that each job runs before that")
	flag.BoolVar(&f.exits, "exits", true, "also count Keel's exits per I/O: a boot more for each job and front end")
	flag.DurationVar(&f.timeout, "timeout", 5*time.Minute, "for one boot")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "benchdisk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	work, err := os.MkdirTemp("", "keel-benchdisk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{vps: f.vps, timeout: f.timeout, work: work, name: fmt.Sprintf("benchdisk-%d", os.Getpid())}
	if err := b.prepare(ctx, f); err != nil {
		return err
	}
	remove, err := b.makeDisk(f.dir, f.size)
	if err != nil {
		return err
	}
	defer remove()
	if f.only != "" {
		return b.trial(ctx, f.only)
	}
	r, err := b.measure(ctx, f.rounds)
	if err == nil && f.exits {
		err = b.countExits(ctx, r)
	}
	if err != nil {
		return err
	}
	return b.write(ctx, r, f.out)
}

// prepare builds everything that the boots need, but for the disk.
func (b *bench) prepare(ctx context.Context, f flags) error {
	var err error
	if b.memory, err = qemu.ParseMemory(f.memory); err != nil {
		return err
	}
	if b.vm, err = qemu.ParseMemory(f.vm); err != nil {
		return err
	}
	b.plan = fio.Plan{Jobs: fio.Jobs, Seconds: f.seconds, Ramp: f.ramp}
	if f.jobs != "" {
		if b.plan.Jobs, err = fio.ParseJobs(f.jobs); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "benchdisk: building guest and images")
	if err := b.makeGuest(ctx, f.kernel); err != nil {
		return err
	}
	summary, err := boot.Open(f.image)
	if err != nil {
		return err
	}
	if b.keel, err = peerimage.Read(f.image); err != nil {
		return err
	}
	if f.vtl2 == "" {
		if f.vtl2, err = kernelcfg.Build(ctx, kernelcfg.Bench); err != nil {
			return err
		}
	}
	b.peer, err = peerimage.Build(ctx, peerimage.Options{
		Root: ".", Kernel: f.vtl2, Cmdline: strings.TrimSpace(summary.Cmdline + " " + f.vtl2Append), Work: filepath.Join(b.work, "peer"),
		Files: map[string]string{fioPath: b.fio, loadPath: b.load},
	})
	return err
}

// attempts bounds the boots of one side in one round. A boot that fails is noted in
// the results: nested virtualization in emulation has defects of its own.
const attempts = 3

// measure boots every side in every round. Odd rounds go backwards, so that a machine
// that grows slower or faster favours nobody.
func (b *bench) measure(ctx context.Context, rounds int) (*results, error) {
	r := &results{Rounds: rounds, Failures: []failure{}, ExitsPerIO: map[string]map[string]map[string]float64{}}
	for round := range rounds {
		order := slices.Clone(sides)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, at := range order {
			s, err := b.insist(ctx, r, at, b.plan)
			if err != nil {
				return nil, err
			}
			s.Round = round
			r.Samples = append(r.Samples, s)
			fmt.Fprintf(os.Stderr, "benchdisk: round %d of %d: %-16s %s\n", round+1, rounds, at, s.line(b.plan))
		}
	}
	return r, nil
}

// insist boots a side until it has come to its end, or has failed too often: the
// sample then holds what was measured, and a dash stands for the rest. The error is
// that of ctx.
func (b *bench) insist(ctx context.Context, r *results, at string, plan fio.Plan) (sample, error) {
	for attempt := 1; ; attempt++ {
		s, console, err := b.boot(ctx, at, plan)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "benchdisk: %v; its console ended: %q\n", err, vm.Tail(console))
		r.Failures = append(r.Failures, failure{at, err.Error()})
		if attempt == attempts {
			return s, nil
		}
	}
}

// trial boots some sides once and shows everything.
func (b *bench) trial(ctx context.Context, only string) error {
	for _, side := range sides {
		if !strings.Contains(side, only) {
			continue
		}
		s, console, err := b.boot(ctx, side, b.plan)
		fmt.Printf("--- %s\n%s\n--- %+v\n", side, console, s)
		if err != nil {
			return err
		}
	}
	return nil
}
