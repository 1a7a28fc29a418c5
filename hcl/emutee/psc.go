package emutee

import (
	"encoding/binary"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// PageStateChanges does what an honest host does with the structure of a page
// state change event (GHCB, "SNP Page State Change"): it works through the entries
// from the current to the last, and stores how far it has come. It returns zero,
// or the error that the host puts into SW_EXITINFO2; the current entry is then the
// one that failed. area is the host's copy of the structure.
func (r *RMP) PageStateChanges(area []byte) uint64 {
	if len(area) < snp.PSC_ENTRIES {
		return snp.PSC_ERROR_INVALID_HDR
	}
	le := binary.LittleEndian
	current, last := int(le.Uint16(area[snp.PSC_CUR_ENTRY:])), int(le.Uint16(area[snp.PSC_END_ENTRY:]))
	entries := min(snp.PSC_MAX_ENTRIES, (len(area)-snp.PSC_ENTRIES)/snp.PSC_ENTRY_SIZE)
	if last >= entries {
		return snp.PSC_ERROR_INVALID_HDR
	}
	for ; current <= last; current++ {
		le.PutUint16(area[snp.PSC_CUR_ENTRY:], uint16(current))
		entry := le.Uint64(area[snp.PSC_ENTRIES+current*snp.PSC_ENTRY_SIZE:])
		if code := r.PageStateChange(entry); code != 0 {
			return code
		}
	}
	le.PutUint16(area[snp.PSC_CUR_ENTRY:], uint16(current))
	return 0
}

// PageStateChange does what an honest host does with one entry of a guest's page
// state change request (GHCB, "SNP Page State Change"): it returns zero, or the
// error that the host puts into SW_EXITINFO2.
func (r *RMP) PageStateChange(change uint64) uint64 {
	gpa := x86.GPA(change >> snp.PSC_GFN_SHIFT & snp.PSC_GFN_MASK << x86.PageShift)
	size := PageSize(snp.RMP_PG_SIZE_4K)
	if change&snp.PSC_SIZE_2M != 0 {
		size = snp.RMP_PG_SIZE_2M
	}
	if change&snp.PSC_CUR_PAGE_MASK != 0 || !aligned(gpa, size) || !r.covered(gpa) {
		return snp.PSC_ERROR_INVALID_ENTRY
	}
	code := uint32(snp.RMP_SUCCESS)
	switch change >> snp.PSC_OP_SHIFT & snp.PSC_OP_MASK {
	case snp.PSC_OP_PRIVATE:
		code = r.assign(gpa, size, OwnerGuest)
	case snp.PSC_OP_SHARED:
		code = r.assign(gpa, size, OwnerHost)
	case snp.PSC_OP_PSMASH: // this and the next are hints, and may fail
		r.PSmash(gpa)
	case snp.PSC_OP_UNSMASH:
		r.Unsmash(gpa)
	default:
		return snp.PSC_ERROR_INVALID_ENTRY
	}
	if code != snp.RMP_SUCCESS {
		return snp.PSC_ERROR_GENERIC
	}
	return 0
}

// assign gives a page or a region to an owner whatever its size was, splitting
// where it must.
func (r *RMP) assign(gpa x86.GPA, size PageSize, to Owner) uint32 {
	code := r.RMPUpdate(gpa, size, to)
	if code != snp.RMP_FAIL_OVERLAP {
		return code
	}
	if size == snp.RMP_PG_SIZE_4K {
		r.PSmash(gpa &^ (x86.LargePageSize - 1))
		return r.RMPUpdate(gpa, size, to)
	}
	for i := range x86.GPA(pagesPerRegion) {
		if code := r.RMPUpdate(gpa+i<<x86.PageShift, snp.RMP_PG_SIZE_4K, to); code != snp.RMP_SUCCESS {
			return code
		}
	}
	return snp.RMP_SUCCESS
}
