package tis

import (
	"bytes"
	"encoding/binary"
	"testing"

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

// hot are the registers that do something, with values that do.
var (
	hot       = [...]uint64{0x00, 0x00, 0x18, 0x18, 0x1b, 0x24, 0x80, 0x30}
	hotValues = [...]uint64{0x02, 0x20, 0x08, 0x10, 0x40, 0x20, 0x02, 0x01}
)

// Operate implements fronttest.Model.
func (m *model) Operate(op []byte) {
	l, a := uint64(op[1]%5), uint64(binary.LittleEndian.Uint16(op[2:]))
	was, sent := m.state, append([]byte(nil), m.buffer[:m.filled]...)
	holder := m.holder()
	commands := m.Stats().Commands
	switch op[0] % 10 {
	case 0:
		m.ReadMMIO((l*page+a&0xfff)%(Size-7), 1<<(a>>12&3))
	case 1:
		m.WriteMMIO((l*page+a&0xfff)%(Size-7), 1<<(op[0]>>4&3), a*0x0001_0001_0001)
	case 2, 3:
		m.WriteMMIO(at(l, hot[a&7]), 1, hotValues[a>>8&7])
	case 4: // a whole command, as a driver sends it
		m.serial++
		m.write(l, fronttest.Command(m.serial, 18+int(a&63)))
	case 5:
		m.setSTS(l, 0x20)
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
			m.take(l, int(a&63))
		}
	}
	if m.Stats().Commands != commands {
		m.by, m.waiting = holder, sent
	} else if was != execution && m.state != completion {
		m.waiting = nil
	}
}

func (m *model) holder() uint8 {
	l, ok := m.arbiter.Holder()
	if !ok {
		return 0xff
	}
	return l
}

// Verify checks that a response is that of the command that the guest waits for, or a
// code that the interface gave itself, that all counts are in range, and that nobody but
// the holder sees anything.
func (m *model) Verify(t *testing.T) {
	t.Helper()
	if m.filled > len(m.buffer) || m.taken > m.filled || m.state != completion && m.taken != 0 {
		t.Fatalf("%d bytes, %d taken", m.filled, m.taken)
	}
	got := m.buffer[:m.filled]
	switch m.state {
	case completion:
		own := m.waiting != nil && bytes.Equal(got, fronttest.Answer(m.by, m.waiting))
		local := len(got) == 10 && fronttest.Local(got)
		if !own && !local {
			t.Errorf("a response to nothing that was asked: %x, waiting for %x", got, m.waiting)
		}
	case idle, ready:
		if m.filled != 0 || !bytes.Equal(m.buffer[:], make([]byte, len(m.buffer))) {
			t.Errorf("state %d with data", m.state)
		}
	default:
	}
	holder := m.holder()
	if holder == 0xff && m.state != idle || holder >= 4 && holder != 0xff {
		t.Errorf("state %d, holder %d", m.state, holder)
	}
	for l := range uint64(5) {
		sts := m.sts(l)
		if uint8(l) != holder {
			if v := m.ReadMMIO(at(l, 0x24), 4); sts != stsGone || v != stsGone {
				t.Errorf("locality %d sees %#x, status %#x", l, v, sts)
			}
			continue
		}
		if available := sts&0x10 != 0; available != (m.state == completion && m.taken < m.filled) {
			t.Errorf("state %d, status %#x", m.state, sts)
		}
	}
}

func TestRandomOperations(t *testing.T) { fronttest.PlayRandom(t, newModel) }

func FuzzTIS(f *testing.F) {
	request, ready := []byte{2, 0, 0, 0}, []byte{2, 0, 2, 4}
	command, start, deliver, free := []byte{4, 0, 9, 0}, []byte{5, 0, 0, 0}, []byte{6, 0, 0, 0}, []byte{7, 0, 0, 0}
	take, relinquish, seize := []byte{9, 0, 63, 2}, []byte{2, 0, 0, 1}, []byte{2, 3, 0, 2}
	join := func(ops ...[]byte) []byte { return bytes.Join(ops, nil) }
	f.Add(join(request, ready, command, start, deliver, take, ready, command, start, deliver))
	f.Add(join(request, ready, command, start, ready, free, command, start, deliver, take, deliver, take))
	f.Add(join(request, ready, command, start, seize, deliver, []byte{2, 3, 2, 4}, []byte{4, 3, 1, 0}, []byte{5, 3, 0, 0}, deliver))
	f.Add(join(request, ready, command, start, relinquish, request, ready, command, start, []byte{8, 0, 0xff, 0xff}, deliver))
	f.Fuzz(play)
}
