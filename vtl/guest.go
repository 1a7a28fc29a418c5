// Package vtl runs the guest: it owns the virtual processors, one thread each,
// takes every exit to the device or controller that answers it, and delivers
// interrupts from the local APICs. It sees the substrate only through package
// hcl.
package vtl

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/apic"
	"keel/vtl/bus"
	"keel/vtl/cpuid"
	"keel/vtl/guestmem"
	"keel/vtl/hv"
	"keel/vtl/irq"
)

// MaxVPs is the largest number of virtual processors of a guest.
const MaxVPs = 16

// ErrConfig says that a guest cannot be made as asked.
var ErrConfig = errors.New("guest configuration")

// Config says what a guest is made of. Ports and Memory may be filled until
// Start.
type Config struct {
	Partition hcl.Partition
	VPs       int
	Ports     *bus.Ports
	Memory    *bus.Memory
	// RAM is the guest's memory, for instructions that Keel executes: those that reach
	// devices where Partition is an hcl.RawFaults.
	RAM *guestmem.Memory
	// Oracle, unless it is nil, is an ordinary partition over the same memory, which runs
	// what Keel executes once more.
	Oracle hcl.Partition
	// ExtINT acknowledges the 8259 pair and returns the vector that it names.
	ExtINT func() irq.Vector
	// Firmware sets registers that firmware would have set, on every VP after
	// each reset.
	Firmware func(vp hcl.VP) error
	// Observe, unless it is nil, sees every exit once it is answered, on the VP's
	// thread. Data is valid until it returns.
	Observe func(vp int, e hcl.Exit)
	// HyperV, unless it is nil, gives the guest the hypervisor interface. Without it
	// the guest sees no hypervisor.
	HyperV *HyperV
}

// Guest is a guest and its virtual processors.
type Guest struct {
	config    Config
	apics     *apic.Set
	vps       []*vp
	hyperv    *hv.Hypervisor // nil unless asked for
	tscHz     uint64
	end       atomic.Pointer[End]
	refused   refusals
	recording recording
	watch     atomic.Pointer[watch] // nil unless there is a debugger
	oracle    oracleStats
}

var _ apic.Env = (*Guest)(nil)

