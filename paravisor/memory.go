package paravisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/guestmem"
)

// hugePages is the kernel's count of persistent 2 MiB pages.
const hugePages = "/proc/sys/vm/nr_hugepages"

// settings of the kernel, which computes both from the VM's memory, most of which
// is the guest's.
var settings = []struct{ file, value string }{
	// Memory in KiB that is kept for emergencies.
	{"/proc/sys/vm/min_free_kbytes", "2048"},
	// The part of memory, one in so many, that CPUs may keep at hand. They kept
	// all that VTL2 had, and the kernel does not take it back from them before
	// it kills.
	{"/proc/sys/vm/percpu_pagelist_high_fraction", "1000000"},
}

// allocate reserves and maps the guest's memory. Large pages are worth a loud
// word when they cannot be had: without them the guest is slower and VTL2 needs
// more memory for its page structures.
func allocate(size uint64, log *slog.Logger) (mem *guestmem.Memory, granule int, err error) {
	for _, set := range settings {
		if err := os.WriteFile(set.file, []byte(set.value), 0); err != nil {
			log.Warn("the kernel keeps more memory than it needs", inspect.PublicAttr("error", err))
		}
	}
	want := size / x86.LargePageSize
	got, err := reserve(want)
	if err == nil && got == want {
		mem, err = guestmem.New(size, memoryLayout, true)
		if err == nil {
			return mem, x86.LargePageSize, nil
		}
	}
	log.Warn("guest memory without large pages", inspect.PublicAttr("wanted", want), inspect.PublicAttr("got", got), inspect.PublicAttr("error", err))
	if _, err := reserve(0); err != nil {
		log.Warn("cannot return large pages", inspect.PublicAttr("error", err))
	}
	if free, err := meminfo("MemAvailable"); err == nil && free < size+headroom {
		return nil, 0, tooLittle(size, free)
	}
	mem, err = guestmem.New(size, memoryLayout, false)
	if err != nil {
		return nil, 0, err
	}
	return mem, x86.PageSize, nil
}

func tooLittle(size, free uint64) error {
	return &handoff.Failure{
		Outcome: handoff.OutcomeTooLittleMemory,
		Cause:   fmt.Sprintf("the guest was promised %d MiB and the VM has %d MiB free", size>>20, free>>20),
		Remedy:  "give the VM more memory or the guest less (--mem)",
	}
}

// reserveStep is how many large pages are asked for at a time. The kernel frees
// the page structures behind large pages only after each request, and a VM has
// little memory to spare beside its guest's.
const reserveStep = 64

// headroom is what VTL2 keeps for itself at least, in bytes: a kernel without
// free memory kills the paravisor before that can say what is wrong.
const headroom = 4 << 20

// reserve asks the kernel for n large pages and returns how many it has.
func reserve(n uint64) (got uint64, err error) {
	for want := min(n, reserveStep); ; want = min(n, want+reserveStep) {
		free, err := meminfo("MemFree")
		if err != nil || want > got && free < (want-got)*x86.LargePageSize+headroom {
			return got, err
		}
		if got, err = persist(got, want, setHugePages); err != nil || got < want || want == n {
			return got, err
		}
	}
}

// persist asks for n large pages for as long as that brings more of them: the kernel
// stops early when a signal is pending, and Go's runtime preempts with signals.
func persist(got, n uint64, ask func(uint64) (uint64, error)) (uint64, error) {
	for {
		before := got
		var err error
		if got, err = ask(n); err != nil || got >= n || got <= before {
			return got, err
		}
	}
}

// setHugePages sets the kernel's count of large pages and reads what it became.
func setHugePages(n uint64) (uint64, error) {
	if err := os.WriteFile(hugePages, []byte(strconv.FormatUint(n, 10)), 0); err != nil {
		return 0, fmt.Errorf("reserving large pages: %w", err)
	}
	text, err := os.ReadFile(hugePages)
	if err != nil {
		return 0, fmt.Errorf("reserving large pages: %w", err)
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// errMeminfo says that the kernel's memory report lacks a line.
var errMeminfo = errors.New("/proc/meminfo")

// meminfo returns one line of the kernel's memory report, in bytes.
func meminfo(key string) (uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return parseMeminfo(string(text), key)
}

func parseMeminfo(text, key string) (uint64, error) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if name != key {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 54)
		if err != nil {
			return 0, fmt.Errorf("%w: %s: %w", errMeminfo, key, err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("%w: no %s", errMeminfo, key)
}

// usage watches how much memory VTL2 needs: all that the VM has, less what is
// free and what belongs to the guest.
type usage struct {
	total, guest uint64 // bytes
	used, peak   uint64 // at the last look, and ever
}

// sample returns the bytes in use now and keeps the peak.
func (u *usage) sample() uint64 {
	pages, err := sys.FreePages()
	if err != nil {
		return 0
	}
	free := pages * x86.PageSize
	if free+u.guest > u.total {
		return 0
	}
	u.used = u.total - u.guest - free
	u.peak = max(u.peak, u.used)
	return u.used
}
