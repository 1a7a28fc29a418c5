package vtl

import (
	"runtime"
	"sync/atomic"
	"time"

	"keel/hcl"
	"keel/hcl/sys"
	"keel/vtl/apic"
	"keel/vtl/msr"
)

// vp is one virtual processor with its thread. Fields without a note belong to
// that thread.
type vp struct {
	guest   *Guest
	index   int
	work    chan func()
	backend hcl.VP
	local   *apic.Local
	timer   *sys.ThreadTimer
	armed   int64 // the timer's expiry, 0 when it is not known to be armed

	// inside is set while the thread is in the guest or asleep, where it must
	// be kicked to notice that wake is set. Any thread reads and writes them.
	inside, wake atomic.Bool

	hold hold

	// flush is set when the VP's TLB must be flushed before it enters the guest.
	flush atomic.Bool

	// spared is where the guest reads that its interrupt in service needs no end, nil
	// when it was not told so.
	spared *uint32

	// crowded is set where VPs outnumber the CPUs that may run them.
	crowded bool

	waiting  bool   // an application processor before its startup IPI
	halted   bool   // in HLT
	within   bool   // an instruction that the next run finishes
	stepping bool   // one instruction, for a debugger
	rip      uint64 // at the last exit
	broken   error  // of the substrate, in the middle of an exit
	trace    trace
	ring     atomic.Pointer[ring] // of exits, nil unless they are recorded
	emu      *emulation           // nil unless faults are raw
	msrs     msr.Bank             // of an isolated guest, that neither the substrate nor a part of Keel keeps
	adjust   uint64               // IA32_TSC_ADJUST
	oracle   *oracle              // nil unless what Keel executes is compared
	exits    [hcl.ExitKinds]atomic.Uint64
	clock    atomic.Pointer[sys.ThreadClock] // of the thread, nil before it has one
}

// serve runs what the guest sends until the process ends. The thread is the
// VP's own: KVM wants a virtual CPU to stay on one, and its signal mask
// differs from that of all others.
func (v *vp) serve() {
	runtime.LockOSThread()
	for f := range v.work {
		f()
	}
}

// create makes the VP in the substrate.
func (v *vp) create(c hcl.VPConfig) error {
	clock := sys.NewThreadClock()
	v.clock.Store(&clock)
	err := sys.BlockKick()
	if err != nil {
		return err
	}
	if v.timer, err = sys.NewThreadTimer(); err != nil {
		return err
	}
	if v.backend, err = v.guest.config.Partition.NewVP(c); err != nil {
		return err
	}
	if shadow := v.guest.config.Oracle; shadow != nil {
		v.oracle = &oracle{stats: &v.guest.oracle}
		if v.oracle.vp, err = shadow.NewVP(c); err != nil {
			return err
		}
	}
	cpus, err := sys.UsableCPUs()
	v.crowded = len(v.guest.vps) > cpus
	return err
}

// reset puts the VP into power-on state.
func (v *vp) reset() error {
	if err := v.endStep(); err != nil {
		return err
	}
	v.local.Reset()
	if v.local.BSP() {
		v.local.VirtualWire()
	}
	v.waiting, v.spared = !v.local.BSP(), nil
	v.rip, v.trace = 0, trace{}
	v.arm(0)
	v.msrs.Reset()
	v.adjust = 0
	return v.resetBackend()
}

// resetBackend resets the registers, as power-on and INIT do. It also resets
// model-specific registers, which a real INIT keeps; a processor that starts
// over sets them anew.
func (v *vp) resetBackend() error {
	v.halted, v.within = false, false
	if err := v.backend.Reset(); err != nil {
		return err
	}
	return v.guest.config.Firmware(v.backend)
}

