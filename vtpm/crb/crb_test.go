package crb

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
	*CRB
	tpm   fronttest.Scripted
	clock irq.ManualClock
}

func newBench() *bench {
	b := &bench{}
	b.CRB = New(Base, &b.tpm, &b.clock)
	return b
}

const page = 0x1000

// Registers by their names in PTP, in the page of a locality.
func at(locality, reg uint64) uint64 { return locality*page + reg }

func (b *bench) read32(locality, reg uint64) uint32 { return uint32(b.ReadMMIO(at(locality, reg), 4)) }

func (b *bench) write32(locality, reg uint64, v uint32) {
	b.WriteMMIO(at(locality, reg), 4, uint64(v))
}

// write stores bytes one by one, as EDK2 does.
func (b *bench) write(locality uint64, data []byte) {
	for i, v := range data {
		b.WriteMMIO(at(locality, 0x80)+uint64(i), 1, uint64(v))
	}
}

// buffer reads the data buffer in words.
func (b *bench) buffer(locality uint64, size int) []byte {
	var out []byte
	for i := 0; i < size; i += 8 {
		out = binary.LittleEndian.AppendUint64(out, b.ReadMMIO(at(locality, 0x80)+uint64(i), 8))
	}
	return out[:size]
}

// enter brings the interface, held by locality 0, to a state.
func (b *bench) enter(s state) {
	b.write32(0, 0x08, 1)
	if s == idle {
		return
	}
	b.write32(0, 0x40, 1)
	if s == ready {
		return
	}
	b.write(0, fronttest.Command(7, 30))
	if s == reception {
		return
	}
	b.write32(0, 0x4c, 1)
	if s == completion {
		b.tpm.Deliver(nil)
	}
}

// see tells the state that the guest sees.
func (b *bench) see() string {
	start, sts := b.read32(0, 0x4c), b.read32(0, 0x44)
	switch {
	case start == 1 && sts == 0:
		return "execution"
	case start != 0 || sts&^2 != 0:
		return fmt.Sprintf("start %#x, status %#x", start, sts)
	case sts == 2:
		return "idle"
	case bytes.Equal(b.buffer(0, 30), fronttest.Command(7, 30)):
		return "reception"
	case bytes.Equal(b.buffer(0, 3968), make([]byte, 3968)):
		return "ready"
	case b.buffer(0, 10)[0] == 0x80:
		return "completion"
	}
	return "another command"
}

// Registers after reset and what they read as to who holds the TPM and who does not
// (PTP §6.5.3).
func TestRegisters(t *testing.T) {
	for _, c := range []struct {
		name               string
		reg                uint64
		reset, held, other uint32 // no holder; locality 1 holds: to itself, to locality 2
	}{
		{"LOC_STATE", 0x00, 0x81, 0x87, 0x87},
		{"reserved", 0x04, 0, 0, 0},
		{"LOC_CTRL", 0x08, 0, 0, 0},
		{"LOC_STS", 0x0c, 0, 1, 0},
		{"INTF_ID", 0x30, 0x010a5b11, 0x010a5b11, 0x010a5b11},
		{"VID, DID", 0x34, 0x00011014, 0x00011014, 0x00011014},
		{"CTRL_EXT", 0x38, 0, 0, 0},
		{"CTRL_REQ", 0x40, 0, 0, 0},
		{"CTRL_STS", 0x44, 2, 0, 2},
		{"CTRL_CANCEL", 0x48, 0, 1, 0},
		{"CTRL_START", 0x4c, 0, 1, 0},
		{"INT_ENABLE", 0x50, 0, 0, 0},
		{"INT_STS", 0x54, 0, 0, 0},
		{"CMD_SIZE", 0x58, 3968, 3968, 3968},
		{"CMD_HADDR", 0x60, 0, 0, 0},
		{"RSP_SIZE", 0x64, 3968, 3968, 3968},
		{"RSP_ADDR high", 0x6c, 0, 0, 0},
		{"data", 0x80, 0xffffffff, 0xffffffff, 0xffffffff},
		{"data", 0xffc, 0xffffffff, 0xffffffff, 0xffffffff},
	} {
		b := newBench()
		if got := b.read32(1, c.reg); got != c.reset {
			t.Errorf("%s = %#x after reset, want %#x", c.name, got, c.reset)
		}
		b.write32(1, 0x08, 1)
		b.write32(1, 0x40, 1)
		b.write(1, fronttest.Command(1, 20))
		b.write32(1, 0x4c, 1)
		b.write32(1, 0x48, 1)
		if got := b.read32(1, c.reg); got != c.held {
			t.Errorf("%s = %#x to the holder, want %#x", c.name, got, c.held)
		}
		if got := b.read32(2, c.reg); got != c.other {
			t.Errorf("%s = %#x to another, want %#x", c.name, got, c.other)
		}
	}
	b := newBench()
	for l := range uint64(4) {
		want := uint32(0xfed40080 + l*0x1000)
		if cmd, rsp := b.read32(l, 0x5c), b.read32(l, 0x68); cmd != want || rsp != want {
			t.Errorf("locality %d has its buffers at %#x and %#x", l, cmd, rsp)
		}
	}
}

