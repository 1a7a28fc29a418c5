package hv

import (
	"bytes"
	"sync/atomic"

	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/guestmem"
)

// page is a page of guest RAM that Keel and the guest both write, in words that
// must be loaded and stored at once.
type page struct{ words []uint32 }

// sharedPage finds the page that a register names. It returns nil when the register
// is not enabled or the page is not RAM: then it cannot be reached, as an address
// beyond the end of memory cannot.
func sharedPage(m *guestmem.Memory, register uint64) *page {
	if register&hv.PAGE_ENABLE == 0 {
		return nil
	}
	b, err := m.Slice(x86.GPA(register&hv.PAGE_ADDRESS), x86.PageSize)
	if err != nil {
		return nil
	}
	words := sys.Words(b)
	if words == nil {
		return nil
	}
	return &page{words}
}

// wordsPerSource is how many words of a SIM or SIEF page belong to one source.
const wordsPerSource = hv.HV_MESSAGE_SIZE / 4

// slot returns the words of one source.
func (p *page) slot(sint int) []uint32 {
	return p.words[sint*wordsPerSource : (sint+1)*wordsPerSource]
}

// clear makes the page zero. Servers may still set bits of it.
func (p *page) clear() {
	for i := range p.words {
		atomic.StoreUint32(&p.words[i], 0)
	}
}

// pageRegister is a register whose page shows contents of the hypervisor's while it
// is enabled.
type pageRegister struct {
	value uint64
	shown []byte // what the page shows, nil while it does not
	saved []byte // what it held before
}

// enable shows content in the page that value names, and takes value. It returns
// false when that page is not RAM.
func (r *pageRegister) enable(m *guestmem.Memory, value uint64, content []byte) bool {
	gpa := x86.GPA(value & hv.PAGE_ADDRESS)
	if _, err := m.Slice(gpa, len(content)); err != nil {
		return false
	}
	if r.shown != nil && r.value&hv.PAGE_ADDRESS == value&hv.PAGE_ADDRESS {
		r.value = value // another VP may be using the page this moment
		return true
	}
	r.disable(m)
	r.value, r.shown, r.saved = value, content, make([]byte, len(content))
	return m.ReadAt(gpa, r.saved) == nil && m.WriteAt(gpa, content) == nil
}

// disable puts back what the page held, and clears the enable bit. A page that the
// guest has written to is left alone: a kernel that followed another one may use it
// without knowing what it was.
func (r *pageRegister) disable(m *guestmem.Memory) {
	if r.shown != nil {
		gpa, now := x86.GPA(r.value&hv.PAGE_ADDRESS), make([]byte, len(r.shown))
		if m.ReadAt(gpa, now) == nil && bytes.Equal(now, r.shown) {
			_ = m.WriteAt(gpa, r.saved) // it was RAM a moment ago
		}
		r.shown, r.saved = nil, nil
	}
	r.value &^= hv.PAGE_ENABLE
}
