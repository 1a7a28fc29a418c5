package tdx

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// cr0Owned are the bits of CR0 that the guest reads from the read shadow: the module does
// not let it have them (ABI, "L2 VMCS").
const cr0Owned = ^uint64(tdx.L2_CR0_WRITABLE)

// cr4Owned is the same for CR4. Bits of what the TD lacks are among them.
func (p *Partition) cr4Owned() uint64 {
	owned := ^uint64(tdx.L2_CR4_WRITABLE)
	for _, f := range [...]struct {
		bit uint64
		has bool
	}{
		{cr4KL, false},
		{cr4PKE, p.xfam&tdx.XFAM_PK != 0},
		{cr4CET, p.xfam&(tdx.XFAM_CET_S|tdx.XFAM_CET_U) == tdx.XFAM_CET_S|tdx.XFAM_CET_U},
		{cr4UINTR, p.xfam&tdx.XFAM_UINTR != 0},
		{cr4PKS, p.attributes&tdx.ATTRIBUTES_PKS != 0},
	} {
		if !f.has {
			owned |= f.bit
		}
	}
	return owned
}

// cr0, cr4 and efer read one register as the processor goes by it.
func (vp *VP) cr0() uint64 {
	if vp.known {
		return vp.special.CR0
	}
	return vp.get(tdx.VMCS_GUEST_CR0)&^cr0Owned | vp.get(tdx.VMCS_CR0_SHADOW)&cr0Owned
}

func (vp *VP) cr4() uint64 {
	if vp.known {
		return vp.special.CR4
	}
	owned := vp.p.cr4Owned()
	return vp.get(tdx.VMCS_GUEST_CR4)&^owned | vp.get(tdx.VMCS_CR4_SHADOW)&owned
}

func (vp *VP) efer() uint64 {
	if vp.known {
		return vp.special.EFER
	}
	return vp.get(tdx.VMCS_GUEST_EFER)
}

// fetch reads the control and segment registers out of the VMCS.
func (vp *VP) fetch() {
	if vp.known {
		return
	}
	s := &vp.special
	s.CR0, s.CR3, s.CR4, s.EFER = vp.cr0(), vp.get(tdx.VMCS_GUEST_CR3), vp.cr4(), vp.efer()
	for _, t := range tables(s) {
		t.table.Base, t.table.Limit = vp.get(t.base), uint16(vp.get(t.limit))
	}
	for i, g := range l2.Segments(s) {
		at := uint32(i) * tdx.VMCS_STEP
		*g = hcl.Segment{
			Base: vp.get(tdx.VMCS_GUEST_ES_BASE + at), Limit: uint32(vp.get(tdx.VMCS_GUEST_ES_LIMIT + at)),
			Selector: uint16(vp.get(tdx.VMCS_GUEST_ES_SELECTOR + at)), Attributes: uint32(vp.get(tdx.VMCS_GUEST_ES_AR + at)),
		}
	}
	vp.known = vp.failed == nil
}

// tableAt ties a descriptor table register to its fields.
type tableAt struct {
	table       *hcl.Table
	base, limit uint32
}

func tables(s *hcl.SpecialRegisters) [2]tableAt {
	return [...]tableAt{
		{&s.GDT, tdx.VMCS_GUEST_GDTR_BASE, tdx.VMCS_GUEST_GDTR_LIMIT},
		{&s.IDT, tdx.VMCS_GUEST_IDTR_BASE, tdx.VMCS_GUEST_IDTR_LIMIT},
	}
}

