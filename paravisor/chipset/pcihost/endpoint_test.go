package pcihost

import (
	"testing"

	"keel/vtl/pci"
)

// TestEndpoint takes a real function through what firmware and guests do.
func TestEndpoint(t *testing.T) {
	regs, doors := &registers{}, &port{}
	e, err := pci.New(pci.Config{
		Vendor: 0x1af4, Device: 0x1048,
		BARs: [6]pci.BAR{
			0: {Size: 16 << 10, Wide: true, Device: regs}, 3: {Size: 4, Ports: doors}, 4: {Size: 32, Ports: doors},
		},
		Vectors: 4, VectorBAR: 2, MSI: nowhere{},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := New(testECAM, &port{})
	at := MakeAddress(0, 1, 0)
	if err := h.Add(at, e); err != nil {
		t.Fatal(err)
	}
	w, p := h.Window(testLow.Base), h.PortWindow(uint16(testPorts.Base))
	if got := w.ReadMMIO(0, 4); got != ^uint64(0) {
		t.Errorf("before addresses are assigned %#x", got)
	}
	for range 2 { // the second time after a reset
		if err := h.Assign(testLow, testHigh, testPorts); err != nil {
			t.Fatal(err)
		}
		base := uint64(at) << ecamBDFShift
		if got := h.ReadMMIO(base+0x10, 8); got != 0xc0000004 {
			t.Errorf("BAR 0 = %#x", got)
		}
		if got := h.ReadMMIO(base+0x18, 4); got != 0xc0004000 {
			t.Errorf("BAR 2 = %#x", got)
		}
		w.WriteMMIO(0x3ff8, 8, 0x1122334455667788)
		if regs.offset != 0x3ff8 || regs.value != 0x1122334455667788 {
			t.Errorf("device saw %+v", *regs)
		}
		if got := w.ReadMMIO(0x4000+12, 4); got != 1 {
			t.Errorf("control of vector 0 = %#x", got)
		}
		// The larger ports first.
		if small, large := h.ReadMMIO(base+0x1c, 4), h.ReadMMIO(base+0x20, 4); small != 0xc021 || large != 0xc001 {
			t.Errorf("ports of BAR 3 at %#x, of BAR 4 at %#x", small, large)
		}
		if p.WritePIO(0x20, 2, 7); doors.v != 7 {
			t.Errorf("the device behind the ports saw %d", doors.v)
		}
		if got := p.ReadPIO(0x24, 2); got != ^uint32(0) {
			t.Errorf("ports of nobody read %#x", got)
		}
		e.Reset()
	}
}

// nowhere takes messages.
type nowhere struct{}

func (nowhere) SignalMSI(uint64, uint32) {}
