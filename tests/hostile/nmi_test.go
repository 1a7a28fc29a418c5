package hostile

import (
	"errors"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// waiting says that it runs and then leaves to Keel many times.
var waiting = []byte{
	0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8
	0xb0, 'r', // mov al, 'r'
	0xee,                         // out dx, al
	0xb9, 0x40, 0x0d, 0x03, 0x00, // mov ecx, 200000
	// again:
	0xe4, 0x80, // in al, 0x80
	0xff, 0xc9, // dec ecx
	0x75, 0xfa, // jnz again
	0xb8, 0x00, 0x00, 0x01, 0x01, // mov eax, 0x1010000
	0xff, 0xe0, // jmp rax
}

// vectorNMI is that of non-maskable interrupts.
const vectorNMI = 2

// enoughNMIs are those that a run must have had to count.
const enoughNMIs = 20

// TestInjectedNMIs is a host that sends NMIs to every CPU of the VM while a confidential
// guest runs. They are VTL2's: the guest, which ends with its first one, sees none, and
// Keel goes on.
func TestInjectedNMIs(t *testing.T) {
	t.Parallel()
	p := program{code: waiting, handlers: map[int]int{vectorNMI: offUnwanted}}
	for _, isolation := range []string{"snp", "tdx"} {
		if isolation == "tdx" && !soak {
			continue
		}
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			monitor, extra := harness.NewMonitor(t)
			r := tool.Start(t, append(extra, "--kernel", p.write(t), "--mem", "128M", "--isolation", isolation, "--strict", "count", "--timeout", "5m")...)
			r.Until(t, "a guest that runs", func() bool { return r.Console() != "" })
			sent := inject(t, monitor, r.Ended)
			report := r.Wait(t, handoff.OutcomePoweroff)
			if got := r.Console(); got != "rsurvived\n" {
				t.Errorf("the guest says %q", got)
			}
			if sent < enoughNMIs || report.Resets != 0 {
				t.Errorf("%d NMIs, %d resets", sent, report.Resets)
			}
			t.Logf("%d NMIs", sent)
		})
	}
}

// inject sends NMIs (QEMU docs/interop/qmp-spec; inject-nmi) until the run ends, and
// returns how many QEMU took.
func inject(t *testing.T, m *harness.Monitor, ended <-chan struct{}) (sent int) {
	t.Helper()
	for m.Dial(t); ; sent++ {
		switch err := m.Try("inject-nmi", nil, nil); {
		case errors.Is(err, harness.ErrQEMU):
			t.Error(err)
			return sent
		case err != nil: // the VM is gone
			return sent
		}
		select {
		case <-ended:
			return sent
		case <-time.After(20 * time.Millisecond):
		}
	}
}