// The state machine of PTP §6.5.3: five states, and what the guest can do in each.
func TestStates(t *testing.T) {
	other := fronttest.Command(8, 30)
	actions := []struct {
		name string
		do   func(*bench)
	}{
		{"commandReady", func(b *bench) { b.write32(0, 0x40, 1) }},
		{"goIdle", func(b *bench) { b.write32(0, 0x40, 2) }},
		{"both", func(b *bench) { b.write32(0, 0x40, 3) }},
		{"command", func(b *bench) { b.write(0, other) }},
		{"start", func(b *bench) { b.write32(0, 0x4c, 1) }},
		{"start with 0", func(b *bench) { b.write32(0, 0x4c, 0) }},
		{"cancel", func(b *bench) { b.write32(0, 0x48, 1) }},
		{"request", func(b *bench) { b.write32(0, 0x08, 1) }},
		{"relinquish", func(b *bench) { b.write32(0, 0x08, 2) }},
		{"seize", func(b *bench) { b.write32(0, 0x08, 4) }},
		{"reset", func(b *bench) { b.Reset() }},
		{"response", func(b *bench) { b.tpm.Deliver(nil) }},
	}
	states := []string{"idle", "ready", "reception", "execution", "completion"}
	for i, row := range [][]string{
		{"ready", "idle", "idle", "idle", "idle", "idle", "idle", "idle", "idle", "idle", "idle", "idle"},
		{"ready", "idle", "ready", "another command", "ready", "ready", "ready", "ready", "idle", "ready", "idle", "ready"},
		{"ready", "idle", "reception", "another command", "execution", "reception", "reception", "reception", "idle", "reception", "idle", "reception"},
		{"ready", "idle", "execution", "execution", "execution", "execution", "execution", "execution", "idle", "execution", "idle", "completion"},
		{"ready", "idle", "completion", "another command", "completion", "completion", "completion", "completion", "idle", "completion", "idle", "completion"},
	} {
		for j, want := range row {
			b := newBench()
			b.enter(state(i))
			if got := b.see(); got != states[i] {
				t.Fatalf("%s looks like %s", states[i], got)
			}
			actions[j].do(b)
			if actions[j].name == "command" && want == "another command" {
				if got := b.buffer(0, 3968); !bytes.Equal(got[:30], other) || !bytes.Equal(got[30:], make([]byte, 3938)) {
					t.Errorf("%s in %s leaves %x", actions[j].name, states[i], got[:40])
				}
				continue
			}
			if got := b.see(); got != want {
				t.Errorf("%s in %s leads to %s, want %s", actions[j].name, states[i], got, want)
			}
		}
	}
}

func TestResponse(t *testing.T) {
	b := newBench()
	b.enter(completion)
	want := fronttest.Answer(0, fronttest.Command(7, 30))
	got := b.buffer(0, 3968)
	if !bytes.Equal(got[:len(want)], want) || !bytes.Equal(got[len(want):], make([]byte, 3968-len(want))) {
		t.Errorf("response %x", got[:60])
	}
	if !bytes.Equal(b.buffer(1, 64), bytes.Repeat([]byte{0xff}, 64)) {
		t.Error("another locality sees it")
	}
}

// A command follows a response without any state between, as Linux sends several.
func TestCommandAfterResponse(t *testing.T) {
	b := newBench()
	b.enter(completion)
	next := fronttest.Command(9, 18)
	b.write(0, next)
	b.write32(0, 0x4c, 1)
	b.tpm.Deliver(nil)
	if got, want := b.buffer(0, 29), fronttest.Answer(0, next); !bytes.Equal(got, want) {
		t.Errorf("response %x, want %x", got, want)
	}
}

