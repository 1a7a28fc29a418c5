package emutee

import (
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// modelPages is how many pages the model has: two regions.
const modelPages = 2 * 512

// model says the same as RMP in the plainest way: one record a page, no packing,
// no sharing between the pages of a region.
type model struct {
	pages [modelPages]Page
}

func newModel() *model {
	m := new(model)
	for i := range m.pages {
		m.pages[i] = modelPage(false, false)
	}
	return m
}

func modelPage(assigned, firmware bool) Page {
	p := Page{Assigned: assigned || firmware, Immutable: firmware}
	p.Permissions[0] = 0x1f
	return p
}

// operand returns what an instruction works on: the page, or the 512 of a 2 MiB
// operand. bad tells that the operand itself is wrong; nil that the RMP does not
// reach there.
func (m *model) operand(gpa x86.GPA, size PageSize) (pages []Page, bad bool) {
	n := int(gpa >> 12)
	switch {
	case size > 1 || size == 1 && n%512 != 0:
		return nil, true
	case n >= modelPages:
		return nil, false
	case size == 1 || m.pages[n].Large:
		return m.pages[n/512*512 : n/512*512+512], false
	}
	return m.pages[n : n+1], false
}

// foreign tells whether the guest may not touch a page at all.
func foreign(p Page) bool { return !p.Assigned || p.Immutable || p.InUse }

// refuse is what PVALIDATE and RMPADJUST find before they look at the page.
func (m *model) refuse(gpa x86.GPA, size PageSize) (refusal Result, refused bool) {
	n := int(gpa >> 12)
	switch {
	case n >= modelPages || foreign(m.pages[n]):
		return Result{Fault: npf(0)}, true
	case size == 0 && m.pages[n].Large:
		return Result{Fault: npf(snp.NPF_SIZEM)}, true
	}
	return Result{}, false
}

func (m *model) pvalidate(vmpl uint8, gpa x86.GPA, size PageSize, to bool) Result {
	if vmpl > 0 {
		return Result{Fault: Fault{Kind: FaultGP}}
	}
	pages, bad := m.operand(gpa, size)
	if bad {
		return Result{Code: 1}
	}
	if r, no := m.refuse(gpa, size); no {
		return r
	}
	if size == 1 && !pages[0].Large {
		return Result{Code: 6}
	}
	if pages[0].Validated == to {
		return Result{Unchanged: true}
	}
	for i := range pages {
		pages[i].Validated = to
	}
	return Result{}
}

func (m *model) rmpadjust(vmpl uint8, gpa x86.GPA, size PageSize, target, perms uint8, save bool) Result {
	pages, bad := m.operand(gpa, size)
	if bad || target > 3 || perms > 0x1f {
		return Result{Code: 1}
	}
	if target <= vmpl {
		return Result{Code: 2}
	}
	if r, no := m.refuse(gpa, size); no {
		return r
	}
	if !pages[0].Validated {
		return Result{Fault: Fault{FaultVC, 0x404}}
	}
	if size == 1 && !pages[0].Large {
		return Result{Code: 6}
	}
	for bit := range 5 {
		if perms>>bit&1 == 1 && pages[0].Permissions[vmpl]>>bit&1 == 0 {
			return Result{Code: 2}
		}
	}
	for i := range pages {
		pages[i].Permissions[target] = perms
		if vmpl == 0 {
			pages[i].VMSA = save
		}
	}
	return Result{}
}

func (m *model) rmpupdate(gpa x86.GPA, size PageSize, to Owner) uint32 {
	pages, bad := m.operand(gpa, size)
	if bad || to > OwnerFirmware || pages == nil {
		return 1
	}
	first := m.pages[gpa>>12]
	switch {
	case first.Immutable:
		return 2
	case first.InUse:
		return 3
	case size == 0 && first.Large:
		return 4
	}
	if size == 1 && !first.Large {
		for _, p := range pages {
			if p.Assigned {
				return 4
			}
		}
	}
	next := modelPage(to == OwnerGuest, to == OwnerFirmware)
	next.Large = size == 1 && next.Assigned
	for i, p := range pages {
		if p.Assigned != next.Assigned || p.Immutable != next.Immutable || p.Large != next.Large {
			pages[i] = next
		}
	}
	return 0
}

func (m *model) psmash(gpa x86.GPA) uint32 {
	pages, bad := m.operand(gpa, 1)
	switch {
	case bad || pages == nil || gpa%4096 != 0:
		return 1
	case !pages[0].Large || pages[0].Immutable:
		return 7
	}
	for i := range pages {
		pages[i].Large = false
	}
	return 0
}

func (m *model) unsmash(gpa x86.GPA) uint32 {
	pages, bad := m.operand(gpa, 1)
	switch {
	case bad || pages == nil || gpa%4096 != 0:
		return snp.SP_INVALID_ADDRESS
	case pages[0].Large:
		return snp.SP_INVALID_PAGE_SIZE
	case foreign(pages[0]) || pages[0].VMSA:
		return snp.SP_INVALID_PAGE_STATE
	}
	for _, p := range pages {
		if p != pages[0] {
			return snp.SP_INVALID_PAGE_STATE
		}
	}
	for i := range pages {
		pages[i].Large = true
	}
	return snp.SP_SUCCESS
}

func (m *model) enter(gpa x86.GPA) bool {
	n := int(gpa >> 12)
	if gpa%4096 != 0 || n >= modelPages {
		return false
	}
	p := &m.pages[n]
	if foreign(*p) || p.Large || !p.VMSA {
		return false
	}
	p.InUse = true
	return true
}

// access is table 15-39 for a data access of private memory by a VMPL.
func (m *model) access(gpa x86.GPA, write bool, vmpl uint8) Fault {
	bits := uint64(0)
	if write {
		bits = snp.NPF_W
	}
	n := int(gpa >> 12)
	if n >= modelPages || foreign(m.pages[n]) {
		return npf(bits)
	}
	p := m.pages[n]
	if !p.Validated {
		return Fault{FaultVC, 0x404}
	}
	may := p.Permissions[vmpl]&1 != 0 && (!write || p.Permissions[vmpl]&2 != 0)
	if !may {
		return npf(bits | snp.NPF_VMPL)
	}
	return Fault{}
}

// stepSize is how many bytes of input make one operation.
const stepSize = 6

// step does one operation on both, compares the outcomes, and then an access.
func step(t *testing.T, r *RMP, m *model, b []byte) {
	t.Helper()
	n := (int(b[1]) | int(b[2])<<8) % (modelPages + 2)
	if b[3]&0x80 != 0 {
		n = n / 512 * 512 // so that 2 MiB operands are met often
	}
	gpa := x86.GPA(n) << 12
	size := PageSize(b[3] & 1)
	if b[3]&0x70 == 0x70 {
		size = PageSize(b[3] & 3)
	}
	vmpl, target := b[4]&3*(b[4]>>2&1), b[4]>>3&7
	perms := b[5] & 0x1f
	if b[5] == 0xff {
		perms = b[5]
	}
	flag := b[5]&0x40 != 0
	var got, want any
	switch b[0] % 9 {
	case 0, 1:
		got, want = r.PValidate(vmpl, gpa, size, b[5]&3 != 0), m.pvalidate(vmpl, gpa, size, b[5]&3 != 0)
	case 2, 3:
		got, want = r.RMPAdjust(vmpl, gpa, size, target, perms, flag), m.rmpadjust(vmpl, gpa, size, target, perms, flag)
	case 4:
		to := Owner(b[5] & 0xf) // mostly the guest
		if to > OwnerFirmware+1 {
			to = OwnerGuest
		}
		got, want = r.RMPUpdate(gpa, size, to), m.rmpupdate(gpa, size, to)
	case 5:
		got, want = r.PSmash(gpa), m.psmash(gpa)
	case 6:
		got, want = r.Unsmash(gpa), m.unsmash(gpa)
	case 7:
		got, want = r.EnterVMSA(gpa), m.enter(gpa)
	case 8:
		r.LeaveVMSA(gpa)
		if n < modelPages {
			m.pages[n].InUse = false
		}
	}
	if got != want {
		t.Fatalf("operation %d at %#x, size %d, VMPL %d: %+v, the model says %+v", b[0]%9, gpa, size, vmpl, got, want)
	}
	a := Access(0)
	if flag {
		a = Write
	}
	if f := r.Check(gpa, a, vmpl); f != m.access(gpa, flag, vmpl) {
		t.Fatalf("access %d at %#x, VMPL %d: %+v, the model says %+v", a, gpa, vmpl, f, m.access(gpa, flag, vmpl))
	}
	if q, res := r.RMPQuery(vmpl, gpa, target); res.OK() && q.Permissions != m.pages[n].Permissions[target] {
		t.Fatalf("RMPQUERY %#x: %+v, the model says %+v", gpa, q, m.pages[n])
	}
}

// compare compares every page.
func compare(t *testing.T, r *RMP, m *model) {
	t.Helper()
	for i := range m.pages {
		if got, ok := r.Page(x86.GPA(i) << 12); !ok || got != m.pages[i] {
			t.Fatalf("page %d is %+v, the model says %+v", i, got, m.pages[i])
		}
	}
}
