package reset

import (
	"slices"
	"testing"

	"keel/paravisor/chipset/chiptest"
	"keel/vtl/irq"
)

type bench struct {
	*Control
	got []Reason
}

func newBench() *bench {
	b := &bench{}
	b.Control = New(func(r Reason) { b.got = append(b.got, r) })
	return b
}

func TestControlRegister(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []uint32
		want   []Reason
	}{
		{"type only", []uint32{0x02, 0x08, 0x0a}, nil},
		{"soft", []uint32{0x04}, []Reason{Soft}},
		{"hard, as Linux does", []uint32{0x02, 0x06}, []Reason{Hard}},
		{"power cycle, as Linux does", []uint32{0x02, 0x0e}, []Reason{Power}},
		{"FADT", []uint32{FADTValue}, []Reason{Hard}},
		{"a level is no edge", []uint32{0x06, 0x06, 0x04}, []Reason{Hard}},
		{"a second edge", []uint32{0x06, 0x02, 0x0e}, []Reason{Hard, Power}},
	} {
		b := newBench()
		for _, v := range c.writes {
			b.CF9().WritePIO(0, 1, v)
		}
		if !slices.Equal(b.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, b.got, c.want)
		}
	}
}

func TestPort92(t *testing.T) {
	b := newBench()
	p := b.Port92()
	if got := p.ReadPIO(0, 1); got != fastA20 {
		t.Errorf("reset value %#x", got)
	}
	p.WritePIO(0, 1, 0xfc)
	if got := p.ReadPIO(0, 1); got != 0 || b.got != nil {
		t.Errorf("A20 off: %#x, %v", got, b.got)
	}
	p.WritePIO(0, 1, 3)
	p.WritePIO(0, 1, 1)
	if !slices.Equal(b.got, []Reason{Fast}) {
		t.Errorf("fast resets: %v", b.got)
	}
	b.Reset()
	if got := p.ReadPIO(0, 1); got != fastA20 {
		t.Errorf("after reset %#x", got)
	}
}

func FuzzAccesses(f *testing.F) {
	f.Add(chiptest.Write(chiptest.Write(nil, 0, 0, 1), 1, 0, 6))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench()
		chiptest.Play(data, &irq.ManualClock{},
			chiptest.Window{Device: b.Port92(), Length: 1}, chiptest.Window{Device: b.CF9(), Length: 1})
		if v := b.CF9().ReadPIO(0, 1); v&^controlMask != 0 || b.Port92().ReadPIO(0, 1)&^fastMask != 0 {
			t.Errorf("reserved bits are set: %#x", v)
		}
	})
}
