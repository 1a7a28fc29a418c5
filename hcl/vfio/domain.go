package vfio

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// Options are what a Domain needs to know.
type Options struct {
	Machine Machine
}

// Region is a run of memory that functions may reach.
type Region struct {
	IOVA   uint64 // the address that functions use
	Memory []byte // made by mmap; both page-aligned
}

// Domain is the one address space of all functions. Its methods may be called from
// any goroutine.
type Domain struct {
	options Options

	mu        sync.Mutex // taken after that of a Function
	container container  // nil after Close
	groups    map[int]*member
	functions map[string]*Function
	guest     []Region
	space     *space // nil while there is no group
}

// member is a group and how many of its functions are open.
type member struct {
	group
	users int
}

// NewDomain makes an address space with nothing in it. The error wraps
// hcl.ErrNotSupported where the kernel has no VFIO.
func NewDomain(o Options) (*Domain, error) {
	c, err := openContainer(o.Machine)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDomain, err)
	}
	return newDomain(o, c), nil
}

func newDomain(o Options, c container) *Domain {
	return &Domain{options: o, container: c, groups: map[int]*member{}, functions: map[string]*Function{}}
}

// MapGuest lets all functions, those of later too, read and write the regions. The
// kernel pins their memory. Without a function yet it only takes note, and the first
// Open says whether the IOMMU reaches them: an error that wraps ErrReach.
// Preconditions: the memory stays mapped until Close.
func (d *Domain) MapGuest(regions []Region) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.container == nil {
		return fmt.Errorf("%w: %w", ErrDomain, errClosed)
	}
	all := slices.Concat(d.guest, regions)
	if err := checkRegions(all); err != nil {
		return fmt.Errorf("%w: %w", ErrDomain, err)
	}
	if d.space != nil {
		info, err := d.container.info()
		if err == nil {
			err = info.takes(regions)
		}
		if err == nil {
			err = d.mapAll(regions)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDomain, err)
		}
	}
	d.guest = all
	return nil
}

var errClosed = errors.New("it is closed")

// checkRegions refuses regions that are not whole pages, overlap, or lie in the
// window of buffers.
func checkRegions(regions []Region) error {
	if len(regions) > maxRegions {
		return fmt.Errorf("%d regions, at most %d", len(regions), maxRegions)
	}
	taken := []span{{windowStart, windowEnd}}
	for _, r := range regions {
		n := uint64(len(r.Memory))
		if n == 0 || (r.IOVA|n|uint64(sys.AddressOf(r.Memory)))%pageSize != 0 {
			return fmt.Errorf("%#x+%#x is not whole pages", r.IOVA, n)
		}
		s := span{r.IOVA, r.IOVA + n}
		if s.last() < s.start {
			return fmt.Errorf("%#x+%#x is beyond the last address", r.IOVA, n)
		}
		for _, t := range taken {
			if s.overlaps(t) {
				return fmt.Errorf("%#x+%#x overlaps what is at %#x", r.IOVA, n, t.start)
			}
		}
		taken = append(taken, s)
	}
	return nil
}

// takes tells whether an IOMMU can map the regions.
func (i *iommuInfo) takes(regions []Region) error {
	// The smallest page counts: larger ones would be mapped with a neighbour.
	if i.pageSizes&(2*pageSize-1) == 0 {
		return fmt.Errorf("%w: its pages are too large (%#x)", ErrReach, i.pageSizes)
	}
	if i.limited && uint64(i.available) < uint64(len(regions)) {
		return fmt.Errorf("%w: it takes %d more mappings, guest memory needs %d", ErrReach, i.available, len(regions))
	}
	for _, r := range regions {
		s := span{r.IOVA, r.IOVA + uint64(len(r.Memory))}
		if i.ranges != nil && !slices.ContainsFunc(i.ranges, func(have span) bool { return have.holds(s) }) {
			return fmt.Errorf("%w: guest memory from %#x to %#x; functions can use%s", ErrReach, s.start, s.last(), describe(i.ranges))
		}
	}
	return nil
}

// describe lists the first few of some ranges.
func describe(ranges []span) string {
	const most = 8
	var text strings.Builder
	for _, r := range ranges[:min(len(ranges), most)] {
		fmt.Fprintf(&text, " %#x-%#x", r.start, r.last())
	}
	if len(ranges) > most {
		text.WriteString(" ...")
	}
	return text.String()
}

// mapAll maps all of the regions or none.
func (d *Domain) mapAll(regions []Region) error {
	for i, r := range regions {
		if err := d.container.mapDMA(r.IOVA, r.Memory); err != nil {
			for _, done := range regions[:i] {
				_ = d.container.unmapDMA(done.IOVA, uint64(len(done.Memory)))
			}
			return explain(err)
		}
	}
	return nil
}

// explain adds to an error of the kernel what it stands for.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("no memory, or RLIMIT_MEMLOCK without CAP_IPC_LOCK: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("no interrupt remapping before it (allow_unsafe_interrupts of vfio_iommu_type1): %w", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("no mapping left (dma_entry_limit of vfio_iommu_type1): %w", err)
	}
	return err
}

