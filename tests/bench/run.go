package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/tests/bench/peer"
	"keel/tests/bench/peerimage"
	"keel/tests/bench/vm"
	"keel/tests/guest"
)

// side is one way to run the guest.
type side struct {
	Monitor string `json:"monitor"`
	VPs     int    `json:"vps"`
}

// The monitors of the comparison.
const (
	keel    = "keel"
	keelSNP = "keel-snp" // with --isolation snp
	keelTDX = "keel-tdx" // with --isolation tdx
	qemuOff = "qemu-off" // kernel-irqchip=off: interrupt controllers in user space, as Keel's
	qemuOn  = "qemu-on"  // kernel-irqchip=on: in VTL2's kernel
)

// sides are measured in this order. QEMU 7.2 emulates the interrupt controllers of
// one CPU only: a second startup IPI, which Linux always sends, reaches an AP that
// runs already, stays pending, and keeps the AP's thread from sleeping with QEMU's
// global lock held as soon as the AP halts.
var sides = []side{{keel, 1}, {keelSNP, 1}, {keelTDX, 1}, {qemuOff, 1}, {qemuOn, 1}, {keel, 2}, {keelSNP, 2}, {keelTDX, 2}, {qemuOn, 2}}

func (s side) String() string { return fmt.Sprintf("%s, %d VP", s.Monitor, s.VPs) }

// irqchips lists QEMU's option for each monitor that is QEMU.
var irqchips = map[string]string{qemuOff: "off", qemuOn: "on"}

// isolations lists the isolation of each monitor that has some.
var isolations = map[string]config.Isolation{keelSNP: config.IsolationSNP, keelTDX: config.IsolationTDX}

// sample is what one boot measured. Times are milliseconds from the moment at
// which PID 1 of VTL2 starts the monitor.
type sample struct {
	side
	InitMS      float64            `json:"vtl2_init_ms"` // that moment, from power-on
	UserspaceMS float64            `json:"userspace_ms"`
	EntryMS     float64            `json:"guest_entry_ms,omitempty"` // Keel's alone: QEMU does not say
	Figures     map[string]float64 `json:"microseconds"`             // of single operations, by name
	MemoryUsed  uint64             `json:"memory_used_bytes"`
	MemoryPeak  uint64             `json:"memory_peak_bytes"`
	Exits       map[string]uint64  `json:"exits,omitempty"`
}

// bench is what all boots share.
type bench struct {
	kernel, initrd []byte // of the guest
	kernelName     string // file name
	keel           peerimage.Image
	peer           peerimage.Image
	digests        map[config.Isolation][]byte // launch digests of Keel's image
	memory         uint64                      // of the guest, bytes
	vm             uint64                      // of the VM, bytes; the same for all sides
	timeout        time.Duration
	accel          qemu.Accel // what auto meant, known after the first boot
	work           string     // folder for scratch files
}

// listener takes a console and notes when it said what.
type listener struct {
	mu   sync.Mutex
	text []byte
	user time.Time // of the marker
}

// marker is what the guest program says first (tests/guest).
var marker = []byte("KEEL-GUEST userspace")

// Write implements io.Writer.
func (l *listener) Write(b []byte) (int, error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	if l.user.IsZero() && bytes.Contains(l.text, marker) {
		l.user = now
	}
	return len(b), nil
}

// options composes the VM of a side. Only image and configuration differ.
func (b *bench) options(s side, trace string) (*qemu.Options, error) {
	o := &qemu.Options{
		Image: b.keel.PVH, Kernel: b.kernel, Initrd: b.initrd,
		VPs: s.VPs, Memory: b.memory, Name: "bench", Accel: qemu.AccelAuto, Loader: qemu.LoaderPVH,
		Console: qemu.ConsoleStdio, Log: filepath.Join(b.work, "log"), Timeout: b.timeout, ImageBytes: b.keel.IGVMBytes, VMMemory: b.vm,
		ExtraArgs: []string{
			"-msg", "timestamp=on", "-trace", "enable=vm_state_notify", "-D", trace,
		},
	}
	var err error
	if chip, ok := irqchips[s.Monitor]; ok {
		o.Image, o.ImageBytes = b.peer.PVH, b.peer.IGVMBytes
		o.Config, err = json.Marshal(peer.Config{Args: b.machine(chip, s.VPs).Command(), Memory: b.memory, VPs: s.VPs})
		return o, err
	}
	c := &config.Config{
		GuestName: o.Name, VPs: s.VPs, Memory: b.memory, CommandLine: guest.Cmdline(s.VPs, guest.CheckBench),
		KernelSize: uint64(len(b.kernel)), HasInitrd: true, InitrdSize: uint64(len(b.initrd)),
	}
	if isolation, ok := isolations[s.Monitor]; ok {
		c.Isolation, c.LaunchDigest = isolation, b.digests[isolation]
	}
	o.Config, err = config.Marshal(c)
	return o, err
}

