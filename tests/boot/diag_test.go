package boot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/server"
	"keel/tests/harness"
)

// diagVM is a VM whose guest sits at a shell, and what its diagnostics depend on.
type diagVM struct {
	*harness.Session
	Confidential bool // the guest
	Debug        bool // the image
	VPs          int

	memory int // bytes
}

// diagVMs are those into which is looked: a call is allowed or refused by the guest and
// the image. Those marked ci run every time, KEEL_SOAK runs all.
var diagVMs = []struct {
	isolation string // empty: none
	debug     bool
	vps       int
	memory    int // MiB
	killed    bool
	ci        bool
}{
	{"snp", false, 4, 512, false, true},
	{"", true, 1, 256, true, true},
	{"", true, 4, 512, false, false},
	{"", false, 1, 512, false, false},
	{"", false, 4, 512, true, false},
	{"snp", false, 1, 512, true, false},
	{"snp", true, 1, 512, false, false},
	{"tdx", true, 4, 512, true, false},
	{"tdx", false, 1, 256, false, false},
}

// diagAreas look into a VM, each with the calls of one service, those too that are
// refused. They leave the guest at its shell.
var diagAreas = []struct {
	name string
	look func(t *testing.T, vm *diagVM)
}{
	{"inspect", diagInspect},
	{"logs", diagLogs},
	{"control", diagControl},
	{"capture", diagCapture},
	{"programs", diagPrograms},
}

// TestDiagnostics makes every call of the diagnostics, of live VMs and of one that dies.
func TestDiagnostics(t *testing.T) {
	t.Parallel()
	for _, m := range diagVMs {
		if !m.ci && !harness.Soak() {
			continue
		}
		vm := &diagVM{Confidential: m.isolation != "", Debug: m.debug, VPs: m.vps, memory: m.memory << 20}
		flags := []string{"--vps", strconv.Itoa(m.vps), "--mem", fmt.Sprintf("%dM", m.memory), "--timeout", harness.Patience.String()}
		name := "plain"
		if vm.Confidential {
			name = m.isolation
			flags = append(flags, "--isolation", m.isolation)
		}
		image := "release"
		if vm.Debug {
			image = "debug"
		}
		t.Run(fmt.Sprintf("%s/%s/%d", name, image, m.vps), func(t *testing.T) {
			t.Parallel()
			if vm.Debug {
				flags = append(flags, "--image", tool.Debug(t))
			}
			vm.Session = shell(t, append(flags, diskFlags(t)...)...)
			for _, area := range diagAreas {
				t.Run(area.name, func(t *testing.T) { area.look(t, vm) })
			}
			if n := look(t, vm.Name, "diag/following").sum(); n != 0 {
				t.Errorf("%v streams are left", n)
			}
			peak := look(t, vm.Name, "memory/vtl2_peak").sum()
			t.Logf("VTL2 needed %v bytes", peak)
			if most := maxVTL2Memory + maxDiskMemory; vm.VPs <= 2 && peak > float64(most) {
				t.Errorf("VTL2 needed %v bytes, more than %d", peak, most)
			}
			if m.killed {
				vm.dies(t)
			} else {
				vm.Send(t, "poweroff\r")
				vm.Wait(t, handoff.OutcomePoweroff)
			}
			if running(t, vm.Name) != nil {
				t.Error("keel ps lists the dead")
			}
			vm.failed(t, handoff.OutcomeUsage, "no such VM", "diag", "inspect", vm.Name)
		})
	}
}

// dies kills a VM under the hands of clients.
func (vm *diagVM) dies(t *testing.T) {
	t.Helper()
	c := vm.dial(t)
	followed := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := sync.OnceFunc(func() { close(followed) })
		ended <- c.Watch(t.Context(), "", 16, server.MinInterval, func(*client.Tree) error { first(); return nil })
	}()
	select {
	case <-followed:
	case err := <-ended:
		t.Fatalf("nothing to follow: %v", err)
	}
	vm.KillVM(t)
	vm.Wait(t, handoff.OutcomeVMLost)
	if err := <-ended; !errors.Is(err, client.ErrLost) {
		t.Errorf("who followed a dead VM: %v", err)
	}
	if _, err := c.Inspect(t.Context(), "", 1); !errors.Is(err, client.ErrNoVM) && !errors.Is(err, client.ErrLost) {
		t.Errorf("a dead VM: %v", err)
	}
}

// failed runs a command of the tool that has to fail, in one line that names a reason.
func (vm *diagVM) failed(t *testing.T, want handoff.Outcome, reason string, args ...string) {
	t.Helper()
	if said := keelTool(t, want, args...); !strings.Contains(said, reason) {
		t.Errorf("keel %q: refused, but not for %q: %s", args, reason, said)
	}
}

// dial returns a client of the VM's.
func (vm *diagVM) dial(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), vm.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
