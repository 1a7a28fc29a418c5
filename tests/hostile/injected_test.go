package hostile

import (
	"slices"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// waiting says that it runs, lets interrupts in, and then leaves to Keel many times.
var waiting = []byte{
	0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8
	0xb0, 'r', // mov al, 'r'
	0xee,                         // out dx, al
	0xfb,                         // sti
	0xb9, 0x60, 0xea, 0x00, 0x00, // mov ecx, 60000
	// again:
	0xe4, 0x80, // in al, 0x80
	0xff, 0xc9, // dec ecx
	0x75, 0xfa, // jnz again
	0xfa,                         // cli
	0xb8, 0x00, 0x00, 0x01, 0x01, // mov eax, 0x1010000
	0xff, 0xe0, // jmp rax
}

// Vectors (AMD64 APM vol. 2, 8.2).
const (
	vectorNMI      = 2
	vectorReserved = 20
	vectors        = 256

	// vectorMessage is the least that a message may have (APM vol. 2, 16.4.1).
	vectorMessage = 16
)

// fatalVectors take a processor away, as the host can at any time: Linux stops it at the
// one, and never ends the interrupt of the other, so that nothing else interrupts it again
// (arch/x86/include/asm/irq_vectors.h; handle_spurious_interrupt).
var fatalVectors = []uint32{0xf8, 0xff}

// unwanted ends a program with its first interrupt.
func unwanted() map[int]int {
	handlers := map[int]int{vectorNMI: offUnwanted}
	for v := vectorReserved; v < vectors; v++ {
		handlers[v] = offUnwanted
	}
	return handlers
}

// intruder is a host that interrupts its VM: through QEMU's monitor, as devices do with
// messages, and on the wires of the interrupt controller.
type intruder struct {
	monitor *harness.Monitor
	qtest   *harness.Qtest
	sent    map[string]int
}

// Ways to interrupt a VM.
const (
	byNMI     = "NMI"
	byButton  = "power button"
	byKey     = "key"
	byMessage = "message"
	byWire    = "wire"
)

// rounds are over before the guest is. A host that interrupts without end takes all of the
// processor's time, as it can at any time.
const rounds = 6

func newIntruder(t *testing.T) (*intruder, []string) {
	t.Helper()
	monitor, flags := harness.NewMonitor(t)
	qtest, more := harness.NewQtest(t)
	return &intruder{monitor: monitor, qtest: qtest, sent: map[string]int{}}, append(flags, more...)
}

// dial connects to a VM that runs.
func (i *intruder) dial(t *testing.T) {
	t.Helper()
	i.monitor.Dial(t)
	i.qtest.Dial(t)
}

// Of the VM under attack.
const (
	cpus   = 2                     // with one VP
	ioapic = "/machine/q35/ioapic" // in QEMU's tree of objects
	wires  = 24                    // into it
)

// round interrupts the VM in every way.
func (i *intruder) round(last bool) error {
	count := func(how string, err error) error {
		if err == nil {
			i.sent[how]++
		}
		return err
	}
	if err := count(byNMI, i.monitor.Try("inject-nmi", nil, nil)); err != nil {
		return err
	}
	if err := count(byButton, i.monitor.Try("system_powerdown", nil, nil)); err != nil {
		return err
	}
	keys := map[string]any{"keys": []any{map[string]any{"type": "qcode", "data": "delete"}}}
	if err := count(byKey, i.monitor.Try("send-key", keys, nil)); err != nil {
		return err
	}
	for cpu := range uint64(cpus) {
		for v := uint32(vectorMessage); v < vectors; v++ {
			if slices.Contains(fatalVectors, v) {
				continue
			}
			const messages = 0xfee00000 // fixed delivery to the local APIC in bits 19 to 12
			if err := count(byMessage, i.qtest.Write32(messages|cpu<<12, v)); err != nil {
				return err
			}
		}
	}
	for n := range wires {
		err := count(byWire, i.qtest.SetLine(ioapic, n, true))
		if err == nil && !last { // at last they stay as they are
			err = i.qtest.SetLine(ioapic, n, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestInjected is a host that interrupts every CPU of the VM in every way while a
// confidential guest runs. The interrupts are VTL2's: the guest, which ends with its first
// one, sees none, and Keel goes on.
func TestInjected(t *testing.T) {
	t.Parallel()
	p := program{code: waiting, handlers: unwanted()}
	for _, isolation := range []string{"snp", "tdx"} {
		if isolation == "tdx" && !soak {
			continue
		}
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			host, flags := newIntruder(t)
			r := tool.Start(t, append(flags, "--kernel", p.write(t), "--mem", "128M", "--isolation", isolation, "--strict", "count", "--timeout", "5m")...)
			r.Until(t, "a guest that runs", func() bool { return r.Console() != "" })
			host.dial(t)
			for n := range rounds {
				if err := host.round(n == rounds-1); err != nil {
					t.Error(err)
				}
			}
			report := r.Wait(t, handoff.OutcomePoweroff)
			if got := r.Console(); got != "rsurvived\n" || report.Resets != 0 {
				t.Errorf("the guest says %q, %d resets", got, report.Resets)
			}
			t.Logf("%v", host.sent)
		})
	}
}
