package vfio

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"keel/hcl/abi/vfio"
	"keel/hcl/pci"
	"keel/hcl/sys"
)

// Function is a PCI function taken over through VFIO.
//
// When the host asks for it back, or when it reports an error that it cannot
// recover from (PCI Express AER: data may have been lost on the way, so nothing of
// it is trusted any more), the function goes: it is forbidden to reach memory, its
// registers read as ones, all waits end, and then Gone is closed. Its owner calls
// Close, for which the host waits.
type Function struct {
	domain *Domain
	device device
	id     pci.ID
	group  int
	config region
	msix   msix
	resets bool // it can be reset alone

	gone     chan struct{}
	watchers []*os.File // what tells of removal and of errors
	counts   counters

	mu      sync.RWMutex // device is used under it; taken before Domain.mu
	state   error        // nil, pci.ErrGone or pci.ErrClosed
	vectors []*interrupt
	bars    [cfgBARs]*registers
	buffers []Region
}

var _ pci.Function = (*Function)(nil)

// Stats counts what a function did wrong or its driver asked in vain.
type Stats struct {
	Outside uint64 // accesses outside of the registers
	Faults  uint64 // accesses to registers that were taken away
	Failed  uint64 // accesses through the kernel that failed
	Refused uint64 // buffers and interrupts that there were not enough of
	Removal uint64 // removals that the host asked for
	Errors  uint64 // unrecoverable errors that the function reported
}

type counters struct {
	outside, faults, failed, refused, removal, errors atomic.Uint64
}

// Stats returns the counters.
func (f *Function) Stats() Stats {
	c := &f.counts
	return Stats{
		c.outside.Load(), c.faults.Load(), c.failed.Load(), c.refused.Load(), c.removal.Load(), c.errors.Load(),
	}
}

// newFunction sets up a function whose device is open: memory decoded, reaching no
// memory, no interrupts. On an error the device stays open.
func newFunction(d *Domain, dev device, address string, group int) (*Function, error) {
	f := &Function{domain: d, device: dev, group: group, gone: make(chan struct{})}
	f.id.Address = address
	flags, err := dev.flags()
	if err != nil {
		return nil, err
	}
	if flags&vfio.DEVICE_FLAGS_PCI == 0 {
		return nil, fmt.Errorf("%w: it is no PCI function", ErrHardware)
	}
	f.resets = flags&vfio.DEVICE_FLAGS_RESET != 0
	if f.config, err = dev.region(vfio.PCI_CONFIG_REGION_INDEX); err != nil {
		return nil, err
	}
	if f.config.size < cfgSize || f.config.size > cfgSizePCIe {
		return nil, fmt.Errorf("%w: a configuration space of %d bytes", ErrHardware, f.config.size)
	}
	if err := f.identify(); err != nil {
		return nil, err
	}
	if err := f.command(commandMemory|commandINTxDisable, commandMaster); err != nil {
		return nil, err
	}
	for _, w := range []struct {
		index uint32
		count *atomic.Uint64
		must  bool
	}{
		{vfio.PCI_REQ_IRQ_INDEX, &f.counts.removal, true},
		{vfio.PCI_ERR_IRQ_INDEX, &f.counts.errors, false}, // PCI Express alone has it
	} {
		err := f.watch(w.index, w.count)
		if err != nil && w.must {
			f.unwatch()
			return nil, err
		}
	}
	return f, nil
}

// watch makes the function go when an interrupt of VFIO's own comes.
func (f *Function) watch(index uint32, count *atomic.Uint64) error {
	if n, err := f.device.interrupts(index); err != nil || n == 0 {
		return errors.Join(fmt.Errorf("%w: VFIO's interrupt %d is missing", ErrIRQ, index), err)
	}
	// Nothing is in a hurry here: the runtime's poller waits, not a thread.
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIRQ, err)
	}
	file := os.NewFile(uintptr(fd), "vfio-event")
	if err := f.device.signal(index, []int{fd}); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrIRQ, err), file.Close())
	}
	f.watchers = append(f.watchers, file)
	go func() {
		var b [8]byte
		if _, err := file.Read(b[:]); err != nil {
			return // closed
		}
		count.Add(1)
		f.vanish()
	}()
	return nil
}

// unwatch ends the watchers.
func (f *Function) unwatch() {
	for _, w := range f.watchers {
		_ = w.Close() // its reader returns
	}
}

// vanish makes the function go. Only the first call does anything.
func (f *Function) vanish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return
	}
	f.stop(pci.ErrGone)
	close(f.gone)
}

// stop ends everything that the function does, and sets why. What fails fails
// because there is no function any more.
// Preconditions: mu is held for writing.
func (f *Function) stop(why error) {
	f.state = why
	_ = f.command(0, commandMaster)
	for bar, r := range f.bars {
		if r != nil {
			r.seal()
			f.bars[bar] = nil
		}
	}
	_ = f.silence(why)
}

// ID returns what the function said of itself when it was opened.
func (f *Function) ID() pci.ID { return f.id }

// Group is the function's IOMMU group.
func (f *Function) Group() int { return f.group }

// Gone is closed when the host takes the function away. The function reaches no
// memory any more by then.
func (f *Function) Gone() <-chan struct{} { return f.gone }

// Master lets the function reach memory, or forbids it. When it returns from
// forbidding, what the function had under way has arrived.
func (f *Function) Master(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return fmt.Errorf("%w: %w", ErrConfig, f.state)
	}
	if on {
		return f.command(commandMaster, 0)
	}
	return f.command(0, commandMaster)
}

// Reset resets the function. Interrupts and mastering stay as they were: the kernel
// saves and restores the configuration space. The error wraps errors.ErrUnsupported
// when the function cannot be reset alone.
func (f *Function) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return fmt.Errorf("%w: %w", ErrReset, f.state)
	}
	if !f.resets {
		return fmt.Errorf("%w: %s: %w", ErrReset, f.id.Address, errors.ErrUnsupported)
	}
	if err := f.device.reset(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrReset, f.id.Address, err)
	}
	return nil
}

// Allocate makes a buffer at an address below 4 GiB, pinned and mapped into the
// domain. The page after it is mapped nowhere. The error wraps pci.ErrLimit when
// there is no memory, no address or no mapping left.
func (f *Function) Allocate(size int) (pci.Buffer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return pci.Buffer{}, fmt.Errorf("%w: %w", ErrBuffer, f.state)
	}
	if size <= 0 || size > maxBuffer {
		f.counts.refused.Add(1)
		return pci.Buffer{}, fmt.Errorf("%w: %w: %d bytes, at most %d", ErrBuffer, pci.ErrLimit, size, maxBuffer)
	}
	r, err := f.domain.allocate(pages(uint64(size)))
	if err != nil {
		f.counts.refused.Add(1)
		return pci.Buffer{}, fmt.Errorf("%w: %w: %w", ErrBuffer, pci.ErrLimit, err)
	}
	f.buffers = append(f.buffers, r)
	return pci.Buffer{Bytes: r.Memory, Words: sys.Words(r.Memory), DMA: r.IOVA}, nil
}

// Close stops the function and gives it back. The kernel resets it, where it can be
// reset alone. Registers read as ones afterwards, all waits end.
// Preconditions: no Buffer is used any more: their memory is unmapped.
func (f *Function) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(f.state, pci.ErrClosed) {
		return nil
	}
	f.stop(pci.ErrClosed)
	f.unwatch()
	err := f.device.close()
	buffers := f.buffers
	f.buffers = nil
	return errors.Join(err, f.domain.release(f, buffers))
}