// store writes the registers that differ from those that were fetched. EFER.LMA follows
// from LME and CR0.PG.
// Preconditions: fetch.
func (vp *VP) store(s *hcl.SpecialRegisters) {
	vp.context.CR2 = s.CR2
	old := vp.special
	efer := s.EFER &^ eferLMA
	if efer&eferLME != 0 && s.CR0&cr0PG != 0 {
		efer |= eferLMA
	}
	translated := old.CR0 != s.CR0 || old.CR3 != s.CR3 || old.CR4 != s.CR4 || old.EFER != efer
	if old.EFER != efer {
		vp.nxe = efer&eferNXE != 0
		vp.setEFER(efer)
	}
	if old.CR0 != s.CR0 {
		vp.setCR0(s.CR0)
	}
	if old.CR4 != s.CR4 {
		vp.setCR4(s.CR4)
	}
	if old.CR3 != s.CR3 {
		vp.set(tdx.VMCS_GUEST_CR3, s.CR3)
		vp.special.CR3 = s.CR3
	}
	was, now := tables(&vp.special), tables(s)
	for i, t := range now {
		if *t.table == *was[i].table {
			continue
		}
		vp.set(t.base, t.table.Base)
		vp.set(t.limit, uint64(t.table.Limit))
		*was[i].table = *t.table
	}
	segments := l2.Segments(&vp.special)
	for i, g := range l2.Segments(s) {
		if *g != *segments[i] {
			vp.setSegment(uint32(i), g)
			*segments[i] = *g
		}
	}
	if !translated {
		return
	}
	vp.invalidate = tdx.INVALIDATE_INVVPID
	vp.loadPDPTEs()
}

func (vp *VP) setSegment(i uint32, g *hcl.Segment) {
	at := i * tdx.VMCS_STEP
	vp.set(tdx.VMCS_GUEST_ES_BASE+at, g.Base)
	vp.set(tdx.VMCS_GUEST_ES_LIMIT+at, uint64(g.Limit))
	vp.set(tdx.VMCS_GUEST_ES_SELECTOR+at, uint64(g.Selector))
	vp.set(tdx.VMCS_GUEST_ES_AR+at, uint64(g.Attributes))
}

// The registers of which the module or Keel owns bits. What the guest is to read of those
// goes to the read shadow.

func (vp *VP) setCR0(v uint64) {
	vp.put(tdx.VMCS_GUEST_CR0, v, tdx.L2_CR0_WRITABLE)
	vp.set(tdx.VMCS_CR0_SHADOW, v)
	vp.special.CR0 = v
}

func (vp *VP) setCR4(v uint64) {
	vp.put(tdx.VMCS_GUEST_CR4, v, ^vp.p.cr4Owned())
	vp.set(tdx.VMCS_CR4_SHADOW, v)
	vp.special.CR4 = v
}

// setEFER keeps LMA and the entry control "IA-32e mode guest" together.
func (vp *VP) setEFER(v uint64) {
	v = v&tdx.L2_EFER_WRITABLE | eferNXE
	vp.put(tdx.VMCS_GUEST_EFER, v, tdx.L2_EFER_WRITABLE)
	control := uint64(0)
	if v&eferLMA != 0 {
		control = tdx.ENTRY_IA32E
	}
	vp.put(tdx.VMCS_ENTRY_CONTROLS, control, tdx.ENTRY_IA32E)
	vp.special.EFER = v
}

// pdptes are the entries of a page-directory-pointer table, of 32-bit addresses with PAE.
const pdptes = 4

// pdpteReserved are their reserved bits (SDM vol. 3, "PAE Paging").
const pdpteReserved = 0xfff<<52 | 0xf<<5 | 3<<1

// loadPDPTEs loads the page-directory-pointer-table entries, which MOV to a control
// register reads and an entry takes from the VMCS. It returns false where the guest must
// get #GP.
func (vp *VP) loadPDPTEs() bool {
	if vp.cr0()&cr0PG == 0 || vp.cr4()&cr4PAE == 0 || vp.efer()&eferLMA != 0 {
		return true
	}
	cr3 := vp.special.CR3
	if !vp.known {
		cr3 = vp.get(tdx.VMCS_GUEST_CR3)
	}
	var b [8 * pdptes]byte
	ok, err := vp.p.read(x86.GPA(cr3&0xffffffe0), b[:])
	if err != nil && vp.failed == nil {
		vp.failed = err
	}
	if !ok {
		return false
	}
	var entries [pdptes]uint64
	for i := range entries {
		entries[i] = binary.LittleEndian.Uint64(b[8*i:])
		if entries[i]&1 != 0 && entries[i]&pdpteReserved != 0 {
			return false
		}
	}
	for i, e := range entries {
		vp.set(tdx.VMCS_GUEST_PDPTE_0+uint32(i)*tdx.VMCS_STEP, e)
	}
	return true
}
