package hv

import (
	"encoding/binary"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// checkedInterrupts fails the test over a vector or VP that does not exist.
type checkedInterrupts struct {
	tb  testing.TB
	vps int
}

func (c checkedInterrupts) Raise(vp int, v irq.Vector) {
	if vp < 0 || vp >= c.vps || v < 16 {
		c.tb.Errorf("vector %d on VP %d", v, vp)
	}
}

func (c checkedInterrupts) FlushTLB(from int, set VPSet) {
	if from < 0 || from >= c.vps || set == 0 || set>>c.vps != 0 {
		c.tb.Errorf("VP %d flushes %#x", from, set)
	}
}

func (c checkedInterrupts) PostMessage(_ int, connection, kind uint32, payload []byte) Status {
	if len(payload) > 240 || kind == 0 || kind>>31 != 0 || connection>>24 != 0 {
		c.tb.Errorf("message %#x of %d bytes for %#x", kind, len(payload), connection)
	}
	return Status(connection)
}

func (c checkedInterrupts) SignalEvent(_ int, connection uint32, _ uint16) Status {
	if connection>>24 != 0 {
		c.tb.Errorf("event for %#x", connection)
	}
	return Status(connection)
}

// fuzzRig is a guest of three VPs whose surroundings are checked.
func fuzzRig(tb testing.TB) *rig {
	tb.Helper()
	c := checkedInterrupts{tb, 3}
	g := newRig(tb, 3, func(k *Config) { k.Interrupts, k.TLB = c, c })
	g.SetPorts(c)
	return g
}

// verify checks what must hold whatever the guest has done.
func (g *rig) verify() {
	g.tb.Helper()
	// A deadline is late by less than a unit: the clock is finer than the reference time.
	clock, now := g.clock.Now(), g.now(0)
	for _, v := range g.vps {
		running := false
		for i := range v.timers {
			tm := &v.timers[i]
			running = running || tm.enabled()
			late := tm.next <= now && (v.deadline.Load() <= clock || v.deadline.Load() >= clock+unit)
			if tm.config&^hv.STIMER_DEFINED != 0 || tm.enabled() && (tm.count == 0 || late) {
				g.tb.Errorf("VP %d: timer %d: %+v at %d", v.index, i, *tm, now)
			}
			if tm.enabled() && !tm.direct() && tm.sint() == 0 || tm.pending && tm.sint() == 0 {
				g.tb.Errorf("VP %d: timer %d has no source: %+v", v.index, i, *tm)
			}
		}
		if running != (v.deadline.Load() != 0) {
			g.tb.Errorf("VP %d: deadline %d with timers %v", v.index, v.deadline.Load(), running)
		}
		for i := range v.queues {
			if q := &v.queues[i]; q.used < 0 || q.used > queueLength || q.used > 0 && q.ring == nil {
				g.tb.Errorf("VP %d: queue %d: %d messages", v.index, i, q.used)
			}
			s := v.sints[i].Load()
			if s&(hv.SINT_MASKED|hv.SINT_POLLING) == 0 && (s&0xFF < 16 || s&hv.SINT_AUTO_EOI != 0) {
				g.tb.Errorf("VP %d: source %d is open as %#x", v.index, i, s)
			}
		}
		for _, p := range []*page{v.messages, v.events.Load()} {
			if p != nil && len(p.words) != x86.PageSize/4 {
				g.tb.Errorf("VP %d: page of %d words", v.index, len(p.words))
			}
		}
	}
	if enabled := g.hypercall.value&hv.PAGE_ENABLE != 0; enabled != g.callable.Load() || enabled != (g.hypercall.shown != nil) {
		g.tb.Errorf("hypercall page: %#x, callable %v", g.hypercall.value, g.callable.Load())
	}
}

// FuzzMSR plays a guest that writes registers and its own memory while servers send
// to it. An operation is 12 bytes: what, on which VP, an index and a value.
func FuzzMSR(f *testing.F) {
	op := func(what, vp byte, index uint16, value uint64) []byte {
		b := []byte{what, vp, byte(index), byte(index >> 8)}
		return binary.LittleEndian.AppendUint64(b, value)
	}
	join := func(ops ...[]byte) (all []byte) {
		for _, o := range ops {
			all = append(all, o...)
		}
		return all
	}
	f.Add(join(op(0, 0, 0, 1), op(0, 0, 1, codePage|1), op(0, 1, 0, 0), op(5, 0, 0, 0)))
	f.Add(join(op(0, 1, 0x83, simPage|1), op(0, 1, 0x82, siefPage|1), op(0, 1, 0x92, 0xF3), op(0, 1, 0x80, 1),
		op(2, 1, 2, 9), op(2, 1, 2, 9), op(3, 1, 2, 99), op(4, 1, 0x200, 0), op(0, 1, 0x84, 0)))
	f.Add(join(op(0, 2, 0x83, simPage|1), op(0, 2, 0x80, 1), op(0, 2, 0xB1, 7), op(0, 2, 0xB0, 0x20003), op(6, 0, 0, 1e9)))
	f.Add(join(op(0, 2, 0xB0, 0x1ED9), op(0, 2, 0xB1, 70000), op(6, 0, 0, 1e10), op(0, 0, 0x21, tscPage|1)))
	f.Add(join(op(0, 0, 0x103, 0x1000), op(0, 0, 0x104, 4096), op(0, 0, 0x105, 3<<62)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		g := fuzzRig(t)
		h := g.Hypervisor
		for n := 0; len(stream) >= 12 && n < 200; n++ {
			vp, index := int(stream[1])%3, binary.LittleEndian.Uint16(stream[2:])
			value := binary.LittleEndian.Uint64(stream[4:])
			switch stream[0] % 7 {
			case 0:
				g.WriteMSR(vp, hv.MSR_FIRST+uint32(index)&0x1FF, value)
			case 1:
				g.ReadMSR(vp, hv.MSR_FIRST+uint32(index))
			case 2:
				h.PostMessage(vp, int(index%17), uint32(value), stream[:value%12])
			case 3:
				h.SignalEvent(vp, int(index%17), int(value%2049))
			case 4:
				g.words(int(index)%(ram/4-1)*4, 4)[0] = uint32(value)
			case 5:
				g.Reset()
			case 6:
				g.advance(int64(value % 1e6))
			}
			stream = stream[12:]
			g.verify()
		}
		if g.resets > 0 && len(g.crash) > 0 && len(g.crash[0].Message) > 4096 {
			t.Error("a long crash message")
		}
	})
}

// FuzzHypercall makes one hypercall with any registers over any input page.
func FuzzHypercall(f *testing.F) {
	f.Add(uint64(hv.HvCallPostMessage), uint64(inputPage), uint64(0), []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5}, false)
	f.Add(uint64(hv.HvCallSignalEvent|fast), uint64(5), uint64(0), []byte{}, false)
	f.Add(uint64(hv.HvCallSendSyntheticClusterIpiEx|varQword), uint64(inputPage), uint64(0), []byte{0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7}, false)
	f.Add(uint64(hv.HvCallFlushVirtualAddressListEx|varQword|3*repOne|startOne), uint64(inputPage), uint64(0), []byte{0, 0, 0, 0, 0, 0, 0, 0, 1}, true)
	f.Add(uint64(hv.HvCallFlushVirtualAddressList|509*repOne), uint64(inputPage), uint64(0), []byte{0}, false)
	f.Add(uint64(hv.HvCallFlushVirtualAddressSpace), uint64(ram-24), uint64(0), []byte{0}, false)
	f.Fuzz(func(t *testing.T, control, first, second uint64, input []byte, narrow bool) {
		g := fuzzRig(t)
		g.enableCalls()
		g.memory.WriteAt(inputPage, input[:min(len(input), x86.PageSize)])
		before := g.bytes(inputPage, x86.PageSize)
		in := hcl.Registers{RCX: control, RDX: first, R8: second}
		port := uint16(TrapPort64)
		if narrow {
			port = TrapPort32
			in = hcl.Registers{RDX: control >> 32, RAX: control, RBX: first >> 32, RCX: first, RDI: second >> 32, RSI: second}
		}
		vp := &trapped{in}
		if ok, err := g.Hypercall(2, port, vp); !ok || err != nil {
			t.Fatal(ok, err)
		}
		result := vp.r.RAX
		if narrow {
			result = vp.r.RDX<<32 | vp.r.RAX
			in.RDX, in.RAX = vp.r.RDX, vp.r.RAX
		} else {
			const start = hv.HYPERCALL_REP << hv.HYPERCALL_START_SHIFT
			check(t, "RCX without the start index", vp.r.RCX&^start, in.RCX&^start)
			in.RAX, in.RCX = vp.r.RAX, vp.r.RCX
		}
		check(t, "registers", vp.r, in)
		reps := control >> hv.HYPERCALL_REP_SHIFT & hv.HYPERCALL_REP
		if done := result >> 32; done > reps {
			t.Errorf("%d of %d reps done", done, reps)
		}
		check(t, "hypercalls", g.Stats().Hypercalls, 1)
		check(t, "refusals", g.Stats().CallsRefused, min(result&0xFFFF, 1))
		check(t, "input page unchanged", string(g.bytes(inputPage, x86.PageSize)), string(before))
		g.verify()
	})
}
