package igvm

import (
	"fmt"
	"math/bits"
)

// areaState follows a parameter area from its declaration to its insertion.
type areaState struct {
	size     uint64
	inserted bool
}

// checker walks the headers in order. It serves both directions: what Write
// would refuse, Read refuses too.
type checker struct {
	version   uint32
	section   section
	platforms map[uint32]PlatformType // by mask bit
	mask      uint32                  // all bits that are declared
	areas     map[uint32]areaState
}

func newChecker(version uint32) *checker {
	return &checker{version: version, platforms: map[uint32]PlatformType{}, areas: map[uint32]areaState{}}
}

func corrupt(t Type, format string, args ...any) error {
	return fmt.Errorf("%w: %v: %s", ErrCorrupt, t, fmt.Sprintf(format, args...))
}

// platform returns the platform that a mask stands for when it is exactly one.
func (c *checker) platform(mask uint32) (PlatformType, bool) {
	p, ok := c.platforms[mask]
	return p, ok
}

// enter checks the order of sections.
func (c *checker) enter(t Type) error {
	s := t.section()
	if s == sectionNone {
		return corrupt(t, "number outside the ranges of the format")
	}
	if s < c.section {
		return corrupt(t, "stands behind a later section")
	}
	// A loader acts on a section when it sees the first header of the next.
	c.section = s
	return nil
}

// checkMask refuses masks that no platform would ever load: they are mistakes,
// and a tool that ignores masks would load them after all.
func (c *checker) checkMask(t Type, mask uint32) error {
	if mask == 0 || mask&^c.mask != 0 {
		return corrupt(t, "compatibility mask %#x names no declared platform", mask)
	}
	return nil
}

// aligned reports whether v is a multiple of to; several fields can be asked at
// once, joined by or, when to is a power of two.
func aligned[T ~uint32 | ~uint64](v T, to T) bool { return v%to == 0 }

// header checks one header against those before it. Preconditions: enter
// accepted its type.
func (c *checker) header(h Header) error {
	t := h.Type()
	switch h := h.(type) {
	case *SupportedPlatform:
		return c.supportedPlatform(h)
	case *GuestPolicy:
		if h.Reserved != 0 {
			return corrupt(t, "reserved field not zero")
		}
		return c.checkMask(t, h.Mask)
	case *RelocatableRegion:
		if h.Alignment == 0 || !aligned(h.Alignment, PageSize) || !aligned(h.Size, PageSize) ||
			!aligned(uint64(h.Base), h.Alignment) || !aligned(uint64(h.Min), h.Alignment) || !aligned(uint64(h.Max), h.Alignment) {
			return corrupt(t, "not aligned")
		}
		return c.checkMask(t, h.Mask)
	case *PageTableRelocation:
		if h.Reserved != 0 || !aligned(uint64(h.GPA)|h.Size|h.Used, PageSize) || h.Used > h.Size {
			return corrupt(t, "not aligned, or more used than there is")
		}
		return c.checkMask(t, h.Mask)
	case *CCAPolicy:
		if h.Reserved != 0 || h.Reserved2 != [6]byte{} {
			return corrupt(t, "reserved field not zero")
		}
		return c.checkMask(t, h.Mask)
	case *Corim:
		return c.checkMask(t, h.Mask)
	case *ParameterArea, *ParameterInsert, *Parameter:
		return c.parameter(h)
	case *PageData:
		return c.pageData(h)
	case *VPContext:
		return c.vpContext(h)
	case *RequiredMemory:
		if h.Reserved != 0 || h.Flags&^1 != 0 || !aligned(uint64(h.GPA)|uint64(h.Bytes), PageSize) {
			return corrupt(t, "not aligned, or reserved bits set")
		}
		return c.checkMask(t, h.Mask)
	case *SNPIDBlock:
		if h.Reserved != [3]byte{} || h.AuthorKeyEnabled > 1 {
			return corrupt(t, "reserved field not zero")
		}
		return c.checkMask(t, h.Mask)
	case *ErrorRange:
		if !aligned(uint64(h.GPA)|uint64(h.Bytes), PageSize) {
			return corrupt(t, "not aligned")
		}
		return c.checkMask(t, h.Mask)
	case *VBSMeasurement:
		return c.checkMask(t, h.Mask)
	case *Raw:
		return checkRaw(h)
	}
	return corrupt(t, "no codec for %T", h)
}