// New makes a guest that does not run yet.
func New(c Config) (*Guest, error) {
	if c.VPs < 1 || c.VPs > MaxVPs {
		return nil, fmt.Errorf("%w: %d VPs, want 1 to %d", ErrConfig, c.VPs, MaxVPs)
	}
	g := &Guest{config: c}
	ids := make([]x86.APICID, c.VPs)
	for i := range ids {
		ids[i] = x86.APICID(i)
	}
	g.apics = apic.NewSet(ids, g)
	for i := range ids {
		g.vps = append(g.vps, &vp{guest: g, index: i, local: g.apics.Local(i), work: make(chan func()), hold: hold{orders: make(chan func())}})
	}
	if c.HyperV != nil {
		if err := g.newHyperV(c.HyperV); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return g, nil
}

// APICs returns the local APICs, for the devices that deliver to them.
func (g *Guest) APICs() *apic.Set { return g.apics }

// Start makes the virtual processors, each on the thread that will run it.
func (g *Guest) Start() error {
	supported, err := g.config.Partition.SupportedCPUID()
	if err != nil {
		return err
	}
	if raw, ok := g.config.Partition.(hcl.RawFaults); ok {
		if err := g.reserve(raw); err != nil {
			return err
		}
	}
	for _, v := range g.vps {
		go v.serve()
	}
	// The substrate knows the frequency once it has a VP, and the VPs are told
	// it through CPUID; it is asked first and the answer does not change.
	g.tscHz = g.config.Partition.TSCHz()
	machine := cpuid.Machine{VPs: len(g.vps), TSCHz: g.tscHz, TimerHz: apic.TimerHz}
	if g.hyperv != nil {
		g.hyperv.SetTSCHz(g.tscHz)
		machine.Hypervisor = g.hyperv.CPUID()
	}
	return g.each(func(v *vp) error {
		id := v.local.ID()
		return v.create(hcl.VPConfig{Index: v.index, APICID: id, CPUID: machine.Build(supported, id)})
	})
}

// TSCHz is the frequency of the guest's time stamp counter, 0 when it is unknown.
// Preconditions: Start succeeded.
func (g *Guest) TSCHz() uint64 { return g.tscHz }

// Run resets the guest, lets boot set the bootstrap processor's registers, and
// runs until the guest ends. The error means that the substrate broke.
// Preconditions: Start succeeded, and devices are in their power-on state.
func (g *Guest) Run(boot func(bsp hcl.VP) error) (End, error) {
	g.end.Store(nil)
	// All are reset before one runs, so that no startup IPI comes too early.
	if err := g.each((*vp).reset); err != nil {
		return End{}, err
	}
	err := g.each(func(v *vp) error {
		if v.index == 0 {
			if err := boot(v.backend); err != nil {
				g.Stop(End{Kind: EndStopped})
				return err
			}
		}
		if err := v.loop(); err != nil {
			g.Stop(End{Kind: EndStopped})
			return fmt.Errorf("VP %d: %w", v.index, err)
		}
		return nil
	})
	if err != nil {
		return End{}, err
	}
	return *g.end.Load(), nil
}

// each runs f for every VP on its own thread and waits for all.
func (g *Guest) each(f func(v *vp) error) error {
	errs := make([]error, len(g.vps))
	var wg sync.WaitGroup
	for i, v := range g.vps {
		wg.Add(1)
		v.work <- func() {
			errs[i] = f(v)
			// Not deferred: a panic must end the process with its own stack,
			// before anyone goes on without this VP's result.
			wg.Done()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Stop ends the current Run with the given reason; the first one counts. It
// may be called from any goroutine, also from within an exit.
func (g *Guest) Stop(e End) {
	if g.end.CompareAndSwap(nil, &e) {
		for i, v := range g.vps {
			v.hold.interrupt()
			g.Kick(i)
		}
	}
}

// NMI delivers a platform NMI.
func (g *Guest) NMI() { g.apics.NMI() }

// NMIAt interrupts one VP, whatever its local APIC masks. One that was not started yet
// does not notice.
func (g *Guest) NMIAt(i int) {
	g.apics.Deliver(apic.Message{Dest: uint32(g.apics.Local(i).ID()), Mode: apic.NMI})
}

// Now is monotonic time in nanoseconds, the base of all deadlines.
func (g *Guest) Now() int64 { return sys.MonotonicNow() }

// Kick makes a VP look at its work: at once when it is in the guest or asleep,
// else before it enters the guest next.
func (g *Guest) Kick(i int) {
	v := g.vps[i]
	v.wake.Store(true)
	if v.inside.Load() {
		v.backend.Kick()
	}
}

// TSC is a VP's time stamp counter.
func (g *Guest) TSC(i int) uint64 { return g.vps[i].backend.TSC() }

// TSCToTime converts a value of a VP's time stamp counter to the time of Now.
func (g *Guest) TSCToTime(i int, tsc uint64) int64 {
	now, counter := g.Now(), g.TSC(i)
	if tsc <= counter || g.tscHz == 0 {
		return now
	}
	const far = int64(1) << 62
	hi, lo := bits.Mul64(tsc-counter, 1e9)
	if hi >= g.tscHz {
		return far
	}
	d, _ := bits.Div64(hi, lo, g.tscHz)
	if d > uint64(far-now) {
		return far
	}
	return now + int64(d)
}

// Exits counts the exits of all VPs by kind.
func (g *Guest) Exits() map[string]uint64 {
	out := make(map[string]uint64, hcl.ExitKinds)
	for k := range hcl.ExitKinds {
		var n uint64
		for _, v := range g.vps {
			n += v.exits[k].Load()
		}
		if n > 0 {
			out[k.String()] = n
		}
	}
	return out
}

// Refused counts what the guest asked for in vain, by reason.
func (g *Guest) Refused() map[string]uint64 {
	out := map[string]uint64{}
	for name, n := range map[string]uint64{
		"msr-read":       g.refused.msrRead.Load(),
		"msr-write":      g.refused.msrWrite.Load(),
		"port-unclaimed": g.config.Ports.Unclaimed(),
		"mmio-unclaimed": g.config.Memory.Unclaimed(),
	} {
		if n > 0 {
			out[name] = n
		}
	}
	return out
}

// refusals counts guest requests that were turned down.
type refusals struct {
	msrRead, msrWrite atomic.Uint64
}
