package apic

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// liveEnv parks VPs on channels, as a halted VP waits in the machine.
type liveEnv struct {
	start time.Time
	wake  [4]chan struct{}
}

func (e *liveEnv) Now() int64                        { return int64(time.Since(e.start)) }
func (e *liveEnv) TSC(int) uint64                    { return uint64(e.Now()) }
func (e *liveEnv) TSCToTime(_ int, tsc uint64) int64 { return int64(tsc) }
func (e *liveEnv) Kick(vp int) {
	select {
	case e.wake[vp] <- struct{}{}:
	default:
	}
}

// TestConcurrentDelivery runs VPs that halt when they have nothing to do while
// devices send each its own vector and wait for it. A lost wake-up hangs a
// sender, a lost or doubled vector fails the count; -race watches the rest.
func TestConcurrentDelivery(t *testing.T) {
	const vps, senders, rounds = 4, 8, 300
	env := &liveEnv{start: time.Now()}
	for i := range env.wake {
		env.wake[i] = make(chan struct{}, 1)
	}
	s := NewSet([]x86.APICID{0, 1, 2, 3}, env)
	io := NewIOAPIC(s)
	var got [256]atomic.Uint32
	done := make(chan struct{})

	// level is the pin that the handler of its vector must quieten.
	const levelVector, levelPin = 0x70, 11
	var vpsDone, sendersDone sync.WaitGroup
	for vp := range vps {
		vpsDone.Go(func() {
			runVP(s.Local(vp), env, done, func(v irq.Vector) {
				if v == levelVector {
					io.Line(levelPin).SetLevel(false)
				}
				got[v].Add(1)
			})
		})
	}
	await := func(v irq.Vector, n uint32) bool {
		for end := time.Now().Add(20 * time.Second); got[v].Load() < n; time.Sleep(time.Microsecond) {
			if time.Now().After(end) {
				t.Errorf("vector %#x came %d times, want %d", v, got[v].Load(), n)
				return false
			}
		}
		return true
	}
	for s.Local(vps-1).ident.Load()&identSoftware == 0 || !s.Local(0).accepting() ||
		!s.Local(1).accepting() || !s.Local(2).accepting() {
		time.Sleep(time.Microsecond)
	}
	for i := range senders {
		v := irq.Vector(0x80 + i*9)
		sendersDone.Go(func() {
			for n := range uint32(rounds) {
				switch i % 3 {
				case 0:
					s.SignalMSI(0xFEE00000|uint64(i%vps)<<12, uint32(v))
				case 1:
					s.Deliver(Message{Dest: Broadcast, Mode: LowestPriority, Vector: v})
				default:
					s.Deliver(Message{Dest: uint32(i) % vps, Vector: v, Level: n&1 != 0})
				}
				if !await(v, n+1) {
					return
				}
			}
		})
	}
	io.route(levelPin, 2<<24, rteLevel|levelVector)
	sendersDone.Go(func() {
		for n := range uint32(rounds) {
			io.Line(levelPin).SetLevel(true)
			if !await(levelVector, n+1) {
				return
			}
		}
	})
	sendersDone.Wait()
	close(done)
	for vp := range vps {
		env.Kick(vp)
	}
	vpsDone.Wait()
	for i := range senders {
		check(t, "vector count", got[0x80+i*9].Load(), rounds)
	}
	check(t, "level-triggered count", got[levelVector].Load(), rounds)
}

// runVP is a VP whose guest halts, and handles and ends what interrupts it.
func runVP(l *Local, env *liveEnv, done chan struct{}, handle func(irq.Vector)) {
	l.write(regSVR, svrEnable|0xFF)
	for {
		l.Pending()
		for v := l.take(); v != 0; v = l.take() {
			handle(v)
			l.write(regEOI, 0)
		}
		select {
		case <-env.wake[l.vp]:
		case <-done:
			return
		}
	}
}