// Open takes a function over and lets it reach what is mapped. It is bound to
// vfio-pci and stays so after its Close. The error wraps ErrNoIOMMU where nothing
// confines it, ErrGroup where its IOMMU group has others, ErrBusy where another
// driver has it, ErrReach where guest memory does not fit in its IOMMU's addresses.
func (d *Domain) Open(address string, o OpenOptions) (*Function, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.open(address, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrOpen, address, err)
	}
	return f, nil
}

func (d *Domain) open(address string, o OpenOptions) (*Function, error) {
	if d.container == nil {
		return nil, errClosed
	}
	open := func(address string) bool { return d.functions[address] != nil }
	if open(address) {
		return nil, ErrBusy
	}
	number, err := d.options.Machine.take(address, o, open)
	if err != nil {
		return nil, err
	}
	g, err := d.join(number)
	if err != nil {
		return nil, err
	}
	dev, err := g.device(address)
	if err != nil {
		return nil, errors.Join(err, d.part(number))
	}
	f, err := newFunction(d, dev, address, number)
	if err != nil {
		return nil, errors.Join(err, dev.close(), d.part(number))
	}
	d.functions[address] = f
	return f, nil
}

// join adds a user to a group, which comes into the container with the first one.
func (d *Domain) join(number int) (group, error) {
	if m := d.groups[number]; m != nil {
		m.users++
		return m, nil
	}
	g, err := d.container.join(number)
	if err != nil {
		return nil, explain(err)
	}
	d.groups[number] = &member{g, 1}
	if err := d.joined(); err != nil {
		return nil, errors.Join(err, d.part(number))
	}
	return g, nil
}

// joined looks at the IOMMU anew, because a group may bring one of its own, and maps
// guest memory when this group is the first.
func (d *Domain) joined() error {
	info, err := d.container.info()
	if err != nil {
		return err
	}
	if d.space != nil {
		d.space.allow(info.ranges)
		info.limited = false // guest memory is mapped
		return info.takes(d.guest)
	}
	if err := info.takes(d.guest); err != nil {
		return err
	}
	if err := d.mapAll(d.guest); err != nil {
		return err
	}
	d.space = newSpace(span{windowStart, windowEnd}, info.ranges)
	return nil
}

// part takes a user from a group, which leaves with the last one.
func (d *Domain) part(number int) error {
	m := d.groups[number]
	if m.users--; m.users > 0 {
		return nil
	}
	delete(d.groups, number)
	if len(d.groups) == 0 {
		d.space = nil // the kernel forgets all mappings with the last group
	}
	return m.leave()
}

// allocate makes a buffer and maps it.
func (d *Domain) allocate(size uint64) (Region, error) {
	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return Region{}, err
	}
	// A child process would share the pages until the first write, which then
	// moves this process, not the device, to a copy.
	err = unix.Madvise(memory, unix.MADV_DONTFORK)
	if err == nil {
		var r Region
		if r, err = d.place(memory); err == nil {
			return r, nil
		}
	}
	return Region{}, errors.Join(err, unix.Munmap(memory))
}

// place finds an address for memory and maps it there.
func (d *Domain) place(memory []byte) (Region, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.space == nil {
		return Region{}, errClosed
	}
	iova, ok := d.space.take(uint64(len(memory)))
	if !ok {
		return Region{}, fmt.Errorf("no DMA addresses left: %w", unix.ENOSPC)
	}
	if err := d.container.mapDMA(iova, memory); err != nil {
		d.space.give(iova)
		return Region{}, explain(err)
	}
	return Region{iova, memory}, nil
}

// release ends what a function had of the domain. The function is closed and
// reaches nothing any more.
func (d *Domain) release(f *Function, buffers []Region) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, b := range buffers {
		if err := d.container.unmapDMA(b.IOVA, uint64(len(b.Memory))); err != nil {
			// Still mapped: neither the address nor the memory may be used again.
			errs = append(errs, err)
			continue
		}
		d.space.give(b.IOVA)
		errs = append(errs, unix.Munmap(b.Memory))
	}
	delete(d.functions, f.id.Address)
	return errors.Join(append(errs, d.part(f.group))...)
}

// Close closes all functions and ends the address space.
// Preconditions: no buffer of a function is used any more.
func (d *Domain) Close() error {
	d.mu.Lock()
	open := slices.SortedFunc(maps.Values(d.functions), func(a, b *Function) int { return cmp.Compare(a.id.Address, b.id.Address) })
	d.mu.Unlock()
	var errs []error
	for _, f := range open {
		errs = append(errs, f.Close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.container == nil {
		return errors.Join(errs...)
	}
	if len(d.functions) > 0 {
		return fmt.Errorf("%w: a function was opened meanwhile", ErrDomain)
	}
	errs = append(errs, d.container.close())
	d.container = nil
	return errors.Join(errs...)
}
