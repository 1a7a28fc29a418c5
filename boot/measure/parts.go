package measure

import (
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/hcl/abi/x86"
)

// Kind says how a page is measured.
type Kind int

// The kinds. Of all but the first two the address and the kind are measured,
// not the contents.
const (
	KindNormal     Kind = iota // address and contents
	KindVMSA                   // address and contents: registers of a VP
	KindZero                   // zeroed by firmware
	KindUnmeasured             // loaded, but its contents may be anything
	KindSecrets                // written by firmware
	KindCPUID                  // the host's, checked by firmware
	KindParameter              // the host's
)

var kindNames = []string{"normal", "vmsa", "zero", "unmeasured", "secrets", "cpuid", "parameter"}

// String returns the name that "keel image measure" prints.
func (k Kind) String() string {
	if k >= 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

// MarshalText implements encoding.TextMarshaler with String's form.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(b []byte) error {
	i := slices.Index(kindNames, string(b))
	if i < 0 {
		return fmt.Errorf("page kind %q is not known", b)
	}
	*k = Kind(i)
	return nil
}

// Part is a run of pages that were measured one after the other: adjacent, of
// one kind and in one region.
type Part struct {
	Name  string  `json:"name,omitempty"` // of the region
	Kind  Kind    `json:"kind"`
	GPA   x86.GPA `json:"gpa"`
	Bytes uint64  `json:"bytes"`
	// Digest is SHA-384 over what the pages contributed, without what came
	// before them: it changes exactly when the part does. SNP: each page's
	// PAGE_INFO from CONTENTS on; TDX: each page's records, then its contents.
	Digest Digest `json:"digest"`
}

// end returns the address behind the part.
func (p *Part) end() x86.GPA { return p.GPA + x86.GPA(p.Bytes) }

// label names the part in a message.
func (p *Part) label() string {
	name := p.Name
	if name == "" {
		name = p.Kind.String() + " pages"
	}
	return fmt.Sprintf("%s at %#x", name, p.GPA)
}

// partHash collects what the pages of a part contribute.
type partHash struct{ hash.Hash }

// add never fails: a hash.Hash takes everything.
func (p *partHash) add(b []byte) { p.Write(b) }

// partList cuts the sequence of pages into parts.
type partList struct {
	regions []layout.Region // ascending
	list    []Part
	region  int // that of the last part, -1 for none
	hash    partHash
}

func newPartList(regions []layout.Region) partList {
	l := partList{regions: slices.Clone(regions), hash: partHash{sha512.New384()}}
	slices.SortStableFunc(l.regions, func(a, b layout.Region) int {
		switch {
		case a.Span.Start < b.Span.Start:
			return -1
		case a.Span.Start > b.Span.Start:
			return 1
		}
		return 0
	})
	return l
}

// find returns the region that an address lies in, -1 for none. Of regions that
// overlap, the one that begins last counts.
func (l *partList) find(gpa x86.GPA) int {
	i, _ := slices.BinarySearchFunc(l.regions, gpa, func(r layout.Region, g x86.GPA) int {
		if r.Span.Start <= uint64(g) {
			return -1
		}
		return 1
	})
	for i--; i >= 0; i-- {
		// A span's end may wrap; its size cannot.
		if uint64(gpa)-l.regions[i].Span.Start < l.regions[i].Span.Size {
			return i
		}
	}
	return -1
}

// page returns the hash of the part that a page belongs to.
func (l *partList) page(kind Kind, gpa x86.GPA) *partHash {
	region := l.find(gpa)
	if n := len(l.list); n > 0 {
		if last := &l.list[n-1]; last.Kind == kind && last.end() == gpa && l.region == region {
			last.Bytes += igvm.PageSize
			return &l.hash
		}
	}
	l.close()
	p := Part{Kind: kind, GPA: gpa, Bytes: igvm.PageSize}
	if region >= 0 {
		p.Name = l.regions[region].Name
	}
	l.list, l.region = append(l.list, p), region
	return &l.hash
}

// close finishes the last part.
func (l *partList) close() {
	if n := len(l.list); n > 0 {
		l.hash.Sum(l.list[n-1].Digest[:0])
	}
	l.hash.Reset()
}
