package tis

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"keel/vtl/irq"
	"keel/vtpm/front/fronttest"
)

// bench is an interface with a TPM whose commands end when the test says so.
type bench struct {
	*TIS
	tpm   fronttest.Scripted
	clock irq.ManualClock
}

func newBench() *bench {
	b := &bench{}
	b.TIS = New(&b.tpm, &b.clock)
	return b
}

const page = 0x1000

// Registers by their names in PTP, in the page of a locality.
func at(locality, reg uint64) uint64 { return locality*page + reg }

func (b *bench) access(l uint64) uint8 { return uint8(b.ReadMMIO(at(l, 0x00), 1)) }

func (b *bench) setAccess8(l uint64, v uint8) { b.WriteMMIO(at(l, 0x00), 1, uint64(v)) }

func (b *bench) sts(l uint64) uint32 { return uint32(b.ReadMMIO(at(l, 0x18), 4)) }

func (b *bench) setSTS(l uint64, v uint8) { b.WriteMMIO(at(l, 0x18), 1, uint64(v)) }

// write sends bytes one by one.
func (b *bench) write(l uint64, data []byte) {
	for _, v := range data {
		b.WriteMMIO(at(l, 0x24), 1, uint64(v))
	}
}

// take reads bytes one by one.
func (b *bench) take(l uint64, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.ReadMMIO(at(l, 0x24), 1))
	}
	return out
}

const (
	stsBase  = 0x0400_0084 // TPM 2.0, stsValid, selfTestDone
	stsReady = stsBase | 0x40 | 0xff<<8
	stsGone  = 0xffff_ffff
)

// enter brings the interface, held by locality 0, to a state.
func (b *bench) enter(s state) {
	b.setAccess8(0, 0x02)
	if s == idle {
		return
	}
	b.setSTS(0, 0x40)
	if s == ready {
		return
	}
	b.write(0, fronttest.Command(7, 30))
	if s == reception {
		return
	}
	b.setSTS(0, 0x20)
	if s == completion {
		b.tpm.Deliver(nil)
	}
}

// see tells the state that the guest sees.
func (b *bench) see() string {
	switch sts := b.sts(0); sts {
	case stsGone:
		return "gone"
	case stsReady:
		return "ready"
	case stsBase:
		return map[state]string{idle: "idle", reception: "complete", execution: "execution", completion: "taken"}[b.state]
	case stsBase | 0x10 | 41<<8:
		return "completion"
	case stsBase | 0x08 | 0xff<<8:
		return "expecting"
	default:
		return fmt.Sprintf("%#x", sts)
	}
}

// Registers after reset, to who holds the TPM and to who does not (PTP §6.5.2).
func TestRegisters(t *testing.T) {
	for _, c := range []struct {
		name               string
		reg                uint64
		reset, held, other uint32 // no holder; locality 1 holds: to itself, to locality 2
	}{
		{"ACCESS", 0x00, 0x81, 0xa1, 0x81},
		{"INT_ENABLE", 0x08, 0, 0, 0},
		{"INT_VECTOR", 0x0c, 0, 0, 0},
		{"INT_STATUS", 0x10, 0, 0, 0},
		{"INTF_CAPABILITY", 0x14, 0x30000600, 0x30000600, 0x30000600},
		{"STS", 0x18, stsGone, stsReady, stsGone},
		{"DATA_FIFO", 0x24, stsGone, stsGone, stsGone},
		{"INTERFACE_ID", 0x30, 0x00083900, 0x00083900, 0x00083900},
		{"XDATA_FIFO", 0x80, stsGone, stsGone, stsGone},
		{"XDATA_FIFO", 0xbc, stsGone, stsGone, stsGone},
		{"reserved", 0xc0, 0, 0, 0},
		{"DID_VID", 0xf00, 0x00011014, 0x00011014, 0x00011014},
		{"RID", 0xf04, 1, 1, 1},
		{"reserved", 0xffc, 0, 0, 0},
	} {
		b := newBench()
		read := func(l uint64) uint32 { return uint32(b.ReadMMIO(at(l, c.reg), 4)) }
		if got := read(1); got != c.reset {
			t.Errorf("%s = %#x after reset, want %#x", c.name, got, c.reset)
		}
		b.setAccess8(1, 0x02)
		b.setSTS(1, 0x40)
		if got := read(1); got != c.held {
			t.Errorf("%s = %#x to the holder, want %#x", c.name, got, c.held)
		}
		if got := read(2); got != c.other {
			t.Errorf("%s = %#x to another, want %#x", c.name, got, c.other)
		}
	}
}

