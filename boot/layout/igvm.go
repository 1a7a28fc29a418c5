package layout

import (
	"bytes"
	"fmt"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// nativeMask is the compatibility mask of the native platform; SNP and TDX will
// take the next bits.
const nativeMask = 1

// Indices of the parameter areas.
const (
	areaMap = iota
	areaVP
	areaHost
)

// IGVM emits the image as an IGVM file for the native platform. The host's
// command line has no COMMAND_LINE header: QEMU refuses files that have one.
func (img *Image) IGVM() *igvm.File {
	info := &img.Info
	// Version 2, because only there the native platform has a VP context.
	f := &igvm.File{Version: 2, Arch: igvm.ArchX64, PageSize: igvm.PageSize}
	add := func(h ...igvm.Header) { f.Headers = append(f.Headers, h...) }
	add(&igvm.SupportedPlatform{Mask: nativeMask, Platform: igvm.PlatformNative, Version: 1},
		&igvm.RequiredMemory{GPA: InfoGPA, Mask: nativeMask, Bytes: uint32(info.Control.Size)},
		&igvm.RequiredMemory{GPA: x86.GPA(info.Kernel.Start), Mask: nativeMask, Bytes: uint32(info.Kernel.Size)})
	// Areas are declared first and inserted behind the pages: a measurement
	// then begins with what was measured.
	for i := range info.params() {
		add(&igvm.ParameterArea{Size: igvm.PageSize, Index: uint32(i)})
	}
	add(&igvm.Parameter{Kind: igvm.TypeMemoryMap, Index: areaMap}, &igvm.Parameter{Kind: igvm.TypeVPCount, Index: areaVP})
	for _, p := range img.Pages {
		add(&igvm.PageData{GPA: p.GPA, Mask: nativeMask, Data: p.Data})
	}
	for i, g := range info.params() {
		add(&igvm.ParameterInsert{GPA: g, Mask: nativeMask, Index: uint32(i)})
	}
	// Last, as hosts that start the VP on seeing it demand.
	add(&igvm.VPContext{Mask: nativeMask, Data: info.context().Bytes()})
	return f
}

func foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForeign, fmt.Sprintf(format, args...))
}

// FromIGVM takes the native image out of a file that Read accepted, and checks
// that it is one of Keel's, whole and unchanged: what the file loads is what the
// digest in its first page covers.
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
		img.Pages = append(img.Pages, Page{p.GPA, p.Data})
	}
	if len(img.Pages) == 0 || img.Pages[0].GPA != InfoGPA || img.Pages[0].Data == nil {
		return nil, foreign("no page at %#x", InfoGPA)
	}
	info, err := parseInfo(img.Pages[0].Data)
	if err != nil {
		return nil, err
	}
	img.Info = *info
	if err := img.checkPlaces(); err != nil {
		return nil, err
	}
	if d := img.digest(); d != info.Digest {
		return nil, fmt.Errorf("%w: %x computed, %x in the image", ErrDigest, d, info.Digest)
	}
	return img, img.checkRest(f, mask)
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
