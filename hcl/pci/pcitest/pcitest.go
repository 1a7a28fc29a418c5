// Package pcitest is the contract that every pci.Function keeps, the real ones of
// hcl/vfio and those that drivers' tests bring. The test of an implementation calls
// Run.
package pcitest

import (
	"errors"
	"testing"
	"time"

	"keel/hcl/pci"
)

// Function is a function under test, with what the test may do to it from the
// host's side. A hook that is nil leaves out the checks that need it.
type Function struct {
	pci.Function
	BAR     int              // one that addresses memory
	Signal  func(vector int) // raises an interrupt
	Remove  func()           // takes the function away
	Waiting func()           // returns once a goroutine is likely to be in Wait; nil sleeps
}

// patience is how long the suite waits for what must happen.
const patience = 10 * time.Second

// pageSize is the size of the pages that buffers are made of.
const pageSize = 4096

// contract lists what every function does.
var contract = []struct {
	name  string
	check func(t *testing.T, f *Function)
}{
	{"identity", checkIdentity},
	{"registers", checkRegisters},
	{"registers that are not there", checkNoRegisters},
	{"buffers", checkBuffers},
	{"buffers that cannot be", checkNoBuffers},
	{"interrupt counts", checkInterruptCounts},
	{"interrupts arrive", checkInterrupts},
	{"interrupts are replaced", checkReplacedInterrupts},
	{"mastering and reset", checkMasterReset},
	{"close", checkClose},
	{"close under load", checkCloseUnderLoad},
	{"removal", checkRemoval},
}

// Run runs the suite. open makes a fresh function, or takes the same one over again;
// what it returns is closed by the suite. It skips where the machine has none.
func Run(t *testing.T, open func(t *testing.T) *Function) {
	t.Helper()
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			f := open(t)
			defer func() {
				// The function may be closed by now, and that may be repeated.
				if err := f.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			c.check(t, f)
		})
	}
}

func checkIdentity(t *testing.T, f *Function) {
	t.Helper()
	id := f.ID()
	if id.Address == "" {
		t.Error("it has no address")
	}
	if id.Vendor == 0xffff || id.Class > 1<<24-1 {
		t.Errorf("%+v is no identity", id)
	}
	if again := f.ID(); again != id {
		t.Errorf("first %+v, then %+v", id, again)
	}
}

// checkMasterReset turns everything on and off, in the orders in which drivers do.
func checkMasterReset(t *testing.T, f *Function) {
	t.Helper()
	for range 2 {
		for _, on := range []bool{true, true, false, false} {
			if err := f.Master(on); err != nil {
				t.Fatalf("Master(%v): %v", on, err)
			}
		}
		if err := f.Reset(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("Reset: %v", err)
		}
		if f.MaxInterrupts() == 0 {
			continue
		}
		if _, err := f.Interrupts(1); err != nil {
			t.Fatalf("Interrupts after Reset: %v", err)
		}
	}
	select {
	case <-f.Gone():
		t.Error("it is gone")
	default:
	}
}

// waits calls Wait on a goroutine and returns where its result will come, when it
// has had time to block.
func (f *Function) waits(i pci.Interrupt) <-chan error {
	done := make(chan error, 1)
	go func() { done <- i.Wait() }()
	if f.Waiting != nil {
		f.Waiting()
	} else {
		time.Sleep(20 * time.Millisecond)
	}
	return done
}

// within returns what comes of a wait, and fails when nothing does.
func within(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("Wait does not return")
		return nil
	}
}