// The state machine of PTP §6.5.2, and what the guest can do in each state.
func TestStates(t *testing.T) {
	actions := []struct {
		name string
		do   func(*bench)
	}{
		{"commandReady", func(b *bench) { b.setSTS(0, 0x40) }},
		{"tpmGo", func(b *bench) { b.setSTS(0, 0x20) }},
		{"responseRetry", func(b *bench) { b.setSTS(0, 0x02) }},
		{"two bits", func(b *bench) { b.setSTS(0, 0x60) }},
		{"a byte", func(b *bench) { b.write(0, []byte{0x80}) }},
		{"cancel", func(b *bench) { b.WriteMMIO(at(0, 0x18), 4, 1<<24) }},
		{"request", func(b *bench) { b.setAccess8(0, 0x02) }},
		{"relinquish", func(b *bench) { b.setAccess8(0, 0x20) }},
		{"seize", func(b *bench) { b.setAccess8(0, 0x08) }},
		{"reset", func(b *bench) { b.Reset() }},
		{"response", func(b *bench) { b.tpm.Deliver(nil) }},
	}
	for i, row := range [][]string{
		{"ready", "idle", "idle", "idle", "idle", "idle", "idle", "gone", "idle", "gone", "idle"},
		{"ready", "ready", "ready", "ready", "expecting", "ready", "ready", "gone", "ready", "gone", "ready"},
		{"ready", "execution", "complete", "complete", "complete", "complete", "complete", "gone", "complete", "gone", "complete"},
		{"ready", "execution", "execution", "execution", "execution", "execution", "execution", "gone", "execution", "gone", "completion"},
		{"ready", "completion", "completion", "completion", "completion", "completion", "completion", "gone", "completion", "gone", "completion"},
	} {
		for j, want := range row {
			b := newBench()
			b.enter(state(i))
			actions[j].do(b)
			if got := b.see(); got != want {
				t.Errorf("%s in state %d leads to %s, want %s", actions[j].name, i, got, want)
			}
			if cancels := b.tpm.Cancels(); state(i) == execution && actions[j].name == "cancel" && cancels != 1 || state(i) != execution && cancels != 0 {
				t.Errorf("%s in state %d cancels %d times", actions[j].name, i, cancels)
			}
		}
	}
}

// Expect is set until the command is as long as its header says.
func TestExpect(t *testing.T) {
	for _, c := range []struct {
		name     string
		declared uint32
		takes    int // bytes, after which Expect is clear
		taken    bool
	}{
		{"shortest", 10, 10, true},
		{"usual", 59, 59, true},
		{"longest", 3968, 3968, true},
		{"no size", 0, 6, false},
		{"too short", 9, 9, false},
		{"too long", 3969, 3968, false},
		{"far too long", 1<<32 - 1, 3968, false},
	} {
		b := newBench()
		b.enter(ready)
		command := make([]byte, 4000)
		copy(command, fronttest.Command(1, 18))
		binary.BigEndian.PutUint32(command[2:], c.declared)
		n := 0
		for ; n < len(command); n++ {
			sts := b.sts(0)
			if n > 0 && sts&0x08 == 0 {
				break
			}
			if burst := int(sts >> 8 & 0xffff); burst != min(255, 3968-n) {
				t.Fatalf("%s: burst count %d after %d bytes", c.name, burst, n)
			}
			b.write(0, command[n:n+1])
		}
		if n != c.takes || b.sts(0) != stsBase {
			t.Errorf("%s: Expect falls after %d bytes, want %d; status %#x", c.name, n, c.takes, b.sts(0))
		}
		b.write(0, []byte{1, 2, 3}) // dropped
		b.setSTS(0, 0x20)
		r, ok := b.tpm.Oldest()
		if ok != c.taken || ok && !bytes.Equal(r.Command, command[:n]) {
			t.Errorf("%s: the TPM got %v, %d bytes", c.name, ok, len(r.Command))
		}
		if !c.taken && !bytes.Equal(b.take(0, 10), fronttest.Code(0x142)) {
			t.Errorf("%s: not answered TPM_RC_COMMAND_SIZE", c.name)
		}
	}
}

func TestIncompleteCommand(t *testing.T) {
	b := newBench()
	b.enter(ready)
	b.write(0, fronttest.Command(1, 20)[:19])
	b.setSTS(0, 0x20)
	if got := b.see(); got != "expecting" || b.tpm.Taken() != 0 {
		t.Errorf("%s, %d commands", got, b.tpm.Taken())
	}
}