// loop runs the VP until the guest ends. Every turn first settles what came
// from outside, then enters the guest or sleeps.
func (v *vp) loop() error {
	for {
		// The end is looked at after wake is cleared: Stop sets them in the
		// other order, so that one of the two is seen.
		v.wake.Store(false)
		if v.guest.end.Load() != nil {
			return nil
		}
		held := v.hold.on.Load()
		if held && !v.within {
			v.stand()
			continue
		}
		// A step does not end in a handler.
		quiet := v.stepping && !v.halted && !v.waiting
		if !quiet {
			if err := v.takeEvents(); err != nil {
				return err
			}
		}
		if v.flush.Swap(false) && !v.waiting {
			if err := v.flushTLB(); err != nil {
				return err
			}
		}
		if !v.waiting && !quiet {
			if err := v.deliver(); err != nil {
				return err
			}
		}
		// From here on a kick interrupts the guest or the sleep; one that came
		// before has set wake.
		v.inside.Store(true)
		if v.wake.Load() {
			v.inside.Store(false)
			continue
		}
		if v.waiting || v.halted {
			v.sleep()
			v.inside.Store(false)
			continue
		}
		if d := v.deadline(); d != v.armed {
			v.arm(d)
		}
		v.backend.SetCR8(v.local.CR8())
		if held {
			v.backend.Kick() // the run finishes the instruction and goes no further
		}
		exit, err := v.backend.Run()
		v.inside.Store(false)
		if err != nil {
			return err
		}
		var left int64 // when the guest was left, where that is recorded
		ring := v.ring.Load()
		if ring != nil {
			left = v.guest.Now()
		}
		v.within = unfinished(exit.Kind)
		v.local.SetTPR(v.backend.CR8())
		v.collectEOI()
		v.exits[exit.Kind].Add(1)
		v.dispatch(&exit)
		if v.broken != nil {
			return v.broken
		}
		v.rip = exit.RIP
		if ring != nil {
			ring.add(left, &exit)
		}
		if observe := v.guest.config.Observe; observe != nil {
			observe(v.index, exit)
		}
		if v.local.Sent() && v.crowded {
			// The guest is about to wait for a VP that may be waiting for this CPU.
			sys.Yield()
		}
	}
}

// arm sets the thread's timer; 0 disarms.
func (v *vp) arm(at int64) {
	v.timer.Arm(at)
	v.armed = at
}

// hair is by how much the timer's clock may be ahead of ours, in nanoseconds: an
// expiry that came too early must come again.
const hair = 100_000

// expired handles a wake-up that may be the timer's. A timer that has not expired
// stays armed: to arm it costs as much as an exit.
func (v *vp) expired() {
	now := v.guest.Now()
	if v.local.TimerDeadline() != 0 {
		v.local.CheckTimer(now)
	}
	if h := v.guest.hyperv; h != nil {
		h.CheckTimers(v.index)
	}
	if now >= v.armed-hair {
		v.armed = 0
	}
}

// sleep waits for a kick or for the APIC timer.
func (v *vp) sleep() {
	wait := time.Duration(-1)
	if d := v.deadline(); d != 0 {
		wait = time.Duration(max(d-v.guest.Now(), 0))
	}
	sys.WaitKick(wait)
	v.expired()
}

// takeEvents handles INIT, startup IPIs and NMIs.
func (v *vp) takeEvents() error {
	events := v.local.Pending()
	if events.INIT {
		if v.local.BSP() {
			// There is no firmware at the reset vector: the machine starts over.
			v.guest.Stop(End{Kind: EndReset, Message: "INIT of the bootstrap processor"})
			return nil
		}
		v.demandEOI()
		v.local.Init()
		if err := v.resetBackend(); err != nil {
			return err
		}
		v.waiting = true
	}
	if events.SIPI && v.waiting {
		if err := v.startUp(events.SIPIVector); err != nil {
			return err
		}
		v.waiting = false
	}
	if events.NMI && !v.waiting {
		v.halted = false
		return v.backend.InjectNMI()
	}
	return nil
}

// startUp points the VP at the real-mode code that a startup IPI names.
func (v *vp) startUp(vector uint8) error {
	s, err := v.backend.SpecialRegisters()
	if err != nil {
		return err
	}
	s.CS = hcl.RealModeStart(vector)
	if err := v.backend.SetSpecialRegisters(&s); err != nil {
		return err
	}
	r, err := v.backend.Registers()
	if err != nil {
		return err
	}
	r.RIP = 0
	return v.backend.SetRegisters(&r)
}

// deliver gives the guest the highest interrupt that it takes now, or asks for
// an exit when it will. An interrupt from the 8259 pair goes first, as its
// wire leads past the local APIC's priorities.
func (v *vp) deliver() error {
	if v.spared != nil && !v.local.Lone() {
		v.demandEOI()
	}
	extINT := v.local.ExtINTPending()
	if !extINT {
		if _, ok := v.local.NextVector(); !ok {
			v.backend.RequestInterruptWindow(false)
			return nil
		}
	}
	if !v.backend.CanInject() {
		// A halted guest with interrupts off sleeps on.
		if v.halted && v.backend.InterruptFlag() {
			v.halted = false
		}
		v.backend.RequestInterruptWindow(true)
		return nil
	}
	v.halted = false
	vector := v.local.Acknowledge
	if extINT {
		vector = v.guest.config.ExtINT
	}
	if err := v.backend.Inject(uint8(vector())); err != nil {
		return err
	}
	v.spareEOI()
	// Another one may be waiting behind it.
	_, more := v.local.NextVector()
	v.backend.RequestInterruptWindow(more || v.local.ExtINTPending())
	return nil
}
