package measure

import (
	"encoding/binary"
	"fmt"

	"keel/boot/igvm"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// machine measures pages the way one platform does. Each method also tells a
// part what the page contributed, independently of all pages before it.
type machine interface {
	// normal measures a page with its contents; nil stands for zeros.
	normal(gpa x86.GPA, data []byte, p *partHash)
	// special measures a page of another kind, whose contents do not count.
	special(kind Kind, gpa x86.GPA, p *partHash)
	// vmsa measures the register page of a VP.
	vmsa(gpa x86.GPA, data []byte, p *partHash)
	sum() Digest
}

// KVM's rules for an SNP launch: the one VMSA that user space may set is
// measured last, at this address, whatever the file says, and CR0 is KVM's own
// (igvmmeasure --check-kvm of coconut-svsm).
const (
	kvmVMSA = x86.GPA(0xfffffffff000)

	cr0Protected = 0x31
	cr0Real      = 0x30
)

// Bounds of the bitmap of loaded pages.
const (
	maxGPA     = x86.GPA(1<<52 - 1) // physical addresses of both architectures
	chunkPages = 512                // 2 MiB
	chunkBytes = chunkPages * igvm.PageSize
)

// chunk has a bit for each page of 2 MiB.
type chunk [chunkPages / 64]uint64

// walker takes the directives of a file in order and feeds a machine with what
// the loader of one platform would load.
type walker struct {
	options  Options
	result   *Result
	machine  machine
	parts    partList
	areas    map[uint32]uint64 // parameter areas by index: size in bytes
	loaded   map[x86.GPA]*chunk
	pages    int // private pages so far
	data     int // those of PAGE_DATA
	contexts int
	qemu     bool
}

func newWalker(r *Result, o Options) *walker {
	return &walker{
		options: o, result: r, parts: newPartList(o.Regions),
		areas: map[uint32]uint64{}, loaded: map[x86.GPA]*chunk{},
		qemu: o.QEMU && r.Platform == igvm.PlatformSNP,
	}
}

// mine reports whether a directive with this mask counts.
func (w *walker) mine(mask uint32) bool { return mask&w.result.Mask != 0 }

// header takes the next header. Those that load nothing are passed over: no
// platform measures them.
func (w *walker) header(h igvm.Header) error {
	switch h := h.(type) {
	case *igvm.GuestPolicy:
		if !w.mine(h.Mask) {
			return nil
		}
		if w.result.HasPolicy && w.result.Policy != h.Policy {
			return fmt.Errorf("%w: two policies, %#x and %#x", ErrAmbiguous, w.result.Policy, h.Policy)
		}
		w.result.Policy, w.result.HasPolicy = h.Policy, true
	case *igvm.RelocatableRegion:
		if w.mine(h.Mask) {
			return fmt.Errorf("%w: the loader may move %#x", ErrAmbiguous, h.Base)
		}
	case *igvm.ParameterArea:
		w.areas[h.Index] = h.Size
	case *igvm.ParameterInsert:
		if w.mine(h.Mask) {
			return w.insert(h)
		}
	case *igvm.PageData:
		if w.mine(h.Mask) {
			return w.pageData(h)
		}
	case *igvm.VPContext:
		if w.mine(h.Mask) {
			return w.vpContext(h)
		}
	case *igvm.SNPIDBlock:
		if !w.mine(h.Mask) {
			return nil
		}
		if w.result.Platform != igvm.PlatformSNP {
			return fmt.Errorf("%w: %v has no SNP_ID_BLOCK", ErrUnloadable, w.result.Platform)
		}
		if w.result.IDBlock != nil {
			return fmt.Errorf("%w: two SNP_ID_BLOCK", ErrAmbiguous)
		}
		w.result.IDBlock = h
	}
	return nil
}

// insert measures a filled parameter area: its address counts, its contents are
// the host's. Of a larger area some tools measure every page, others the first.
func (w *walker) insert(h *igvm.ParameterInsert) error {
	if n := w.areas[h.Index]; n != igvm.PageSize {
		return fmt.Errorf("%w: parameter area %d at %#x has %d bytes; use areas of one page", ErrAmbiguous, h.Index, h.GPA, n)
	}
	// QEMU collects pages and loads the last of them when it has seen the whole
	// file, but inserts areas at once.
	if w.qemu && w.data > 0 {
		return fmt.Errorf("%w: parameter area at %#x behind pages, which QEMU loads later; insert areas first", ErrAmbiguous, h.GPA)
	}
	if err := w.claim(h.GPA); err != nil {
		return err
	}
	w.machine.special(KindParameter, h.GPA, w.parts.page(KindParameter, h.GPA))
	return nil
}

// pageData measures a page of the file. Shared pages are the host's and never
// measured.
func (w *walker) pageData(h *igvm.PageData) error {
	if h.Flags&igvm.PageShared != 0 {
		if w.qemu {
			return fmt.Errorf("%w: shared page at %#x, which QEMU loads as a private one", ErrAmbiguous, h.GPA)
		}
		w.result.SharedPages++
		return nil
	}
	if h.Flags&igvm.PageLarge != 0 {
		return fmt.Errorf("%w: page of 2 MiB at %#x; use pages of 4 KiB", ErrAmbiguous, h.GPA)
	}
	if err := w.claim(h.GPA); err != nil {
		return err
	}
	w.data++
	kind := KindNormal
	switch h.Kind {
	case igvm.PageNormal:
		switch {
		case h.Flags&igvm.PageUnmeasured != 0:
			kind = KindUnmeasured
		case h.Data == nil:
			w.result.DatalessPages++
			if w.qemu || w.options.NativeZero && w.result.Platform == igvm.PlatformSNP {
				kind = KindZero
			}
		}
	case igvm.PageSecrets:
		kind = KindSecrets
	case igvm.PageCPUID, igvm.PageCPUIDXF:
		kind = KindCPUID
	default:
		return fmt.Errorf("%w: page at %#x of type %d", ErrUnloadable, h.GPA, h.Kind)
	}
	if w.result.Platform == igvm.PlatformTDX && (kind == KindSecrets || kind == KindCPUID) {
		return fmt.Errorf("%w: %v page at %#x, which TDX does not have", ErrUnloadable, kind, h.GPA)
	}
	part := w.parts.page(kind, h.GPA)
	if kind == KindNormal {
		w.machine.normal(h.GPA, h.Data, part)
	} else {
		w.machine.special(kind, h.GPA, part)
	}
	return nil
}

// vpContext measures the registers of a VP: on SNP a page of their own. A TD has
// none; the reader refuses them.
func (w *walker) vpContext(h *igvm.VPContext) error {
	if w.result.Platform != igvm.PlatformSNP || len(h.Data) != igvm.PageSize {
		return fmt.Errorf("%w: VP_CONTEXT of %d bytes on %v", ErrUnloadable, len(h.Data), w.result.Platform)
	}
	if w.qemu {
		cr0 := binary.LittleEndian.Uint64(h.Data[snp.VMSA_CR0:])
		switch {
		case w.contexts > 0:
			return fmt.Errorf("%w: a second VP_CONTEXT; KVM takes one", ErrUnloadable)
		case h.GPA != kvmVMSA:
			return fmt.Errorf("%w: VMSA at %#x; KVM puts it at %#x", ErrUnloadable, h.GPA, kvmVMSA)
		case cr0 != cr0Protected && cr0 != cr0Real:
			return fmt.Errorf("%w: CR0 %#x in the VMSA; KVM starts with %#x or %#x", ErrUnloadable, cr0, cr0Real, cr0Protected)
		}
	}
	// Firmware takes any page as a VMSA; with an address of its own it cannot
	// be one that the file loads, too.
	if err := w.claimPage(h.GPA, h.GPA == kvmVMSA); err != nil {
		return err
	}
	w.contexts++
	w.machine.vmsa(h.GPA, h.Data, w.parts.page(KindVMSA, h.GPA))
	return nil
}

// claim takes note of a page of memory that is loaded. Neither platform can load
// a page twice: the second command fails.
func (w *walker) claim(gpa x86.GPA) error {
	if w.qemu && w.contexts > 0 {
		return fmt.Errorf("%w: page at %#x behind VP_CONTEXT, which KVM measures last", ErrUnloadable, gpa)
	}
	return w.claimPage(gpa, false)
}

// claimPage is claim for pages in any order. The address at which KVM shows every
// VMSA to firmware belongs to no memory and may repeat.
func (w *walker) claimPage(gpa x86.GPA, repeats bool) error {
	if gpa > maxGPA {
		return fmt.Errorf("%w: page at %#x", ErrUnloadable, gpa)
	}
	if w.pages++; w.pages > maxPages {
		return fmt.Errorf("%w: more than %d pages", ErrUnloadable, maxPages)
	}
	c := w.loaded[gpa/chunkBytes]
	if c == nil {
		c = new(chunk)
		w.loaded[gpa/chunkBytes] = c
	}
	n := gpa % chunkBytes / igvm.PageSize
	if c[n/64]&(1<<(n%64)) != 0 && !repeats {
		return fmt.Errorf("%w: two pages at %#x", ErrUnloadable, gpa)
	}
	c[n/64] |= 1 << (n % 64)
	return nil
}
