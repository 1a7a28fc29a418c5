// Command bench measures Keel beside its peer: the same guest kernel and initrd,
// in the same VTL2 kernel and the same VM, beneath the paravisor and beneath nested
// QEMU. It judges nothing: it writes what it saw to tests/bench/results.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/kernelcfg"
	"keel/paravisor/config"
	"keel/tests/bench/peerimage"
	"keel/tests/bench/vm"
	"keel/tests/guest"
)

// flags are the choices of a measurement.
type flags struct {
	rounds              int
	memory, vm          string
	image, vtl2, kernel string
	out                 string
	only                string
	timeout             time.Duration
}

func main() {
	var f flags
	flag.IntVar(&f.rounds, "n", 7, "rounds; each boots every side once, in alternating order")
	flag.StringVar(&f.memory, "mem", "512M", "memory of the guest")
	flag.StringVar(&f.vm, "vm-mem", "768M", "memory of the VM, the same for all sides")
	flag.StringVar(&f.image, "image", "build/keel.igvm", "image of Keel")
	flag.StringVar(&f.vtl2, "vtl2-kernel", "", "VTL2 kernel of the peer (default the release kernel, which Keel's image has)")
	flag.StringVar(&f.kernel, "kernel", "", "guest kernel (default Debian's 6.1 cloud kernel)")
	flag.StringVar(&f.out, "out", "tests/bench/results", "folder for the results")
	flag.StringVar(&f.only, "only", "", "measure only the sides whose name contains this; writes no results, prints consoles")
	flag.DurationVar(&f.timeout, "timeout", 3*time.Minute, "for one boot")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	work, err := os.MkdirTemp("", "keel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b, err := prepare(ctx, f, work)
	if err != nil {
		return err
	}
	if f.only != "" {
		return b.trial(ctx, f.only)
	}
	r, err := b.measure(ctx, f.rounds)
	if err != nil {
		return err
	}
	return b.write(ctx, r, f.out)
}

// prepare builds everything that the boots need.
func prepare(ctx context.Context, f flags, work string) (*bench, error) {
	b := &bench{timeout: f.timeout, work: work}
	var err error
	if b.memory, err = qemu.ParseMemory(f.memory); err != nil {
		return nil, err
	}
	if b.vm, err = qemu.ParseMemory(f.vm); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "bench: building guest and images")
	if f.kernel == "" {
		if f.kernel, err = kernelcfg.GuestKernel(ctx, "6.1"); err != nil {
			return nil, err
		}
	}
	b.kernelName = filepath.Base(f.kernel)
	if b.kernel, err = os.ReadFile(f.kernel); err != nil {
		return nil, err
	}
	if b.initrd, err = guest.Initrd(ctx, "."); err != nil {
		return nil, err
	}
	summary, err := boot.Open(f.image)
	if err != nil {
		return nil, err
	}
	if b.keel, err = peerimage.Read(f.image); err != nil {
		return nil, err
	}
	b.digests = map[config.Isolation][]byte{}
	for _, isolation := range isolations {
		measured, err := boot.Measure(f.image, []string{isolation.String()}, false)
		if err != nil {
			return nil, err
		}
		b.digests[isolation] = measured[0].Digest[:]
	}
	if f.vtl2 == "" {
		if f.vtl2, err = kernelcfg.Build(ctx, kernelcfg.Release); err != nil {
			return nil, err
		}
	}
	b.peer, err = peerimage.Build(ctx, peerimage.Options{Root: ".", Kernel: f.vtl2, Cmdline: summary.Cmdline, Work: filepath.Join(work, "peer")})
	return b, err
}

// attempts bounds the boots of one side in one round. A boot that fails is noted
// in the results: nested virtualization in emulation has defects of its own. One that
// hangs until its time is up is not repeated, and a side that never reached userspace in
// its first round is left out of the others.
const attempts = 3

// measure boots every side in every round. Odd rounds go backwards, so that a
// machine that grows slower or faster favours nobody.
func (b *bench) measure(ctx context.Context, rounds int) (*results, error) {
	r := &results{Rounds: rounds, Failures: []failure{}}
	for round := range rounds {
		order := slices.Clone(sides)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, at := range order {
			if round > 0 && !r.reached(at) {
				continue
			}
			for attempt := 1; ; attempt++ {
				s, console, err := b.boot(ctx, at)
				if err != nil {
					if ctx.Err() != nil {
						return nil, err
					}
					fmt.Fprintf(os.Stderr, "bench: %v; its console ended: %q\n", err, vm.Tail(console))
					r.Failures = append(r.Failures, failure{at, err.Error(), s.UserspaceMS > 0})
				}
				if s.UserspaceMS > 0 {
					fmt.Fprintf(os.Stderr, "bench: round %d of %d: %-14s userspace after %5.0f ms\n", round+1, rounds, at, s.UserspaceMS)
					r.Samples = append(r.Samples, s)
					break
				}
				if attempt == attempts || qemu.OutcomeOf(err) == handoff.OutcomeTimeout {
					break // a side without a sample shows as a dash
				}
			}
		}
	}
	return r, nil
}

// trial boots some sides once and shows everything.
func (b *bench) trial(ctx context.Context, only string) error {
	for _, side := range sides {
		if !strings.Contains(side.String(), only) {
			continue
		}
		s, console, err := b.boot(ctx, side)
		figures, bad := json.Marshal(s) // not %+v, which is the side's own text
		fmt.Printf("--- %s\n%s\n--- %s\n", side, console, figures)
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	return nil
}
