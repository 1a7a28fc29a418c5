package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Level is the size of a page or of what an entry covers: tdx.LEVEL_4K, LEVEL_2M or
// LEVEL_1G.
type Level uint8

// shiftOf turns an address into the number of its page of a level.
func shiftOf(l Level) uint { return x86.PageShift + 9*uint(l) }

// entry is one entry of the secure EPT, with those of the L2 page tables for the same
// page (Base Architecture, "Secure EPT Entry"; TD Partitioning, "L2 SEPT"). Zero is
// SEPT_FREE. Host addresses are missing: every page is backed by the page of the same
// number.
type entry uint32

const (
	present entry = 1 << 0 // a page is mapped here, the host's word
	pending entry = 1 << 1 // and L1 has not accepted it
	blocked entry = 1 << 2 // and the host is taking it away
	table   entry = 1 << 3 // not a leaf: 512 entries of the next level count

	// The attributes of L2 VMs 1 to 3, seven bits each, in the order of GPA_ATTR. A VM
	// has an alias of the page as long as one of R, W, Xs and Xu is set.
	attributeShift = 8
	attributeBits  = 7
	attributeMask  = entry(1<<attributeBits - 1)
	attributesAll  = (1<<(tdx.L2_VMS*attributeBits) - 1) << attributeShift
)

// attributes returns those of an L2 VM. Preconditions: 0 < vm <= tdx.L2_VMS.
func (e entry) attributes(vm int) uint16 {
	return uint16(e >> attributesAt(vm) & attributeMask)
}

// with returns the entry with other attributes of an L2 VM, likewise.
func (e entry) with(vm int, a uint16) entry {
	return e&^(attributeMask<<attributesAt(vm)) | entry(a)&attributeMask<<attributesAt(vm)
}

func attributesAt(vm int) uint { return attributeShift + uint(vm-1)*attributeBits }

// aliased tells whether an L2 VM has the page.
func (e entry) aliased(vm int) bool { return e.attributes(vm)&tdx.GPA_ATTR_PRESENT != 0 }

// accessible is a leaf that the TD can use: the state MAPPED.
func (e entry) accessible() bool { return e&(present|pending|blocked) == present }

// acceptable is a leaf that waits for L1: the state PENDING.
func (e entry) acceptable() bool { return e&(present|pending|blocked) == present|pending }

// free is the state FREE.
func (e entry) free() bool { return e&(present|table) == 0 }

// state is the entry's state as the host sees it (ABI, "SEPT Entry Details").
func (e entry) state() uint64 {
	switch {
	case e&table != 0 && e&blocked != 0:
		return tdx.SEPT_NL_BLOCKED
	case e&table != 0:
		return tdx.SEPT_NL_MAPPED
	case e&present == 0:
		return tdx.SEPT_FREE
	case e&pending != 0 && e&blocked != 0:
		return tdx.SEPT_PENDING_BLOCKED
	case e&pending != 0:
		return tdx.SEPT_PENDING
	case e&blocked != 0:
		return tdx.SEPT_BLOCKED
	}
	return tdx.SEPT_MAPPED
}

// rwx are bits 3 to 5 of an exit qualification: what the entry lets L1 do.
func (e entry) rwx() uint64 {
	if e.accessible() || e&(table|blocked) == table {
		return tdx.EPT_READABLE | tdx.EPT_WRITABLE | tdx.EPT_EXECUTABLE
	}
	return 0
}

// covered tells whether an address lies in the TD's memory.
func (t *TD) covered(gpa x86.GPA) bool { return uint64(gpa)>>x86.PageShift < uint64(len(t.pages)) }

// walk goes down to an address's entry: to the level wanted, or to where a leaf, a free
// or a blocked entry ends the way. Beyond the TD's memory everything is free.
//
// Without the lock the entry is one that was true at some moment of the call, also when a
// writer changes the size of a page meanwhile: pages are joined, split and removed only
// while they are blocked, and what a split puts into the lower entries held for the whole
// page before the block. Only the level may be early.
func (t *TD) walk(gpa x86.GPA, to Level) (entry, Level) {
	if !t.covered(gpa) {
		return 0, tdx.LEVEL_1G
	}
	e := entry(t.giants[gpa>>shiftOf(tdx.LEVEL_1G)].word.Load())
	if to == tdx.LEVEL_1G || !e.passable() {
		return e, tdx.LEVEL_1G
	}
	e = entry(t.regions[gpa>>shiftOf(tdx.LEVEL_2M)].Load())
	if to == tdx.LEVEL_2M || !e.passable() {
		return e, tdx.LEVEL_2M
	}
	return entry(t.pages[gpa>>x86.PageShift].Load()), tdx.LEVEL_4K
}

// passable tells whether a walk goes on below the entry.
func (e entry) passable() bool { return e&(table|blocked) == table }

// lock takes the 1 GiB around an address for writing. Preconditions: covered.
func (t *TD) lock(gpa x86.GPA) *giant {
	g := &t.giants[gpa>>shiftOf(tdx.LEVEL_1G)]
	g.mu.Lock()
	return g
}

// store writes the entry of an address at a level. Preconditions: locked.
func (t *TD) store(gpa x86.GPA, at Level, e entry) {
	switch at {
	case tdx.LEVEL_1G:
		t.giants[gpa>>shiftOf(at)].word.Store(uint32(e))
	case tdx.LEVEL_2M:
		t.regions[gpa>>shiftOf(at)].Store(uint32(e))
	default:
		t.pages[gpa>>shiftOf(at)].Store(uint32(e))
	}
}

// beneath returns the 512 entries, fewer at the end of the memory, under one of 2 MiB
// or 1 GiB.
func (t *TD) beneath(gpa x86.GPA, at Level) []atomicWord {
	first := int(gpa>>shiftOf(at)) << 9
	lower := t.pages
	if at == tdx.LEVEL_1G {
		lower = t.regions
	}
	return lower[first:min(first+512, len(lower))]
}

// Page is what the table says about an address, for state trees and tests.
type Page struct {
	Level      Level
	State      uint64 // tdx.SEPT_MAPPED and so on
	Attributes [tdx.VMS]uint16
}

// Page returns the entry at which the walk to an address ends.
func (t *TD) Page(gpa x86.GPA) Page {
	e, at := t.walk(gpa, tdx.LEVEL_4K)
	p := Page{Level: at, State: e.state()}
	for vm := 1; vm < tdx.VMS; vm++ {
		p.Attributes[vm] = e.attributes(vm)
	}
	return p
}