func (b *bench) machine(irqchip string, vps int) peer.Machine {
	return peer.Machine{
		IRQChip: irqchip, VPs: vps, Memory: b.memory, Append: guest.Cmdline(vps, guest.CheckBench),
		Emulated: b.accel != qemu.AccelKVM,
	}
}

// boot runs one side once. A guest that reached userspace gives a sample even when
// it failed later, which the error then tells; the sample holds what was measured.
func (b *bench) boot(ctx context.Context, at side) (sample, string, error) {
	trace := filepath.Join(b.work, "trace")
	o, err := b.options(at, trace)
	if err != nil {
		return sample{}, "", err
	}
	console := &listener{}
	report, failed := vm.Run(ctx, o, console)
	b.accel = report.Accel
	console.mu.Lock()
	defer console.mu.Unlock()
	text := string(console.text)
	if failed != nil {
		failed = fmt.Errorf("%s: %w", at, failed)
	}
	log, err := os.ReadFile(trace)
	if err != nil {
		return sample{}, text, errors.Join(failed, err)
	}
	on, err := powerOn(string(log))
	if err != nil {
		return sample{}, text, errors.Join(failed, err)
	}
	s, err := evaluate(at, report, text, on, console.user)
	return s, text, errors.Join(failed, err)
}

// evaluate turns what a run left into a sample. The VM counts its times from
// power-on, so power-on is where the host's clock and the VM's meet.
func evaluate(at side, r *qemu.Report, text string, on, user time.Time) (sample, error) {
	t := guest.Parse(text)
	if r.VTL2InitMS == nil || user.IsZero() {
		return sample{}, fmt.Errorf("%w: %s: the guest did not reach userspace", vm.ErrRun, at)
	}
	since := func(at time.Time) float64 { return float64(at.Sub(on).Microseconds())/1000 - *r.VTL2InitMS }
	s := sample{
		side: at, InitMS: *r.VTL2InitMS, UserspaceMS: since(user),
		MemoryUsed: r.VTL2MemoryUsedBytes, MemoryPeak: r.VTL2MemoryPeakBytes, Exits: r.Exits,
		Figures: map[string]float64{},
	}
	if _, nested := irqchips[at.Monitor]; !nested && r.GuestEntryMS != nil {
		s.EntryMS = *r.GuestEntryMS - *r.VTL2InitMS
	}
	for _, f := range t.Bench {
		s.Figures[f.Name] = f.Value
	}
	if err := t.Check(guest.CheckBench); err != nil {
		return s, fmt.Errorf("%w: %s: %w", vm.ErrRun, at, err)
	}
	return s, nil
}

// started matches QEMU's trace of the moment at which the VM's clock starts.
var started = regexp.MustCompile(`(?m)^\d+@(\d+)\.(\d{6}):vm_state_notify running 1 `)

// powerOn returns when QEMU switched the VM on.
func powerOn(trace string) (time.Time, error) {
	m := started.FindStringSubmatch(trace)
	if m == nil {
		return time.Time{}, fmt.Errorf("%w: QEMU's trace has no start of the VM: %.200q", vm.ErrRun, trace)
	}
	seconds, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: QEMU's trace: %w", vm.ErrRun, err)
	}
	micros, _ := strconv.ParseInt(m[2], 10, 64) // six digits by the pattern
	return time.Unix(seconds, micros*1000), nil
}
