package vfio

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
	"keel/hcl/pci"
	"keel/hcl/sys"
)

// interrupt is an MSI-X vector, as an eventfd.
type interrupt struct {
	ended atomic.Pointer[error] // why it is no more

	mu    sync.Mutex // held while the eventfd is waited for
	fd    int
	count [8]byte // what was read: signals since the last call, of no interest
	turn  int64   // when the waiter last had its turn in the scheduler, nanoseconds
}

// turnPeriod is how long a waiter may do without a turn, in nanoseconds: less than the
// 10 ms after which Go's runtime wants one, and no price for each of many interrupts.
const turnPeriod = 4_000_000

// Wait blocks its thread in read(2) until the function has signalled since the last
// call: one system call, without a turn through the runtime's poller.
//
// It takes its turn in Go's scheduler now and then. Where a goroutine never does, Go
// 1.26 takes its processor away in every system call, and to see them all its monitor
// looks every 20 us (runtime/proc.go, retake): that took half a CPU of an emulated
// machine.
func (i *interrupt) Wait() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := sys.MonotonicNow(); now-i.turn > turnPeriod {
		i.turn = now
		runtime.Gosched()
	}
	for {
		if why := i.ended.Load(); why != nil {
			return fmt.Errorf("waiting for an interrupt: %w", *why)
		}
		_, err := unix.Read(i.fd, i.count[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for an interrupt: %w", err)
		case i.ended.Load() == nil:
			return nil
		}
	}
}

// end wakes the waiter, for which there is nothing more to wait for.
func (i *interrupt) end(why error) {
	i.ended.Store(&why)
	one := [8]byte{1}
	// Fails only when the counter is full, and then the waiter is awake.
	_, _ = unix.Write(i.fd, one[:])
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = unix.Close(i.fd)
	i.fd = -1
}

// MaxInterrupts is the smaller of what the function and the kernel say, at most
// 2048. It is 0 for a function without MSI-X or one that is gone.
func (f *Function) MaxInterrupts() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.maxInterrupts()
}

func (f *Function) maxInterrupts() int {
	if f.state != nil {
		return 0
	}
	n, err := f.device.interrupts(vfio.PCI_MSIX_IRQ_INDEX)
	if err != nil {
		return 0
	}
	return int(min(n, uint32(f.msix.vectors), maxVectors))
}

// Interrupts makes MSI-X interrupts. Those that were made before end, with
// pci.ErrClosed for who waits. None turns MSI-X off.
func (f *Function) Interrupts(n int) ([]pci.Interrupt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return nil, fmt.Errorf("%w: %w", ErrIRQ, f.state)
	}
	if most := f.maxInterrupts(); n < 0 || n > most {
		f.counts.refused.Add(1)
		return nil, fmt.Errorf("%w: %w: %d interrupts, at most %d", ErrIRQ, pci.ErrLimit, n, most)
	}
	if err := f.silence(pci.ErrClosed); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIRQ, err)
	}
	if n == 0 {
		return nil, nil
	}
	vectors, err := f.connect(n)
	if err != nil {
		for _, v := range vectors {
			v.end(pci.ErrClosed)
		}
		f.counts.refused.Add(1)
		return nil, fmt.Errorf("%w: %w: %w", ErrIRQ, pci.ErrLimit, err)
	}
	f.vectors = vectors
	list := make([]pci.Interrupt, n)
	for i, v := range vectors {
		list[i] = v
	}
	return list, nil
}

// connect makes eventfds and gives them to the kernel. Those that were made are
// returned with the error too.
func (f *Function) connect(n int) ([]*interrupt, error) {
	vectors := make([]*interrupt, 0, n)
	fds := make([]int, 0, n)
	for range n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return vectors, fmt.Errorf("eventfd: %w", err)
		}
		vectors, fds = append(vectors, &interrupt{fd: fd}), append(fds, fd)
	}
	return vectors, f.device.signal(vfio.PCI_MSIX_IRQ_INDEX, fds)
}

// silence ends the interrupts that were made.
// Preconditions: mu is held for writing.
func (f *Function) silence(why error) error {
	if f.vectors == nil {
		return nil
	}
	// The kernel refuses to turn off what is not on.
	err := f.device.signal(vfio.PCI_MSIX_IRQ_INDEX, nil)
	for _, v := range f.vectors {
		v.end(why)
	}
	f.vectors = nil
	return err
}
