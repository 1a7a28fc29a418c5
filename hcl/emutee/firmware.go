package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Unsmash is the AMD-SP's command SNP_PAGE_UNSMASH: it makes one 2 MiB entry out
// of 512 that say the same (SNP firmware ABI, that command). It returns a status
// of snp.SP_SUCCESS and so on.
func (r *RMP) Unsmash(gpa x86.GPA) uint32 {
	if gpa&(x86.LargePageSize-1) != 0 || !r.covered(gpa) {
		return snp.SP_INVALID_ADDRESS
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	if entry(g.word.Load())&large != 0 {
		return snp.SP_INVALID_PAGE_SIZE
	}
	pages := r.own(gpa)
	first := pages[0].Load()
	if e := entry(first); !e.usable() || e&vmsaPage != 0 {
		return snp.SP_INVALID_PAGE_STATE
	}
	for i := range pages {
		if pages[i].Load() != first {
			return snp.SP_INVALID_PAGE_STATE
		}
	}
	g.word.Store(first | uint32(large))
	return snp.SP_SUCCESS
}

// Launch is what the AMD-SP does to the RMP for SNP_LAUNCH_UPDATE, and for the
// VMSAs of SNP_LAUNCH_FINISH: a page that the host has assigned becomes
// validated, with the permissions of VMPL1 to VMPL3 that the command names. It
// returns a status of snp.SP_SUCCESS and so on.
func (r *RMP) Launch(gpa x86.GPA, size PageSize, permissions [snp.VMPLS - 1]uint8, isVMSA bool) uint32 {
	if !aligned(gpa, size) || !r.covered(gpa) {
		return snp.SP_INVALID_ADDRESS
	}
	set := validated
	if isVMSA {
		set |= vmsaPage
	}
	for i, p := range permissions {
		if p&^snp.RMP_ALL != 0 {
			return snp.SP_INVALID_PARAM
		}
		set = set.with(uint8(i+1), p)
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := r.lookup(gpa)
	switch {
	case e&large != 0 != (size == snp.RMP_PG_SIZE_2M):
		return snp.SP_INVALID_PAGE_SIZE
	case !e.usable() || e&validated != 0:
		return snp.SP_INVALID_PAGE_STATE
	}
	r.store(g, gpa, e&^permsAll|set)
	return snp.SP_SUCCESS
}

// Reclaim is the AMD-SP's command SNP_PAGE_RECLAIM: a page of its own goes back
// to the host (SNP firmware ABI, that command). It returns a status of
// snp.SP_SUCCESS and so on.
func (r *RMP) Reclaim(gpa x86.GPA, size PageSize) uint32 {
	if !aligned(gpa, size) || !r.covered(gpa) {
		return snp.SP_INVALID_ADDRESS
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := r.lookup(gpa)
	switch {
	case e&large != 0 != (size == snp.RMP_PG_SIZE_2M):
		return snp.SP_INVALID_PAGE_SIZE
	case e&immutable == 0:
		return snp.SP_INVALID_PAGE_STATE
	case e&large != 0:
		r.split(g, gpa, 0)
	default:
		r.store(g, gpa, 0)
	}
	return snp.SP_SUCCESS
}