// Commands that are shorter or longer than they can be are answered TPM_RC_COMMAND_SIZE.
func TestDeclaredSizes(t *testing.T) {
	for _, size := range []uint32{0, 1, 9, 3969, 4096, 1 << 31, 1<<32 - 1} {
		b := newBench()
		b.enter(ready)
		c := fronttest.Command(1, 20)
		binary.BigEndian.PutUint32(c[2:], size)
		b.write(0, c)
		b.write32(0, 0x4c, 1)
		if got := b.buffer(0, 10); !bytes.Equal(got, fronttest.Code(0x142)) || b.tpm.Taken() != 0 {
			t.Errorf("size %d: response %x", size, got)
		}
	}
}

func TestCancel(t *testing.T) {
	b := newBench()
	b.enter(reception)
	b.write32(0, 0x48, 1) // left set
	b.write32(0, 0x4c, 1)
	if b.tpm.Cancels() != 0 {
		t.Error("a bit left set cancels the next command")
	}
	b.write32(0, 0x48, 1)
	if b.tpm.Cancels() != 1 || b.read32(0, 0x48) != 1 {
		t.Errorf("%d cancels, register %d", b.tpm.Cancels(), b.read32(0, 0x48))
	}
	b.write32(0, 0x48, 0)
	b.tpm.Deliver(fronttest.Code(0x909))
	if got := b.buffer(0, 10); !bytes.Equal(got, fronttest.Code(0x909)) || b.read32(0, 0x48) != 0 {
		t.Errorf("response %x", got)
	}
}

// Nothing that gave up a command lets its response be seen.
func TestLateResponses(t *testing.T) {
	for name, giveUp := range map[string]func(*bench){
		"goIdle":       func(b *bench) { b.write32(0, 0x40, 2) },
		"commandReady": func(b *bench) { b.write32(0, 0x40, 1) },
		"relinquish":   func(b *bench) { b.write32(0, 0x08, 2) },
		"seize":        func(b *bench) { b.write32(3, 0x08, 4) },
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
			b.write32(l, 0x08, 1)
			b.write32(l, 0x40, 1)
			c := fronttest.Command(2, 40)
			b.write(l, c)
			b.write32(l, 0x4c, 1)
			b.tpm.Deliver(nil) // of the first
			if b.read32(l, 0x4c) != 1 || !bytes.Equal(b.buffer(l, 8), bytes.Repeat([]byte{0xff}, 8)) {
				t.Fatalf("%s: the late response ends the next command", name)
			}
			b.tpm.Deliver(nil)
			if got, want := b.buffer(l, 51), fronttest.Answer(byte(l), c); !bytes.Equal(got, want) {
				t.Errorf("%s: response %x, want %x", name, got, want)
			}
		}
	}
}

func TestLocalities(t *testing.T) {
	b := newBench()
	check := func(what string, state uint32, sts ...uint32) {
		t.Helper()
		for l, want := range sts {
			if got := b.read32(uint64(l), 0x0c); got != want {
				t.Errorf("%s: LOC_STS of %d is %#x, want %#x", what, l, got, want)
			}
			if got := b.read32(uint64(l), 0x00); got != state {
				t.Errorf("%s: LOC_STATE is %#x, want %#x", what, got, state)
			}
		}
	}
	check("free", 0x81, 0, 0, 0, 0)
	b.write32(1, 0x08, 1)
	check("granted", 0x87, 0, 1, 0, 0)
	b.write32(0, 0x08, 1)
	b.write32(0, 0x08, 4)
	check("lower", 0x87, 0, 1, 0, 0)
	b.write32(2, 0x08, 4)
	check("seized", 0x8b, 0, 2, 1, 0)
	b.write32(1, 0x08, 1)
	check("asks again", 0x8b, 0, 0, 1, 0)
	b.write32(2, 0x08, 2)
	check("the highest that waits", 0x87, 0, 1, 0, 0)
	b.write32(1, 0x08, 2)
	check("the next", 0x83, 1, 0, 0, 0)
	b.write32(0, 0x08, 2)
	check("nobody", 0x81, 0, 0, 0, 0)
	b.write32(0, 0x40, 1)
	if got := b.read32(0, 0x44); got != 2 {
		t.Error("a register of the TPM moves without its holder")
	}
}

// Software does not reach the locality of the D-RTM.
func TestHardwareLocality(t *testing.T) {
	b := newBench()
	refused := b.Stats().Refused
	for reg := uint64(0); reg < page; reg += 4 {
		if got := b.read32(4, reg); got != 0xffffffff {
			t.Fatalf("register %#x reads %#x", reg, got)
		}
		b.write32(4, reg, 5)
	}
	if got := b.read32(0, 0x00); got != 0x81 {
		t.Errorf("LOC_STATE %#x", got)
	}
	if n := b.Stats().Refused - refused; n != page/4 {
		t.Errorf("%d writes refused", n)
	}
}
