package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// Compatibility masks of the platforms.
const (
	nativeMask = 1 << 0
	snpMask    = 1 << 1
	tdxMask    = 1 << 2
)

const (
	isolationMagic   = 0x4c4f53494c45454b // "KEELISOL"
	isolationVersion = 1
	isolationBytes   = 72
	isolationOffset  = 0x200 // in the first page, behind Info
	platformOffset   = 16    // of Info.Platform
)

// Isolation is what the first page says, behind Info, of the platforms whose
// hardware keeps the host out. Hardware measures no policy: because the policies
// stand here, each is in the measurement of every platform. An image without such
// platforms has none.
type Isolation struct {
	Magic                    uint64
	Version, Bytes           uint32
	Platforms                uint32 // compatibility masks of those below
	Reserved                 uint32
	SNPPolicy                uint64  // SNP ABI 4.3
	TDXPolicy                uint64  // igvm_defs TdxPolicy
	SNPEntry, CPUID, Secrets x86.GPA // pages that only SNP loads
	TDXEntry                 x86.GPA // page that only TDX loads
}

// Has reports whether the image has a platform besides native.
func (i *Isolation) Has(p igvm.PlatformType) bool {
	return p == igvm.PlatformSNP && i.Platforms&snpMask != 0 || p == igvm.PlatformTDX && i.Platforms&tdxMask != 0
}

// place decides about the platforms and hands out their pages.
func (i *Isolation) place(b *builder, in *Input) {
	if in.SNP == nil && in.TDX == nil {
		return
	}
	*i = Isolation{Magic: isolationMagic, Version: isolationVersion, Bytes: isolationBytes}
	if in.SNP != nil {
		i.Platforms |= snpMask
		i.SNPPolicy = *in.SNP
		i.SNPEntry, i.CPUID, i.Secrets = b.reserve(1), b.reserve(1), b.reserve(1)
	}
	if in.TDX != nil {
		i.Platforms |= tdxMask
		i.TDXPolicy = *in.TDX
		i.TDXEntry = tdxReset
	}
}

// put writes the table into the first page.
func (i *Isolation) put(page []byte) error {
	if i.Platforms == 0 {
		return nil
	}
	if _, err := binary.Encode(page[isolationOffset:], binary.LittleEndian, i); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return nil
}

// parseIsolation decodes and checks the table of a first page.
func parseIsolation(page []byte, control handoff.Span) (Isolation, error) {
	var i Isolation
	if _, err := binary.Decode(page[isolationOffset:], binary.LittleEndian, &i); err != nil {
		return i, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if i == (Isolation{}) {
		return i, nil
	}
	if i.Magic != isolationMagic || i.Version != isolationVersion || i.Bytes != isolationBytes ||
		i.Platforms == 0 || i.Platforms&^(snpMask|tdxMask) != 0 {
		return i, foreign("table of isolated platforms: magic %#x, version %d, platforms %#x", i.Magic, i.Version, i.Platforms)
	}
	if i.Has(igvm.PlatformSNP) {
		for _, g := range []x86.GPA{i.SNPEntry, i.CPUID, i.Secrets} {
			if g%x86.PageSize != 0 || !inside(g, control) {
				return i, foreign("page of SNP at %#x", g)
			}
		}
	}
	if i.Has(igvm.PlatformTDX) && i.TDXEntry != tdxReset {
		return i, foreign("reset vector of TDX at %#x", i.TDXEntry)
	}
	return i, nil
}

// masks returns the compatibility masks of all platforms of the image.
func (img *Image) masks() uint32 { return nativeMask | img.Isolation.Platforms }

// own returns what only one platform loads: its first page, which names it, its
// entry, and the pages that firmware fills.
func (img *Image) own() ([]igvm.Header, error) {
	i := &img.Isolation
	first := img.Pages[0].Data
	out := []igvm.Header{&igvm.PageData{GPA: InfoGPA, Mask: nativeMask, Data: first}}
	named := func(p handoff.Platform) []byte {
		b := bytes.Clone(first)
		binary.LittleEndian.PutUint32(b[platformOffset:], uint32(p))
		return b
	}
	if i.Has(igvm.PlatformSNP) {
		entry, err := img.snpEntry()
		if err != nil {
			return nil, err
		}
		out = append(out,
			&igvm.PageData{GPA: InfoGPA, Mask: snpMask, Data: named(handoff.PlatformSNP)},
			&igvm.PageData{GPA: i.SNPEntry, Mask: snpMask, Data: entry},
			&igvm.PageData{GPA: i.CPUID, Mask: snpMask, Kind: igvm.PageCPUID},
			&igvm.PageData{GPA: i.Secrets, Mask: snpMask, Kind: igvm.PageSecrets})
	}
	if i.Has(igvm.PlatformTDX) {
		entry, err := img.tdxEntry()
		if err != nil {
			return nil, err
		}
		out = append(out,
			&igvm.PageData{GPA: InfoGPA, Mask: tdxMask, Data: named(handoff.PlatformTDX)},
			&igvm.PageData{GPA: i.TDXEntry, Mask: tdxMask, Data: entry})
	}
	return out, nil
}

// maskOf returns the compatibility mask of a header, all bits for one that has none.
func maskOf(h igvm.Header) uint32 {
	switch h := h.(type) {
	case *igvm.SupportedPlatform:
		return h.Mask
	case *igvm.GuestPolicy:
		return h.Mask
	case *igvm.RelocatableRegion:
		return h.Mask
	case *igvm.PageTableRelocation:
		return h.Mask
	case *igvm.CCAPolicy:
		return h.Mask
	case *igvm.Corim:
		return h.Mask
	case *igvm.PageData:
		return h.Mask
	case *igvm.ParameterInsert:
		return h.Mask
	case *igvm.VPContext:
		return h.Mask
	case *igvm.RequiredMemory:
		return h.Mask
	case *igvm.SNPIDBlock:
		return h.Mask
	case *igvm.ErrorRange:
		return h.Mask
	case *igvm.VBSMeasurement:
		return h.Mask
	}
	return ^uint32(0)
}

// checkIsolated compares, header by header, what the file tells the loaders of the
// isolated platforms with what IGVM would have written. Only an ID block may be
// there besides: its signature covers the rest.
func (img *Image) checkIsolated(f *igvm.File) error {
	isolated := img.Isolation.Platforms
	if isolated == 0 {
		return nil
	}
	want, err := img.IGVM()
	if err != nil {
		return err
	}
	rest := want.Headers
	for _, h := range f.Headers {
		if _, ok := h.(*igvm.SNPIDBlock); ok || maskOf(h)&isolated == 0 {
			continue
		}
		for len(rest) > 0 && maskOf(rest[0])&isolated == 0 {
			rest = rest[1:]
		}
		if len(rest) == 0 || !reflect.DeepEqual(h, rest[0]) {
			return foreign("%v for platforms %#x is not the one that belongs there", h.Type(), maskOf(h)&isolated)
		}
		rest = rest[1:]
	}
	for _, h := range rest {
		if maskOf(h)&isolated != 0 {
			return foreign("%v for platforms %#x is missing", h.Type(), maskOf(h)&isolated)
		}
	}
	return nil
}
