// Package emutee is an emulated SEV-SNP machine: the table that says who owns
// which page and what each privilege level may do with it (RMP), the
// instructions on that table, and the page from which a VP is run (VMSA). It
// decides what hardware would decide and touches no guest memory, so that the
// backend for real hardware can run over it unchanged.
//
// Where the manuals leave a choice, or speak of retries, this machine takes the
// stricter side, so that code which runs here does not rely on luck:
//   - a VMSA in use refuses all accesses and instructions of the guest with an
//     exit, after which a host lets the guest try again (§15.36.10), and those of
//     the host with FAIL_INUSE (§15.36.12);
//   - RMPADJUST refuses reserved permission bits with FAIL_INPUT;
//   - RMPQUERY wants a validated page, and lets a VMPL ask about itself;
//   - a VP runs only from a VMSA whose entry is of 4 KiB;
//   - RMPUPDATE with the owner and size that a page has changes nothing.
//
// Specifications: AMD64 Architecture Programmer's Manual (APM) vol. 2 §15.34 to
// §15.36 and appendices B and C, vol. 3 on PVALIDATE, RMPADJUST, RMPQUERY,
// RMPUPDATE and PSMASH; SEV-SNP Firmware ABI (56860).
package emutee

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// ErrSize says that a machine of this memory size cannot be made.
var ErrSize = errors.New("emulated SNP machine")

// maxMemory bounds the table: 4 bytes a page, so 1 GiB at this size.
const maxMemory = 1 << 40

// pagesPerRegion is how many pages a 2 MiB entry covers.
const pagesPerRegion = x86.LargePageSize / x86.PageSize

// regionShift turns an address into the number of its 2 MiB region.
const regionShift = 21

// entry is one RMP entry, packed (APM vol. 2 table 15-34). The guest-physical
// address and the ASID are missing: this machine has one guest, and backs every
// guest page with the system page of the same number, so that Reverse-Map and
// Guest-Owned hold wherever Assigned does.
type entry uint32

const (
	assigned  entry = 1 << 0
	validated entry = 1 << 1
	large     entry = 1 << 2 // Page_Size is 2 MiB: the region's word holds the state
	vmsaPage  entry = 1 << 3
	inUse     entry = 1 << 4 // a VP runs from this VMSA (§15.36.12)
	immutable entry = 1 << 5

	// The permissions of VMPL1, 2 and 3, five bits each. VMPL0 has all, and
	// nothing can take them from it (§15.36.7).
	permShift = 8
	permMask  = entry(1<<snp.RMP_BITS - 1)
	permsAll  = (1<<(3*snp.RMP_BITS) - 1) << permShift
)

// permissions returns what a VMPL may do. Preconditions: vmpl < snp.VMPLS.
func (e entry) permissions(vmpl uint8) uint8 {
	if vmpl == snp.VMPL0 {
		return snp.RMP_ALL
	}
	return uint8(e >> shiftOf(vmpl) & permMask)
}

// with returns the entry with other permissions for a VMPL.
// Preconditions: 0 < vmpl < snp.VMPLS.
func (e entry) with(vmpl, permissions uint8) entry {
	return e&^(permMask<<shiftOf(vmpl)) | entry(permissions)&permMask<<shiftOf(vmpl)
}

func shiftOf(vmpl uint8) uint { return permShift + uint(vmpl-1)*snp.RMP_BITS }

// usable is the part of Table 15-39 that every private access, and every
// instruction on the RMP, checks first: Guest-Owned, Reverse-Map and Mutable. A
// VMSA in use belongs to the processor that runs it.
func (e entry) usable() bool { return e&(assigned|immutable|inUse) == assigned }

// region is 2 MiB of guest memory. While its word has the large bit, the word is
// the entry of all 512 pages and their own words mean nothing; else each page has
// its own.
type region struct {
	mu   sync.Mutex // orders writers; readers take no lock
	word atomic.Uint32
}

// RMP is the reverse map table of the emulated machine. All methods may be
// called from any thread. Check takes no lock, and no method allocates.
type RMP struct {
	pages   []atomic.Uint32
	regions []region
	sss     bool
	stats   counters
}

// NewRMP makes the table of a guest with so much memory, in bytes, a multiple of
// 2 MiB. All pages belong to the host. It costs 4 bytes a page, of which the
// kernel provides only what is written. vmplSSS turns the VMPL SSS feature on
// (§15.36.7).
func NewRMP(memory uint64, vmplSSS bool) (*RMP, error) {
	if memory == 0 || memory%x86.LargePageSize != 0 || memory > maxMemory {
		return nil, fmt.Errorf("%w: memory of %#x bytes: use a multiple of 2 MiB up to 1 TiB", ErrSize, memory)
	}
	return &RMP{
		pages:   make([]atomic.Uint32, memory>>x86.PageShift),
		regions: make([]region, memory>>regionShift),
		sss:     vmplSSS,
	}, nil
}

// covered is RMP-Covered of §15.36.10.
func (r *RMP) covered(gpa x86.GPA) bool { return uint64(gpa)>>x86.PageShift < uint64(len(r.pages)) }

// lookup reads the entry of a page. Preconditions: covered. The second look at
// the region makes the answer one that was true at some moment of the call, also
// when a writer changes the region's size meanwhile: such a writer prepares the
// pages' words while the region still counts as large.
func (r *RMP) lookup(gpa x86.GPA) entry {
	g := &r.regions[gpa>>regionShift]
	if e := entry(g.word.Load()); e&large != 0 {
		return e
	}
	page := entry(r.pages[gpa>>x86.PageShift].Load())
	if e := entry(g.word.Load()); e&large != 0 {
		return e
	}
	return page
}

// lock takes a page's region for writing. Preconditions: covered.
func (r *RMP) lock(gpa x86.GPA) *region {
	g := &r.regions[gpa>>regionShift]
	g.mu.Lock()
	return g
}

// store writes the entry of a page, or of its region where that is large.
// Preconditions: the region is locked and keeps its size.
func (r *RMP) store(g *region, gpa x86.GPA, e entry) {
	if e&large != 0 {
		g.word.Store(uint32(e))
		return
	}
	r.pages[gpa>>x86.PageShift].Store(uint32(e))
}

// own returns the words of a region's pages.
func (r *RMP) own(gpa x86.GPA) []atomic.Uint32 {
	first := gpa >> regionShift * pagesPerRegion
	return r.pages[first : first+pagesPerRegion]
}

// split gives every page of a large region the same entry of its own.
// Preconditions: the region is locked and large.
func (r *RMP) split(g *region, gpa x86.GPA, e entry) {
	pages := r.own(gpa)
	for i := range pages {
		pages[i].Store(uint32(e))
	}
	g.word.Store(0)
}

// Page is what the RMP says about a page, for state trees and tests.
type Page struct {
	Assigned, Validated, Large, VMSA, InUse, Immutable bool
	Permissions                                        [snp.VMPLS]uint8
}

// Page returns the entry of a page; false when the RMP does not cover it.
func (r *RMP) Page(gpa x86.GPA) (Page, bool) {
	if !r.covered(gpa) {
		return Page{}, false
	}
	e := r.lookup(gpa)
	p := Page{
		Assigned: e&assigned != 0, Validated: e&validated != 0, Large: e&large != 0,
		VMSA: e&vmsaPage != 0, InUse: e&inUse != 0, Immutable: e&immutable != 0,
	}
	for vmpl := range p.Permissions {
		p.Permissions[vmpl] = e.permissions(uint8(vmpl))
	}
	return p, true
}
