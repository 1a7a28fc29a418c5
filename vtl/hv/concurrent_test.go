package hv

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
)

// mailbox is a local APIC: one bit for the vector, one wake-up.
type mailbox []chan struct{}

func (m mailbox) Raise(vp int, _ irq.Vector) {
	select {
	case m[vp] <- struct{}{}:
	default:
	}
}

// TestConcurrentServers: guests that sleep until they are interrupted, and servers
// that post numbered messages and set flags, while timers run. A lost interrupt, a
// lost or doubled message or flag hangs the test or fails its count; -race watches
// the rest.
func TestConcurrentServers(t *testing.T) {
	const vps, messages, flags = 3, 2000, 1500
	m, err := guestmem.New(ram, guestmem.Layout{LowTop: ram, HighBase: 1 << 32}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	clock := irq.NewSystemClock()
	wake := make(mailbox, vps)
	for i := range wake {
		wake[i] = make(chan struct{}, 1)
	}
	h, err := New(Config{VPs: vps, Memory: m, Interrupts: wake, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{Hypervisor: h, tb: t, memory: m}
	for vp := range vps {
		g.synic(vp)
	}
	deadline := time.Now().Add(60 * time.Second)
	var work sync.WaitGroup
	for vp := range vps {
		guest := &fakeGuest{rig: g, vp: vp, now: clock.Now, wake: wake[vp], want: messages, wantFlags: flags, deadline: deadline}
		guest.slot = g.words(simPage+vp*x86.PageSize+vmbusSINT*256, 256)
		guest.flags = g.words(siefPage+vp*x86.PageSize+vmbusSINT*256, 256)
		work.Go(guest.run)
		work.Go(func() {
			for i := range uint32(messages) {
				var p [8]byte
				binary.LittleEndian.PutUint32(p[:], i)
				for err := ErrBusy; errors.Is(err, ErrBusy) && time.Now().Before(deadline); runtime.Gosched() {
					if err = h.PostMessage(vp, vmbusSINT, 1, p[:]); err != nil && !errors.Is(err, ErrBusy) {
						t.Errorf("VP %d: %v", vp, err)
					}
				}
			}
		})
		work.Go(func() {
			for i := range flags {
				// A flag that is still set would merge with the next one.
				for atomic.LoadUint32(&guest.flags[i%64])&(1<<(i%32)) != 0 && time.Now().Before(deadline) {
					runtime.Gosched()
				}
				if err := h.SignalEvent(vp, vmbusSINT, i%64*32+i%32); err != nil {
					t.Errorf("VP %d: %v", vp, err)
				}
			}
		})
	}
	work.Wait()
}

// fakeGuest is a VP whose guest handles SINT 2 as hv_vmbus does.
type fakeGuest struct {
	*rig
	vp, want, wantFlags int
	now                 func() int64
	wake                chan struct{}
	slot, flags         []uint32
	deadline            time.Time
	seen, seenFlags     int
	ticks               int
}

func (f *fakeGuest) run() {
	f.write(f.vp, hv.MSR_STIMER0_COUNT, 5000)
	f.write(f.vp, hv.MSR_STIMER0_CONFIG, messageTimer|hv.STIMER_PERIODIC|hv.STIMER_ENABLED)
	for f.seen < f.want || f.seenFlags < f.wantFlags {
		select {
		case <-f.wake:
		case <-time.After(time.Duration(f.TimerDeadline(f.vp) - f.now())):
			f.CheckTimers(f.vp)
		case <-time.After(time.Until(f.deadline)):
			f.tb.Errorf("VP %d sleeps with %d of %d messages, %d of %d flags", f.vp, f.seen, f.want, f.seenFlags, f.wantFlags)
			return
		}
		f.handle()
	}
	f.write(f.vp, hv.MSR_STIMER0_CONFIG, 0)
}

func (f *fakeGuest) handle() {
	for i := range f.flags {
		for w := atomic.SwapUint32(&f.flags[i], 0); w != 0; w &= w - 1 {
			f.seenFlags++
		}
	}
	switch atomic.LoadUint32(&f.slot[0]) {
	case hv.HvMessageTypeNone:
		return
	case hv.HvMessageTimerExpired:
		f.ticks++
	default:
		if n := atomic.LoadUint32(&f.slot[hv.MESSAGE_PAYLOAD/4]); n != uint32(f.seen) {
			f.tb.Errorf("VP %d: message %d, want %d", f.vp, n, f.seen)
		}
		f.seen++
	}
	atomic.StoreUint32(&f.slot[0], hv.HvMessageTypeNone)
	if atomic.LoadUint32(&f.slot[1])>>8&hv.MESSAGE_FLAG_PENDING != 0 {
		f.write(f.vp, hv.MSR_EOM, 0)
	}
}

// TestSignalPathsDoNotAllocate: what happens for every interrupt and every doorbell.
func TestSignalPathsDoNotAllocate(t *testing.T) {
	g := newRig(t, 2, func(c *Config) { c.Interrupts = silent{} })
	g.enableCalls()
	g.synic(1)
	g.rec.signal = func(int, uint32, uint16) Status { return 0 }
	g.SetPorts(g.rec)
	flags := g.words(siefPage+x86.PageSize+vmbusSINT*256, 256)
	slot := g.words(simPage+x86.PageSize+vmbusSINT*256, 256)
	trap := &trapped{}
	text := make([]byte, 64)
	g.write(1, hv.MSR_STIMER0_CONFIG, directTimer|hv.STIMER_AUTO_ENABLE)
	for name, f := range map[string]func(){
		"SignalEvent": func() { g.SignalEvent(1, vmbusSINT, 40); flags[1] = 0 },
		"PostMessage": func() { g.PostMessage(1, vmbusSINT, 1, text); slot[0] = 0 },
		"HvCallSignalEvent": func() {
			trap.r = hcl.Registers{RCX: hv.HvCallSignalEvent | fast, RDX: 3}
			g.Hypercall(1, TrapPort64, trap)
		},
		"HvCallSendSyntheticClusterIpi": func() {
			trap.r = hcl.Registers{RCX: hv.HvCallSendSyntheticClusterIpi | fast, RDX: 0x41, R8: 3}
			g.Hypercall(0, TrapPort64, trap)
		},
		"timer": func() {
			g.WriteMSR(1, hv.MSR_STIMER0_COUNT, g.now(1)+100)
			g.TimerDeadline(1)
			g.clock.Advance(20_000)
			g.CheckTimers(1)
		},
		"reference count": func() { g.ReadMSR(1, hv.MSR_TIME_REF_COUNT) },
	} {
		check(t, name+": allocations", testing.AllocsPerRun(200, f), 0)
	}
}

// silent is an interrupt controller of no interest.
type silent struct{}

func (silent) Raise(int, irq.Vector) {}
