package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"keel/boot"
	"keel/boot/qemu"
	"keel/initramfs"
	"keel/kernelcfg"
	"keel/paravisor/config"
	"keel/tests/bench/peer"
	"keel/tests/bench/peerimage"
	"keel/tests/bench/vm"
	"keel/tests/guest"
)

// What is measured from inside a guest: the same commands through the kernel's driver,
// beneath Keel and beneath nested QEMU with swtpm, on the same VTL2 kernel.

// inside is one way to have a TPM.
type inside struct {
	Monitor   string `json:"monitor"`   // "keel" or "qemu"
	Interface string `json:"interface"` // "crb", "tis" or "off"
}

func (i inside) String() string { return i.Monitor + " " + i.Interface }

// insides are measured in this order, and every other round backwards. The first says
// what a boot takes without a TPM.
var insides = []inside{{"keel", "off"}, {"keel", "crb"}, {"qemu", "crb"}, {"keel", "tis"}, {"qemu", "tis"}}

const (
	insideMemory = 512 << 20 // of the guest, bytes
	insideVM     = 832       // of the VM, MiB
	insideLimit  = 5 * time.Minute
)

// insideSample is what one boot measured.
type insideSample struct {
	inside
	Round   int                `json:"round"`
	Figures map[string]float64 `json:"microseconds"` // by operation
	// EntryMS is from power-on to the guest's first instruction; Keel's alone.
	EntryMS float64 `json:"guest_entry_ms,omitempty"`
}

// guests is what all boots share.
type guests struct {
	kernel, initrd []byte
	keel, peer     peerimage.Image
	work           string
	accel          qemu.Accel
}

// prepareGuests builds the images.
func prepareGuests(ctx context.Context, image, work string) (*guests, error) {
	g := &guests{work: work}
	path, err := kernelcfg.GuestKernel(ctx, "6.1")
	if err != nil {
		return nil, err
	}
	if g.kernel, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if g.initrd, err = initramfs.Build(ctx, initramfs.Options{
		Flavour: initramfs.Release, Root: ".", Programs: []initramfs.Program{{Package: "keel/tests/benchtpm/load", Path: "init"}},
	}); err != nil {
		return nil, err
	}
	summary, err := boot.Open(image)
	if err != nil {
		return nil, err
	}
	if g.keel, err = peerimage.Read(image); err != nil {
		return nil, err
	}
	kernel, err := kernelcfg.Build(ctx, kernelcfg.Release)
	if err != nil {
		return nil, err
	}
	g.peer, err = peerimage.Build(ctx, peerimage.Options{
		Root: ".", Kernel: kernel, Cmdline: summary.Cmdline, Work: filepath.Join(work, "peer"), Binaries: []string{peer.SWTPMPath},
	})
	return g, err
}

// insideTries bounds the boots of a side in the first round. Nested QEMU may fail: a side
// that never came to its end is left out of the other rounds, and has no figures.
const insideTries = 3

// measure boots every side in every round. Failures are those of nested QEMU.
func (g *guests) measure(ctx context.Context, rounds int) (samples []insideSample, failures []string, err error) {
	lost := map[inside]bool{}
	for round := range rounds {
		order := slices.Clone(insides)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, side := range order {
			if lost[side] {
				continue
			}
			s, err := g.boot(ctx, side)
			for n := 1; err != nil && n < insideTries && side.Monitor == "qemu" && ctx.Err() == nil; n++ {
				failures = append(failures, fmt.Sprintf("%s: %v", side, err))
				s, err = g.boot(ctx, side)
			}
			if err != nil && (side.Monitor != "qemu" || ctx.Err() != nil) {
				return nil, nil, fmt.Errorf("%s: %w", side, err)
			}
			if err != nil {
				failures = append(failures, fmt.Sprintf("%s: %v", side, err))
				lost[side] = round == 0
				fmt.Fprintf(os.Stderr, "benchtpm: guests, round %d of %d: %s failed\n", round+1, rounds, side)
				continue
			}
			s.Round = round
			fmt.Fprintf(os.Stderr, "benchtpm: guests, round %d of %d: %s: %.4v us, guest entry after %.0f ms\n", round+1, rounds, side, s.Figures, s.EntryMS)
			samples = append(samples, s)
		}
	}
	return samples, failures, nil
}

// options composes the VM of a side. Only image and configuration differ.
func (g *guests) options(side inside) (*qemu.Options, error) {
	o := &qemu.Options{
		Image: g.keel.PVH, ImageBytes: g.keel.IGVMBytes, Kernel: g.kernel, Initrd: g.initrd,
		VPs: 1, Memory: insideMemory, Name: "benchtpm", Accel: qemu.AccelAuto, Loader: qemu.LoaderPVH,
		Console: qemu.ConsoleStdio, Log: filepath.Join(g.work, "log"), VTL2Log: filepath.Join(g.work, "vtl2"), Timeout: insideLimit,
		VMMemory: insideVM << 20,
	}
	cmdline := "console=ttyS0 quiet panic=-1"
	if side.Interface == "off" {
		cmdline += " keel.tpm=off"
	}
	var err error
	if side.Monitor == "qemu" {
		o.Image, o.ImageBytes = g.peer.PVH, g.peer.IGVMBytes
		machine := peer.Machine{
			IRQChip: "on", VPs: 1, Memory: insideMemory, Append: cmdline, Emulated: g.accel != qemu.AccelKVM, TPM: side.Interface,
		}
		o.Config, err = json.Marshal(peer.Config{Args: machine.Command(), Memory: insideMemory, VPs: 1, SWTPM: true})
		return o, err
	}
	c := &config.Config{
		GuestName: o.Name, VPs: 1, Memory: insideMemory, CommandLine: cmdline,
		KernelSize: uint64(len(g.kernel)), HasInitrd: true, InitrdSize: uint64(len(g.initrd)),
	}
	switch side.Interface {
	case "crb":
		c.TPM = &config.TPM{Interface: config.TPMCRB}
	case "tis":
		c.TPM = &config.TPM{Interface: config.TPMTIS}
	}
	o.Config, err = config.Marshal(c)
	return o, err
}

// transcript takes a console.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(b)
}

// boot runs one side once.
func (g *guests) boot(ctx context.Context, side inside) (insideSample, error) {
	o, err := g.options(side)
	if err != nil {
		return insideSample{}, err
	}
	var console transcript
	report, err := vm.Run(ctx, o, &console)
	g.accel = report.Accel
	console.mu.Lock()
	defer console.mu.Unlock()
	said := guest.Parse(console.text.String())
	if err == nil {
		err = said.Check("tpm")
	}
	if err != nil {
		return insideSample{}, fmt.Errorf("%w; its console ends: %q", err, vm.Tail(console.text.String()))
	}
	s := insideSample{inside: side, Figures: map[string]float64{}}
	for _, f := range said.Bench {
		s.Figures[strings.ReplaceAll(f.Name, "_P-256", " P-256")] = f.Value
	}
	if side.Monitor == "keel" && report.GuestEntryMS != nil {
		s.EntryMS = *report.GuestEntryMS
	}
	return s, nil
}
