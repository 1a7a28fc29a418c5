package harness

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
)

// Soak tells whether there is time for everything: KEEL_SOAK is set. Else a slice runs
// that fits CI.
func Soak() bool { return os.Getenv("KEEL_SOAK") != "" }

// Main is TestMain of a package that starts runs, and returns the exit code. It builds
// the tool from the checkout at root into *tool, in a folder of its own, and what the
// tests need beside it with prepare, which may be nil.
func Main(m *testing.M, root string, tool **Tool, prepare func(ctx context.Context, dir string) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "keel-tests-")
	if err == nil {
		defer os.RemoveAll(dir)
		*tool, err = Build(ctx, root, dir)
	}
	if err == nil && prepare != nil {
		err = prepare(ctx, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot prepare the runs:", err)
		return 1
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // from here on they end the tests at once
	return m.Run()
}

// Machine is one row of what has to work: a guest with a device that it may meet in
// several ways.
type Machine struct {
	Front, Kernel string
	VPs           int
	Isolation     string // empty: none
}

func (m Machine) String() string {
	name := fmt.Sprintf("%s/%s/%d", m.Front, m.Kernel, m.VPs)
	if m.Isolation != "" {
		name += "/" + m.Isolation
	}
	return name
}

// Machines lists every front with both kernels on 1 and 4 VPs; without KEEL_SOAK those
// that are given.
func Machines(fronts []string, ci ...Machine) []Machine {
	if !Soak() {
		return ci
	}
	var all []Machine
	for _, front := range fronts {
		for _, kernel := range []string{"6.1", "5.10"} {
			for _, vps := range []int{1, 4} {
				all = append(all, Machine{Front: front, Kernel: kernel, VPs: vps})
			}
		}
	}
	return all
}

// Flags are those of a run of the machine, but for what is particular to its guest.
func (m Machine) Flags() []string {
	flags := []string{"--vps", strconv.Itoa(m.VPs), "--timeout", Patience.String()}
	if m.Isolation != "" {
		flags = append(flags, "--isolation", m.Isolation)
	}
	return flags
}
