package crb

import (
	"bytes"
	"encoding/binary"
	"testing"

	"keel/vtpm/front"
	"keel/vtpm/front/fronttest"
)

// model is what the test knows beside the interface: the command that the guest waits for.
type model struct {
	*bench
	serial  uint64
	waiting []byte // the command; nil when there is none
	by      uint8
}

func newModel() fronttest.Model { return &model{bench: newBench()} }

func play(t *testing.T, stream []byte) { fronttest.Play(t, newModel(), stream) }

// hot are the registers that do something.
var hot = [...]uint64{0x00, 0x08, 0x0c, 0x40, 0x44, 0x48, 0x4c, 0x80}

// Operate implements fronttest.Model.
func (m *model) Operate(op []byte) {
	l, a := uint64(op[1]%5), uint64(binary.LittleEndian.Uint16(op[2:]))
	before := m.buffer0()
	was, holder := m.state, m.holder()
	commands := m.Stats().Commands
	switch op[0] % 10 {
	case 0:
		m.ReadMMIO((l*page+a&0xfff)%(Size-7), 1<<(a>>12&3))
	case 1:
		m.WriteMMIO((l*page+a&0xfff)%(Size-7), 1<<(op[0]>>4&3), a*0x0001_0001_0001)
	case 2, 3:
		m.write32(l, hot[a&7], uint32(a>>8)&7)
	case 4: // a whole command, as a driver sends it
		m.serial++
		m.write(l, fronttest.Command(m.serial, 18+int(a&63)))
	case 5:
		m.write32(l, 0x4c, 1)
	case 6:
		m.tpm.Deliver(nil)
	case 7:
		m.tpm.Free()
	case 8:
		m.clock.Advance(int64(a) * 1e6)
	case 9:
		switch a & 0xf00 {
		case 0:
			m.Reset()
		case 0x100:
			m.tpm.Deliver(make([]byte, a&0xff))
		default:
			m.write32(l, 0x40, 1)
		}
	}
	if m.Stats().Commands != commands {
		// An access may write and start at once only across registers that lie before
		// the buffer, so that the buffer is still what was sent.
		m.by = holder
		m.waiting = append([]byte(nil), before[:front.DeclaredSize(before)]...)
		if len(m.waiting) == 0 {
			m.waiting = []byte{}
		}
	} else if was != execution && m.state != completion {
		m.waiting = nil
	}
}

func (m *model) buffer0() []byte { return append([]byte(nil), m.CRB.buffer[:]...) }

func (m *model) holder() uint8 {
	l, ok := m.arbiter.Holder()
	if !ok {
		return 0xff
	}
	return l
}

// Verify checks that a response is that of the command that the guest waits for, or a
// code that the interface gave itself, and that nobody but the holder sees anything.
func (m *model) Verify(t *testing.T) {
	t.Helper()
	if m.state == completion {
		got := m.CRB.buffer[:]
		answer := fronttest.Answer(m.by, m.waiting)
		own := m.waiting != nil && bytes.HasPrefix(got, answer) && bytes.Equal(got[len(answer):], make([]byte, len(got)-len(answer)))
		if !own && !fronttest.Local(got) {
			t.Errorf("a response to nothing that was asked: %x, waiting for %x", got[:40], m.waiting)
		}
	}
	if (m.state == idle || m.state == ready) && !bytes.Equal(m.CRB.buffer[:], make([]byte, dataSize)) {
		t.Errorf("state %d with data", m.state)
	}
	holder := m.holder()
	if holder == 0xff && m.state != idle || holder >= 4 && holder != 0xff {
		t.Errorf("state %d, holder %d", m.state, holder)
	}
	for l := range uint64(5) {
		hidden := uint8(l) != holder || m.state == execution
		if v := m.ReadMMIO(at(l, 0x80), 8); hidden && v != ^uint64(0) {
			t.Errorf("locality %d sees %#x", l, v)
		}
		if started := m.read32(l, 0x4c); l < 4 && (started == 1) != (uint8(l) == holder && m.state == execution) {
			t.Errorf("locality %d sees start %d", l, started)
		}
	}
}

func TestRandomOperations(t *testing.T) { fronttest.PlayRandom(t, newModel) }

func FuzzCRB(f *testing.F) {
	request, ready := []byte{2, 0, 1, 1}, []byte{2, 0, 3, 1}
	command, start, deliver, free := []byte{4, 0, 9, 0}, []byte{5, 0, 0, 0}, []byte{6, 0, 0, 0}, []byte{7, 0, 0, 0}
	goIdle, seize := []byte{2, 0, 3, 2}, []byte{2, 3, 1, 4}
	join := func(ops ...[]byte) []byte { return bytes.Join(ops, nil) }
	f.Add(join(request, ready, command, start, deliver, command, start, deliver))
	f.Add(join(request, ready, command, start, goIdle, free, ready, command, start, deliver, deliver))
	f.Add(join(request, ready, command, start, seize, deliver, []byte{2, 3, 3, 1}, []byte{4, 3, 1, 0}, []byte{5, 3, 0, 0}, deliver))
	f.Add(join(request, ready, command, start, goIdle, ready, command, start, []byte{8, 0, 0xff, 0xff}, deliver))
	f.Fuzz(play)
}