// supportedPlatform checks and remembers a platform: later headers refer to it
// by its mask.
func (c *checker) supportedPlatform(h *SupportedPlatform) error {
	t := h.Type()
	switch {
	case bits.OnesCount32(h.Mask) != 1 || c.mask&h.Mask != 0:
		return corrupt(t, "compatibility mask %#x is not one free bit", h.Mask)
	case int(h.Platform) >= len(platformNames) || h.Version != 1:
		return corrupt(t, "%v version %d is not known", h.Platform, h.Version)
	case h.HighestVTL != 0 && h.HighestVTL != 2:
		return corrupt(t, "highest VTL %d", h.HighestVTL)
	case (h.Platform == PlatformNative || h.Platform == PlatformVSM) && h.SharedGPABoundary != 0:
		return corrupt(t, "shared GPA boundary on %v", h.Platform)
	}
	c.mask |= h.Mask
	c.platforms[h.Mask] = h.Platform
	return nil
}

// pageData checks a page. Two pages at one address are for the caller to judge,
// who knows which platform counts.
func (c *checker) pageData(h *PageData) error {
	t := h.Type()
	switch {
	case h.Flags&^(PageLarge|PageUnmeasured|PageShared) != 0 || h.Kind >= pageTypeLimit:
		return corrupt(t, "at %#x: flags %#x, type %d", h.GPA, h.Flags, h.Kind)
	case !aligned(uint64(h.GPA), uint64(h.Bytes())):
		return corrupt(t, "at %#x: not aligned", h.GPA)
	case h.Data != nil && len(h.Data) != h.Bytes():
		return corrupt(t, "at %#x: %d bytes of data", h.GPA, len(h.Data))
	}
	return c.checkMask(t, h.Mask)
}

// parameter checks the life of a parameter area: declared once, filled within
// its bounds, inserted once, then never used again.
func (c *checker) parameter(h Header) error {
	switch h := h.(type) {
	case *ParameterArea:
		if _, ok := c.areas[h.Index]; ok {
			return corrupt(h.Type(), "index %d declared twice", h.Index)
		}
		if h.Size == 0 || !aligned(h.Size, PageSize) || h.Data != nil && uint64(len(h.Data)) != h.Size {
			return corrupt(h.Type(), "index %d: %d bytes, %d of data", h.Index, h.Size, len(h.Data))
		}
		c.areas[h.Index] = areaState{size: h.Size}
	case *Parameter:
		need, ok := parameterSize[h.Kind]
		a, declared := c.areas[h.Index]
		if !ok || !declared || a.inserted || uint64(h.Offset)+need > a.size {
			return corrupt(h.Type(), "area %d cannot take it at offset %d", h.Index, h.Offset)
		}
	case *ParameterInsert:
		a, ok := c.areas[h.Index]
		if !ok || a.inserted || !aligned(uint64(h.GPA), PageSize) {
			return corrupt(h.Type(), "area %d cannot be inserted at %#x", h.Index, h.GPA)
		}
		c.areas[h.Index] = areaState{size: a.size, inserted: true}
		return c.checkMask(h.Type(), h.Mask)
	}
	return nil
}

// vpContext checks that the data is what the platform's loader will read.
func (c *checker) vpContext(h *VPContext) error {
	t := h.Type()
	p, ok := c.platform(h.Mask)
	if !ok {
		return corrupt(t, "compatibility mask %#x is not one platform", h.Mask)
	}
	want := 0
	switch p {
	case PlatformNative, PlatformSEV:
		if c.version < 2 {
			return corrupt(t, "%v context in a file of version 1", p)
		}
		want = NativeContextBytes
	case PlatformSNP, PlatformSEVES:
		want = PageSize
	case PlatformVSM:
		// The data says itself how long it is.
		want = vsmContextBytes(h.Data)
	case PlatformTDX, PlatformCCA:
		return corrupt(t, "%v has none on x64", p)
	}
	if len(h.Data) != want || want == 0 {
		return corrupt(t, "%v context of %d bytes", p, len(h.Data))
	}
	if want != PageSize && h.GPA != 0 || !aligned(uint64(h.GPA), PageSize) {
		return corrupt(t, "%v context at %#x", p, h.GPA)
	}
	return nil
}

// checkRaw accepts only headers that a loader may skip, of types that have no
// struct here: a known type with the ignorable bit would be loaded by some
// loaders and skipped by others, and so be measured differently.
func checkRaw(h *Raw) error {
	if h.ID&ignorable == 0 {
		return fmt.Errorf("%w: %v", ErrUnknownHeader, h.ID)
	}
	if name, ok := typeNames[h.ID&^ignorable]; ok {
		return corrupt(h.ID, "%s marked as ignorable", name)
	}
	return nil
}
