package hostile

import (
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/paravisor"
)

// askPanic puts the word that makes the paravisor panic on the VTL2 kernel's
// command line, as far as the image lets the host do so.
var askPanic = []string{"--qemu-arg", "-append", "--qemu-arg", paravisor.PanicWord}

// TestPanic checks that a defect of the paravisor has its own exit code, and that its
// stack is in the log: without values where the guest is confidential.
func TestPanic(t *testing.T) {
	t.Parallel()
	for isolation, c := range map[string]struct{ said, not string }{
		"none": {"panic: asked for by " + paravisor.PanicWord, "withheld"},
		"snp":  {"panic: (withheld: the guest is confidential)", "asked for"},
	} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			guest := program{code: hangAll}
			flags := []string{"--image", tool.Debug(t), "--kernel", guest.write(t), "--mem", "128M", "--isolation", isolation, "--timeout", "60s"}
			r := tool.Start(t, append(flags, askPanic...)...)
			report := r.Wait(t, handoff.OutcomeParavisorCrashed)
			if report.GuestEntryMS == nil {
				t.Error("the guest was not entered")
			}
			for _, want := range []string{c.said, "goroutine ", "keel/vtl.(*vp).serve("} {
				if !strings.Contains(r.Log(), want) {
					t.Errorf("the log lacks %q", want)
				}
			}
			if strings.Contains(r.Log(), c.not) {
				t.Errorf("the log has %q", c.not)
			}
		})
	}
}

// TestReleaseDoesNotPanic checks that the word means nothing to a release image.
func TestReleaseDoesNotPanic(t *testing.T) {
	t.Parallel()
	guest := program{code: everyReset}
	r := tool.Start(t, append([]string{"--kernel", guest.write(t), "--mem", "128M", "--timeout", "60s"}, askPanic...)...)
	r.Wait(t, handoff.OutcomePoweroff)
}
