package i8042

import (
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

type bench struct {
	*Controller
	resets int
}

func newBench() *bench {
	b := &bench{}
	b.Controller = New(func() {
		b.resets++
		b.Command().ReadPIO(0, 1) // the callback may use the chip
	})
	return b
}

func (b *bench) cmd(v uint8)   { b.Command().WritePIO(0, 1, uint32(v)) }
func (b *bench) data(v uint8)  { b.Data().WritePIO(0, 1, uint32(v)) }
func (b *bench) status() uint8 { return uint8(b.Command().ReadPIO(0, 1)) }
func (b *bench) reply() uint8  { return uint8(b.Data().ReadPIO(0, 1)) }

// Each command that has an answer gives it at once: drivers poll for a full
// output buffer and would wait half a second for one that stays empty.
func TestReplies(t *testing.T) {
	for _, c := range []struct {
		name    string
		command uint8
		data    []uint8
		want    uint8
		status  uint8 // besides OBF, unlocked
	}{
		{"command byte", cmdReadByte, nil, byteReset, statusCommand},
		{"self test", cmdSelfTest, nil, 0x55, statusCommand | statusSystem},
		{"keyboard interface", cmdTestKeyboard, nil, 0, statusCommand},
		{"auxiliary interface", cmdTestAux, nil, 2, statusCommand},
		{"input port", cmdReadInput, nil, 0xb0, statusCommand},
		{"output port", cmdReadOutput, nil, 0xc3, statusCommand},
		{"keyboard loop", cmdLoopKeyboard, []uint8{0x5a}, 0x5a, 0},
		{"auxiliary loop", cmdLoopAux, []uint8{0xa5}, 0xa5, 0},
		{"auxiliary device", cmdWriteAux, []uint8{0xf2}, 0xfe, statusTimeout},
		{"keyboard", cmdEnableKeyboard, []uint8{0xf2}, 0xfe, statusTimeout},
	} {
		b := newBench()
		b.cmd(c.command)
		for _, v := range c.data {
			b.data(v)
		}
		if got, want := b.status(), c.status|statusOutputFull|statusUnlocked; got != want {
			t.Errorf("%s: status %#x, want %#x", c.name, got, want)
		}
		if got := b.reply(); got != c.want {
			t.Errorf("%s: reply %#x, want %#x", c.name, got, c.want)
		}
		if got := b.status(); got&(statusOutputFull|statusTimeout) != 0 {
			t.Errorf("%s: status %#x after the read", c.name, got)
		}
	}
}

func TestCommandByte(t *testing.T) {
	b := newBench()
	read := func() uint8 { b.cmd(cmdReadByte); return b.reply() }
	b.cmd(cmdWriteByte)
	b.data(0xc4)
	if got := read(); got != 0x44 || b.status()&statusSystem == 0 {
		t.Errorf("written: %#x, status %#x", got, b.status())
	}
	for _, c := range []struct{ cmd, want uint8 }{
		{cmdDisableKeyboard, 0x54}, {cmdDisableAux, 0x74}, {cmdEnableKeyboard, 0x64}, {cmdEnableAux, 0x44},
	} {
		b.cmd(c.cmd)
		if got := read(); got != c.want {
			t.Errorf("after %#x: %#x, want %#x", c.cmd, got, c.want)
		}
	}
	b.cmd(cmdWriteByte)
	b.cmd(cmdTestKeyboard) // a new command forgets the old one
	b.reply()
	b.data(0)
	if got := read(); got != 0x44 {
		t.Errorf("abandoned write took effect: %#x", got)
	}
	b.Reset()
	if got := read(); got != byteReset || b.status()&statusSystem != 0 {
		t.Errorf("after reset: %#x", got)
	}
}

func TestA20(t *testing.T) {
	b := newBench()
	output := func() uint8 { b.cmd(cmdReadOutput); return b.reply() }
	b.cmd(cmdA20Off)
	if output()&outA20 != 0 {
		t.Error("A20 still on")
	}
	b.cmd(cmdA20On)
	if output()&outA20 == 0 {
		t.Error("A20 still off")
	}
	b.cmd(cmdWriteOutput)
	b.data(outNoReset)
	if output() != outNoReset || b.resets != 0 {
		t.Errorf("output port %#x, %d resets", output(), b.resets)
	}
}

func TestResetRequests(t *testing.T) {
	for _, c := range []struct {
		cmd  uint8
		data []uint8
		want int
	}{
		{0xfe, nil, 1},
		{0xf0, nil, 1},
		{0xff, nil, 0},
		{0xfd, nil, 0},
		{0xee, nil, 0},
		{cmdWriteOutput, []uint8{0xde}, 1},
		{cmdWriteOutput, []uint8{0xdf}, 0},
	} {
		b := newBench()
		b.cmd(c.cmd)
		for _, v := range c.data {
			b.data(v)
		}
		if b.resets != c.want {
			t.Errorf("command %#x %#x: %d resets, want %d", c.cmd, c.data, b.resets, c.want)
		}
	}
}

// Linux flushes the buffer before it probes and gives up when it never empties.
func TestIdleControllerIsEmpty(t *testing.T) {
	b := newBench()
	if got := b.status(); got != statusUnlocked {
		t.Errorf("status %#x", got)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(chiptest.Write(chiptest.Write(nil, 0, 0, cmdWriteOutput), 1, 0, 0xfe))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench()
		chiptest.Play(data, &irq.ManualClock{},
			chiptest.Window{Device: b.Command(), Length: 1}, chiptest.Window{Device: b.Data(), Length: 1})
		// Whatever happened, the reset command works and the buffer empties.
		before := b.resets
		b.reply()
		b.cmd(0xfe)
		if b.resets != before+1 || b.status()&statusOutputFull != 0 {
			t.Errorf("%d resets, status %#x", b.resets-before, b.status())
		}
	})
}
