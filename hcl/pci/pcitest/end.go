package pcitest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"keel/hcl/pci"
)

// ended tells whether every method says that the function has ended, and whether its
// registers do.
func (f *Function) ended(t *testing.T, r pci.Registers, why error) {
	t.Helper()
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"Registers", func() error { _, err := f.Registers(f.BAR); return err }},
		{"Interrupts", func() error { _, err := f.Interrupts(1); return err }},
		{"Allocate", func() error { _, err := f.Allocate(1); return err }},
		{"Master", func() error { return f.Master(true) }},
		{"Reset", f.Reset},
	} {
		if err := c.call(); !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", c.name, err, why)
		}
	}
	r.Write32(0, 0)
	r.Write64(8, 0)
	if a, b := r.Read32(0), r.Read64(8); a != ones32 || b != ones64 {
		t.Errorf("registers read %#x, %#x, want ones", a, b)
	}
}

func checkClose(t *testing.T, f *Function) {
	t.Helper()
	r := f.registers(t)
	id := f.ID()
	var done <-chan error
	if f.MaxInterrupts() > 0 {
		done = f.waits(f.interrupts(t, 1)[0])
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if done != nil {
		if err := within(t, done); !errors.Is(err, pci.ErrClosed) {
			t.Errorf("Wait: %v, want %v", err, pci.ErrClosed)
		}
	}
	f.ended(t, r, pci.ErrClosed)
	if f.ID() != id {
		t.Errorf("it was %+v and is %+v", id, f.ID())
	}
}

// checkCloseUnderLoad closes while other goroutines use everything.
func checkCloseUnderLoad(t *testing.T, f *Function) {
	t.Helper()
	r := f.registers(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	if f.MaxInterrupts() > 0 {
		i := f.interrupts(t, 1)[0]
		wg.Go(func() {
			for err := error(nil); err == nil; {
				err = i.Wait()
			}
		})
	}
	stop := make(chan struct{})
	defer close(stop)
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.Read32(0)
					r.Read64(8)
				}
			}
		})
	}
	wg.Go(func() {
		for err := error(nil); err == nil; {
			err = f.Master(false)
		}
	})
	wg.Go(func() {
		for range 1000 {
			if _, err := f.Allocate(1); err != nil {
				return
			}
		}
	})
	time.Sleep(10 * time.Millisecond)
	if err := f.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func checkRemoval(t *testing.T, f *Function) {
	t.Helper()
	if f.Remove == nil {
		t.Skip("it cannot be removed")
	}
	r := f.registers(t)
	var done <-chan error
	if f.MaxInterrupts() > 0 {
		done = f.waits(f.interrupts(t, 1)[0])
	}
	select {
	case <-f.Gone():
		t.Fatal("it is gone at once")
	default:
	}
	f.Remove()
	select {
	case <-f.Gone():
	case <-time.After(patience):
		t.Fatal("Gone is not closed")
	}
	if done != nil {
		if err := within(t, done); !errors.Is(err, pci.ErrGone) {
			t.Errorf("Wait: %v, want %v", err, pci.ErrGone)
		}
	}
	f.ended(t, r, pci.ErrGone)
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	f.ended(t, r, pci.ErrClosed)
	select {
	case <-f.Gone():
	default:
		t.Error("Gone is open again")
	}
}
