package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Owner says whom the host gives a page (§15.36.5, table 15-35).
type Owner uint8

// The owners.
const (
	OwnerHost     Owner = iota
	OwnerGuest          // Assigned, with the guest's ASID
	OwnerFirmware       // Assigned and Immutable: the AMD-SP's
)

// fresh is the entry of a page that an owner has just got: VMPL0 has all
// permissions, the others none, nothing is validated (§15.36.7).
func fresh(o Owner) entry {
	switch o {
	case OwnerGuest:
		return assigned
	case OwnerFirmware:
		return assigned | immutable
	case OwnerHost:
	}
	return 0
}

// RMPUpdate is the host's instruction RMPUPDATE: it gives a page an owner (vol. 3,
// "RMPUPDATE"). What the guest has validated or permitted is forgotten, unless
// owner and size stay as they were. It returns a code of snp.RMP_SUCCESS and so
// on.
func (r *RMP) RMPUpdate(gpa x86.GPA, size PageSize, to Owner) uint32 {
	return r.stats.host(r.rmpupdate(gpa, size, to))
}

func (r *RMP) rmpupdate(gpa x86.GPA, size PageSize, to Owner) uint32 {
	if !aligned(gpa, size) || to > OwnerFirmware || !r.covered(gpa) {
		return snp.RMP_FAIL_INPUT
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	old := r.lookup(gpa)
	switch {
	case old&immutable != 0:
		return snp.RMP_FAIL_PERMISSION
	case old&inUse != 0:
		return snp.RMP_FAIL_INUSE
	case size == snp.RMP_PG_SIZE_4K:
		return r.updateSmall(g, gpa, old, fresh(to))
	}
	return r.updateLarge(g, gpa, old, fresh(to))
}

func (r *RMP) updateSmall(g *region, gpa x86.GPA, old, e entry) uint32 {
	if old&large != 0 {
		return snp.RMP_FAIL_OVERLAP // split it first
	}
	if old&(assigned|immutable) != e {
		r.store(g, gpa, e)
	}
	return snp.RMP_SUCCESS
}

// updateLarge gives away a whole region. What the host takes back has no size
// any more.
func (r *RMP) updateLarge(g *region, gpa x86.GPA, old, e entry) uint32 {
	if old&large == 0 {
		for i := range r.own(gpa) {
			if entry(r.own(gpa)[i].Load())&assigned != 0 {
				return snp.RMP_FAIL_OVERLAP
			}
		}
		if e&assigned != 0 {
			g.word.Store(uint32(e | large))
		}
		return snp.RMP_SUCCESS
	}
	switch {
	case e&assigned == 0:
		r.split(g, gpa, e)
	case old&(assigned|immutable) != e:
		g.word.Store(uint32(e | large))
	}
	return snp.RMP_SUCCESS
}

// PSmash is the host's instruction PSMASH: it splits a 2 MiB entry into 512 that
// say the same (§15.36.11). It returns a code of snp.RMP_SUCCESS and so on.
func (r *RMP) PSmash(gpa x86.GPA) uint32 { return r.stats.host(r.psmash(gpa)) }

func (r *RMP) psmash(gpa x86.GPA) uint32 {
	if gpa&(x86.LargePageSize-1) != 0 || !r.covered(gpa) {
		return snp.RMP_FAIL_INPUT
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := entry(g.word.Load())
	if e&(large|immutable) != large {
		return snp.RMP_FAIL_BADADDR
	}
	r.split(g, gpa, e&^large)
	return snp.RMP_SUCCESS
}
