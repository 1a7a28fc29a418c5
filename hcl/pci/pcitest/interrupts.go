package pcitest

import (
	"errors"
	"math"
	"testing"
	"time"

	"keel/hcl/pci"
)

// interrupts makes n interrupts, and skips where the function has fewer.
func (f *Function) interrupts(t *testing.T, n int) []pci.Interrupt {
	t.Helper()
	if most := f.MaxInterrupts(); most < n {
		t.Skipf("it has %d interrupts, %d are needed", most, n)
	}
	list, err := f.Interrupts(n)
	if err != nil {
		t.Fatalf("Interrupts(%d): %v", n, err)
	}
	if len(list) != n {
		t.Fatalf("Interrupts(%d) made %d", n, len(list))
	}
	return list
}

func checkInterruptCounts(t *testing.T, f *Function) {
	t.Helper()
	most := f.MaxInterrupts()
	if most < 0 || most > 2048 {
		t.Fatalf("it has %d interrupts; MSI-X has up to 2048", most)
	}
	for _, n := range []int{most + 1, math.MaxInt} {
		if _, err := f.Interrupts(n); !errors.Is(err, pci.ErrLimit) {
			t.Errorf("Interrupts(%d) of %d: %v, want ErrLimit", n, most, err)
		}
	}
	if _, err := f.Interrupts(-1); err == nil {
		t.Error("Interrupts(-1) made some")
	}
	// A machine may lack vectors for all that a function has.
	f.interrupts(t, min(most, 16))
	f.interrupts(t, min(most, 1))
	f.interrupts(t, 0)
}

// checkInterrupts raises interrupts: each wakes the one that waits for it, and none
// is lost that comes before the wait.
func checkInterrupts(t *testing.T, f *Function) {
	t.Helper()
	if f.Signal == nil {
		t.Skip("interrupts cannot be raised")
	}
	list := f.interrupts(t, 2)
	zero, one := f.waits(list[0]), f.waits(list[1])
	f.Signal(1)
	if err := within(t, one); err != nil {
		t.Errorf("Wait: %v", err)
	}
	select {
	case err := <-zero:
		t.Errorf("interrupt 1 ended the wait for 0: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	f.Signal(0)
	if err := within(t, zero); err != nil {
		t.Errorf("Wait: %v", err)
	}
	// Two that come before the wait are one.
	f.Signal(1)
	f.Signal(1)
	if err := within(t, f.waits(list[1])); err != nil {
		t.Errorf("Wait: %v", err)
	}
	one = f.waits(list[1])
	select {
	case err := <-one:
		t.Errorf("a wait ended with nothing raised: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	f.Signal(1)
	if err := within(t, one); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

func checkReplacedInterrupts(t *testing.T, f *Function) {
	t.Helper()
	before := f.interrupts(t, 1)
	done := f.waits(before[0])
	now := f.interrupts(t, 1)
	if err := within(t, done); err == nil {
		t.Error("a wait ended well with its interrupt replaced")
	}
	if err := within(t, f.waits(before[0])); err == nil {
		t.Error("a wait for a replaced interrupt ended well")
	}
	if f.Signal == nil {
		return
	}
	f.Signal(0)
	if err := within(t, f.waits(now[0])); err != nil {
		t.Errorf("Wait for the new interrupt: %v", err)
	}
}
