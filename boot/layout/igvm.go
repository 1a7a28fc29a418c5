package layout

import (
	"bytes"
	"fmt"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// Indices of the parameter areas.
const (
	areaMap = iota
	areaVP
	areaHost
)

// zeroPage is the data of pages without contents. A page without data in the file
// is zeroed by firmware with some loaders and measured as zeros with others; one
// that the file stores is the same to all, and the file holds it once.
var zeroPage = make([]byte, igvm.PageSize)

// IGVM emits the image as an IGVM file: the native platform, and those of
// Isolation. All load the same pages, apart from the first, which names the
// platform, and from their entries. The host's command line has no COMMAND_LINE
// header: QEMU refuses files that have one.
func (img *Image) IGVM() (*igvm.File, error) {
	info, iso, all := &img.Info, &img.Isolation, img.masks()
	// Version 2, because only there the native platform has a VP context.
	f := &igvm.File{Version: 2, Arch: igvm.ArchX64, PageSize: igvm.PageSize}
	add := func(h ...igvm.Header) { f.Headers = append(f.Headers, h...) }
	add(&igvm.SupportedPlatform{Mask: nativeMask, Platform: igvm.PlatformNative, Version: 1})
	if iso.Has(igvm.PlatformSNP) {
		add(&igvm.SupportedPlatform{Mask: snpMask, Platform: igvm.PlatformSNP, Version: 1})
	}
	if iso.Has(igvm.PlatformTDX) {
		add(&igvm.SupportedPlatform{Mask: tdxMask, Platform: igvm.PlatformTDX, Version: 1})
	}
	if iso.Has(igvm.PlatformSNP) {
		add(&igvm.GuestPolicy{Mask: snpMask, Policy: iso.SNPPolicy})
	}
	if iso.Has(igvm.PlatformTDX) {
		add(&igvm.GuestPolicy{Mask: tdxMask, Policy: iso.TDXPolicy})
	}
	add(&igvm.RequiredMemory{GPA: InfoGPA, Mask: all, Bytes: uint32(info.Control.Size)},
		&igvm.RequiredMemory{GPA: x86.GPA(info.Kernel.Start), Mask: all, Bytes: uint32(info.Kernel.Size)})
	for i := range info.params() {
		add(&igvm.ParameterArea{Size: igvm.PageSize, Index: uint32(i)})
	}
	add(&igvm.Parameter{Kind: igvm.TypeMemoryMap, Index: areaMap}, &igvm.Parameter{Kind: igvm.TypeVPCount, Index: areaVP})
	// In front of the pages: QEMU inserts an area at once, but loads a page when
	// it has seen the next, and a measurement counts what is loaded first.
	for i, g := range info.params() {
		add(&igvm.ParameterInsert{GPA: g, Mask: all, Index: uint32(i)})
	}
	own, err := img.own()
	if err != nil {
		return nil, err
	}
	add(own...)
	for _, p := range img.Pages[1:] {
		data := p.Data
		if data == nil {
			data = zeroPage
		}
		add(&igvm.PageData{GPA: p.GPA, Mask: all, Data: data})
	}
	// Last, as hosts that start the VP on seeing it demand.
	if iso.Has(igvm.PlatformSNP) {
		registers, err := img.snpContext()
		if err != nil {
			return nil, err
		}
		add(&igvm.VPContext{GPA: vmsaGPA, Mask: snpMask, Data: registers})
	}
	add(&igvm.VPContext{Mask: nativeMask, Data: info.context().Bytes()})
	return f, nil
}

func foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForeign, fmt.Sprintf(format, args...))
}

// FromIGVM takes the image out of a file that Read accepted, and checks that it is
// one of Keel's, whole and unchanged: what the native platform loads is what the
// digest in its first page covers, and what the others load follows from it.
func FromIGVM(f *igvm.File) (*Image, error) {
	img := &Image{}
	mask := uint32(0)
	for _, h := range f.Headers {
		if p, ok := h.(*igvm.SupportedPlatform); ok && p.Platform == igvm.PlatformNative {
			mask = p.Mask
		}
	}
	if mask == 0 {
		return nil, foreign("no native platform")
	}
	for _, h := range f.Headers {
		p, ok := h.(*igvm.PageData)
		if !ok || p.Mask&mask == 0 {
			continue
		}
		if p.Flags != 0 || p.Kind != igvm.PageNormal {
			return nil, foreign("page at %#x is not plain", p.GPA)
		}
		if n := len(img.Pages); n > 0 && img.Pages[n-1].GPA >= p.GPA {
			return nil, foreign("page at %#x out of order", p.GPA)
		}
		data := p.Data
		if isZero(data) {
			data = nil
		}
		img.Pages = append(img.Pages, Page{p.GPA, data})
	}
	if len(img.Pages) == 0 || img.Pages[0].GPA != InfoGPA || img.Pages[0].Data == nil {
		return nil, foreign("no page at %#x", InfoGPA)
	}
	info, err := parseInfo(img.Pages[0].Data)
	if err != nil {
		return nil, err
	}
	img.Info = *info
	if img.Isolation, err = parseIsolation(img.Pages[0].Data, info.Control); err != nil {
		return nil, err
	}
	if err := img.checkPlaces(); err != nil {
		return nil, err
	}
	if d := img.digest(); d != info.Digest {
		return nil, fmt.Errorf("%w: %x computed, %x in the image", ErrDigest, d, info.Digest)
	}
	if err := img.checkRest(f, mask); err != nil {
		return nil, err
	}
	return img, img.checkIsolated(f)
}

// checkPlaces asserts that everything that is loaded lies in the regions that the
// shim compares with the memory map.
func (img *Image) checkPlaces() error {
	i := &img.Info
	for _, p := range img.Pages {
		if !inside(p.GPA, i.Control) && !inside(p.GPA, i.Kernel) && !inside(p.GPA, i.Initrd) {
			return foreign("page at %#x belongs to no region", p.GPA)
		}
	}
	last := InfoGPA
	for _, g := range i.params() {
		if g <= last || !inside(g, i.Control) {
			return foreign("parameter area at %#x", g)
		}
		last = g
	}
	return nil
}

// inside reports whether the page at g begins in s.
func inside(g x86.GPA, s handoff.Span) bool {
	return uint64(g) >= s.Start && uint64(g) < s.End()
}

// checkRest compares all but the pages with what IGVM would have written.
func (img *Image) checkRest(f *igvm.File, mask uint32) error {
	var inserts []x86.GPA
	context := false
	for _, h := range f.Headers {
		switch h := h.(type) {
		case *igvm.ParameterInsert:
			if h.Mask&mask != 0 {
				inserts = append(inserts, h.GPA)
			}
		case *igvm.VPContext:
			if h.Mask&mask != 0 {
				if context || h.VPIndex != 0 || !bytes.Equal(h.Data, img.Info.context().Bytes()) {
					return foreign("VP context differs")
				}
				context = true
			}
		}
	}
	want := img.Info.params()
	if !context || len(inserts) != len(want) {
		return foreign("VP context or parameter areas missing")
	}
	for i := range want {
		if inserts[i] != want[i] {
			return foreign("parameter area at %#x instead of %#x", inserts[i], want[i])
		}
	}
	return nil
}