func TestResponse(t *testing.T) {
	b := newBench()
	b.enter(ready)
	command := fronttest.Command(7, 600)
	b.write(0, command)
	b.setSTS(0, 0x20)
	b.tpm.Deliver(nil)
	want := fronttest.Answer(0, command)
	for range 2 {
		for n := range want {
			if sts, burst := b.sts(0), uint32(min(255, len(want)-n)); sts != stsBase|0x10|burst<<8 {
				t.Fatalf("status %#x with %d bytes left", sts, len(want)-n)
			}
			if got := b.take(0, 1)[0]; got != want[n] {
				t.Fatalf("byte %d is %#x, want %#x", n, got, want[n])
			}
		}
		if sts := b.sts(0); sts != stsBase {
			t.Errorf("status %#x after the last byte", sts)
		}
		if got := b.take(0, 1)[0]; got != 0xff {
			t.Errorf("byte after the last is %#x", got)
		}
		b.setSTS(0, 0x02) // responseRetry: from the start
	}
	b.setSTS(0, 0x40)
	if got := b.take(0, 4); !bytes.Equal(got, []byte{255, 255, 255, 255}) {
		t.Errorf("after commandReady the response still reads %x", got)
	}
}

// Nothing that gave up a command lets its response be seen.
func TestLateResponses(t *testing.T) {
	for name, giveUp := range map[string]func(*bench){
		"commandReady": func(b *bench) { b.setSTS(0, 0x40) },
		"relinquish":   func(b *bench) { b.setAccess8(0, 0x20) },
		"seize":        func(b *bench) { b.setAccess8(3, 0x08) },
		"reset":        func(b *bench) { b.Reset() },
	} {
		for _, free := range []bool{false, true} {
			b := newBench()
			b.enter(execution)
			giveUp(b)
			if b.tpm.Cancels() != 1 {
				t.Errorf("%s does not cancel", name)
			}
			if free {
				b.tpm.Free()
			}
			l := uint64(0)
			if name == "seize" {
				l = 3
			}
			b.setAccess8(l, 0x02)
			b.setSTS(l, 0x40)
			c := fronttest.Command(2, 40)
			b.write(l, c)
			b.setSTS(l, 0x20)
			b.tpm.Deliver(nil) // of the first
			if b.sts(l) != stsBase || b.take(l, 1)[0] != 0xff {
				t.Fatalf("%s: the late response ends the next command", name)
			}
			b.tpm.Deliver(nil)
			if got, want := b.take(l, 51), fronttest.Answer(byte(l), c); !bytes.Equal(got, want) {
				t.Errorf("%s: response %x, want %x", name, got, want)
			}
		}
	}
}

func TestLocalities(t *testing.T) {
	b := newBench()
	for i, c := range []struct {
		l    uint64
		v    uint8
		want [4]uint8
	}{
		{1, 0x02, [4]uint8{0x81, 0xa1, 0x81, 0x81}}, // granted
		{0, 0x02, [4]uint8{0x83, 0xa5, 0x85, 0x85}}, // waits: requestUse, pending elsewhere
		{0, 0x08, [4]uint8{0x83, 0xa5, 0x85, 0x85}}, // a lower one cannot seize
		{0, 0x20, [4]uint8{0x81, 0xa1, 0x81, 0x81}}, // withdrawn
		{0, 0x02, [4]uint8{0x83, 0xa5, 0x85, 0x85}},
		{2, 0x08, [4]uint8{0x83, 0x95, 0xa5, 0x85}}, // seized from 1
		{1, 0x02, [4]uint8{0x87, 0x97, 0xa5, 0x85}}, // which still has to be told
		{1, 0x10, [4]uint8{0x87, 0x87, 0xa5, 0x85}}, // and knows
		{2, 0x20, [4]uint8{0x83, 0xa5, 0x85, 0x85}}, // the highest that waits
		{1, 0x20, [4]uint8{0xa1, 0x81, 0x81, 0x81}},
		{0, 0x20, [4]uint8{0x81, 0x81, 0x81, 0x81}},
		{3, 0x08, [4]uint8{0x81, 0x81, 0x81, 0xa1}}, // seizing what is free
	} {
		b.setAccess8(c.l, c.v)
		for l, want := range c.want {
			if got := b.access(uint64(l)); got != want {
				t.Errorf("step %d: ACCESS of %d is %#x, want %#x", i, l, got, want)
			}
		}
	}
}

// Software does not reach the locality of the D-RTM, nor TPM_HASH_START, _DATA and _END
// there.
func TestHardwareLocality(t *testing.T) {
	b := newBench()
	for reg := uint64(0); reg < page; reg += 4 {
		if got := b.ReadMMIO(at(4, reg), 4); got != 0xffffffff {
			t.Fatalf("register %#x reads %#x", reg, got)
		}
		b.WriteMMIO(at(4, reg), 4, 0x0a)
	}
	if got := b.access(0); got != 0x81 {
		t.Errorf("ACCESS %#x", got)
	}
	if n := b.Stats().Refused; n != page/4 {
		t.Errorf("%d writes refused", n)
	}
}
