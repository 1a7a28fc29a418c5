package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// ReadAttributes is TDG.MEM.PAGE.ATTR.RD: the page at an address, its level, and each
// VM's attributes of it (ABI, that leaf). Bits 11:0 of the address are ignored.
func (t *TD) ReadAttributes(rcx uint64) Result {
	r := t.readAttributes(rcx)
	t.stats.result(r)
	return r
}

func (t *TD) readAttributes(rcx uint64) Result {
	gpa := x86.GPA(rcx)
	if !t.private(gpa) {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	}
	if t.covered(gpa) {
		g := t.lock(gpa)
		defer g.mu.Unlock()
	}
	e, at := t.walk(gpa, tdx.LEVEL_4K)
	if !e.accessible() && !e.acceptable() {
		return Result{GPA: gpa &^ (x86.PageSize - 1), Fault: Fault{Kind: FaultHost}}
	}
	r := Result{RCX: uint64(gpa&^(1<<shiftOf(at)-1)) | uint64(at) | pendingBit(e)}
	for vm := 1; vm <= t.config.VMs; vm++ {
		if e.aliased(vm) {
			r.RDX |= shifted(e.attributes(vm)|tdx.GPA_ATTR_VALID, vm)
		}
	}
	return r
}

// WriteAttributes is TDG.MEM.PAGE.ATTR.WR: it sets, by the bits of a mask, what the L2
// VMs may do with a page. A VM gets or loses its alias of the page when the first of R,
// W, Xs and Xu is set or the last is cleared (ABI, that leaf; TD Partitioning, "L2 Page
// Attributes"). RDX returns the attributes of the VMs that were written, and 0 of others.
func (t *TD) WriteAttributes(rcx, rdx, r8 uint64) Result {
	r := t.writeAttributes(rcx, rdx, r8)
	t.stats.result(r)
	return r
}

func (t *TD) writeAttributes(rcx, rdx, r8 uint64) Result {
	if operand, ok := t.checkAttributeOperands(rdx, r8); !ok {
		return failed(tdx.STATUS_OPERAND_INVALID, operand)
	}
	gpa, level, ok := t.pageInfo(rcx, tdx.LEVEL_4K, tdx.LEVEL_1G)
	if !ok {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	}
	if !t.covered(gpa) {
		return violation(gpa, level, 0, tdx.LEVEL_1G, tdx.EEQ_ATTR_WR)
	}
	g := t.lock(gpa)
	defer g.mu.Unlock()
	e, at := t.walk(gpa, level)
	switch {
	case at != level:
		return violation(gpa, level, e, at, tdx.EEQ_ATTR_WR)
	case e&table != 0:
		return failed(tdx.STATUS_PAGE_SIZE_MISMATCH, uint64(at))
	case !e.accessible() && !e.acceptable():
		return violation(gpa, level, e, at, tdx.EEQ_ATTR_WR)
	}
	next, out, legal := t.combine(e, rdx, r8)
	if !legal {
		return Result{Status: tdx.STATUS_PAGE_ATTR_INVALID, RDX: out}
	}
	t.store(gpa, at, next)
	return Result{RCX: rcx | pendingBit(e), RDX: out}
}

// checkAttributeOperands wants nothing for L1 and for VMs that do not exist, and no
// attribute without VALID.
func (t *TD) checkAttributeOperands(rdx, r8 uint64) (operand uint64, ok bool) {
	for vm := range tdx.VMS {
		attributes, mask := partOf(rdx, vm), partOf(r8, vm)
		exists := vm != tdx.VM_L1 && vm <= t.config.VMs
		switch {
		case !exists && attributes != 0, attributes != 0 && attributes&tdx.GPA_ATTR_VALID == 0:
			return tdx.OPERAND_RDX, false
		case !exists && mask != 0:
			return tdx.OPERAND_R8, false
		}
	}
	return 0, true
}

// combine works out an entry's new attributes and what RDX returns. If those of one VM
// are illegal, RDX returns the current ones of the VMs at fault.
func (t *TD) combine(e entry, rdx, r8 uint64) (next entry, out uint64, legal bool) {
	next, out, legal = e, rdx, true
	for vm := 1; vm <= t.config.VMs; vm++ {
		mask := partOf(r8, vm) | tdx.GPA_ATTR_VALID // in the mask that bit is INVEPT
		wanted := partOf(rdx, vm) & mask
		if wanted&tdx.GPA_ATTR_VALID == 0 {
			continue
		}
		current := uint16(0)
		if e.aliased(vm) {
			current = e.attributes(vm) | tdx.GPA_ATTR_VALID
			wanted |= current &^ mask
		}
		switch {
		case wanted&tdx.GPA_ATTR_PRESENT == 0 && current == 0:
			continue // no alias, and none wanted
		case wanted&tdx.GPA_ATTR_PRESENT == 0:
			wanted = tdx.GPA_ATTR_VALID
		case !legalAttributes(wanted):
			legal, wanted = false, current
		}
		out = out&^shifted(0xffff, vm) | shifted(wanted, vm)
		next = next.with(vm, wanted)
	}
	return next, out, legal
}

// legalAttributes: nothing reserved, no writing and no paging-write access without
// reading, and no SVE.
func legalAttributes(a uint16) bool {
	if a&(tdx.GPA_ATTR_RESERVED|tdx.GPA_ATTR_SVE) != 0 {
		return false
	}
	return a&tdx.GPA_ATTR_R != 0 || a&(tdx.GPA_ATTR_W|tdx.GPA_ATTR_PWA) == 0
}

// partOf returns a VM's sixteen bits of a GPA_ATTR, shifted puts them there.
func partOf(word uint64, vm int) uint16 { return uint16(word >> (uint(vm) * tdx.GPA_ATTR_BITS)) }

func shifted(part uint16, vm int) uint64 { return uint64(part) << (uint(vm) * tdx.GPA_ATTR_BITS) }

func pendingBit(e entry) uint64 {
	if e&pending != 0 {
		return tdx.PAGE_PENDING
	}
	return 0
}
