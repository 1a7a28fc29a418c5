package layout

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/shim"
	"keel/hcl/abi/x86"
)

// Page is one page of an image.
type Page struct {
	GPA  x86.GPA
	Data []byte // x86.PageSize bytes; nil for zeros
}

// Image is a composed image: its pages in ascending order, without the
// parameter areas, which are the host's to fill.
type Image struct {
	Info      Info
	Isolation Isolation // zero for an image of the native platform alone
	Pages     []Page    // as the native platform loads them
}

// Region is a named piece of an image's address space.
type Region struct {
	Name string
	Span handoff.Span
}

// Input is what an image is made of.
type Input struct {
	Shim      *shim.Binary
	Kernel    *Kernel
	Initramfs []byte
	Cmdline   string
	Debug     bool
	SNP, TDX  *uint64 // guest policy of the platform; nil leaves the platform out
}

// Pages of the control region, apart from the shim.
const (
	stackPages     = 4
	pageTablePages = 6 // PML4, PDPT, four PDs of 2 MiB pages: 4 GiB
)

// builder hands out addresses in ascending order.
type builder struct {
	image *Image
	next  x86.GPA
}

func pages(n int) int { return (n + x86.PageSize - 1) / x86.PageSize }

func roundUp(g x86.GPA, align uint64) x86.GPA {
	return (g + x86.GPA(align) - 1) &^ (x86.GPA(align) - 1)
}

// reserve hands out n pages that no data belongs to.
func (b *builder) reserve(n int) x86.GPA {
	g := b.next
	b.next += x86.GPA(n) * x86.PageSize
	return g
}

// add places data at the next address, padded to whole pages. Pages of zeros
// are kept as such: they cost nothing in a file.
func (b *builder) add(data []byte) x86.GPA {
	g := b.next
	for rest := data; len(rest) > 0; {
		n := min(len(rest), x86.PageSize)
		page := rest[:n:n]
		if n < x86.PageSize {
			page = append(bytes.Clone(page), make([]byte, x86.PageSize-n)...)
		}
		if isZero(page) {
			page = nil
		}
		b.image.Pages = append(b.image.Pages, Page{b.reserve(1), page})
		rest = rest[n:]
	}
	return g
}

// zeros places n pages of zeros.
func (b *builder) zeros(n int) x86.GPA { return b.add(make([]byte, n*x86.PageSize)) }

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// Compose places the parts in memory. From 1 MiB on: the control region (Info,
// shim, stack, page tables, texts, parameter areas), and, where they fit best,
// kernel and initramfs. Nothing of it stays reserved once Linux runs but the
// handoff page.
func Compose(in Input) (*Image, error) {
	if len(in.Cmdline) > in.Kernel.CmdlineMax {
		return nil, fmt.Errorf("%w: command line of %d bytes, the kernel takes %d", ErrInput, len(in.Cmdline), in.Kernel.CmdlineMax)
	}
	// The kernel would cut it at a NUL and take a line break for a space.
	if strings.IndexFunc(in.Cmdline, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		return nil, fmt.Errorf("%w: command line is not printable ASCII", ErrInput)
	}
	img := &Image{Info: Info{
		Magic: infoMagic, Version: infoVersion, Bytes: infoBytes, Platform: handoff.PlatformNative,
		IGVMEntry: in.Shim.IGVMEntry, PVHEntry: in.Shim.PVHEntry, GDT: bootGDT,
	}}
	info := &img.Info
	if in.Debug {
		info.Flags |= handoff.FlagDebug
	}
	copy(info.SetupHeader[:], in.Kernel.SetupHeader)
	b := &builder{image: img, next: InfoGPA}
	b.reserve(1) // the info page itself, when all else is known
	if at := b.add(in.Shim.Code); at != shim.Base {
		return nil, fmt.Errorf("%w: shim at %#x", ErrInput, at)
	}
	b.zeros(stackPages)
	info.StackTop = b.next
	info.PageTables = b.next
	b.add(pageTables(b.next))
	info.Cmdline = b.add(append([]byte(in.Cmdline), make([]byte, x86.PageSize-len(in.Cmdline))...))
	info.CmdlineOut = b.zeros(1)
	info.BootParams = b.zeros(1)
	info.Handoff = b.zeros(1)
	// One page each, so that all tools measure them alike (IGVM measurers differ
	// on areas of several pages).
	info.ParamMap, info.ParamVP, info.ParamHost = b.reserve(1), b.reserve(1), b.reserve(1)
	img.Isolation.place(b, &in)
	info.Control = span(InfoGPA, b.next)
	if err := placePayload(b, in); err != nil {
		return nil, err
	}
	return img, img.seal()
}

// placePayload places kernel and initramfs. The kernel is loaded where it
// unpacks itself, so that it needs no memory twice; the initramfs goes into the
// gap below it, or behind the space that unpacking needs.
func placePayload(b *builder, in Input) error {
	info, k := &b.image.Info, in.Kernel
	load := max(roundUp(b.next, k.Alignment), k.Preferred)
	// startup_64 would unpack a kernel that cannot move at its preferred address
	// all the same, over whatever lies there.
	if !k.Relocatable && load != k.Preferred {
		return fmt.Errorf("%w: kernel cannot move from %#x", ErrInput, k.Preferred)
	}
	end := load + x86.GPA(pages(int(k.InitSize)))*x86.PageSize
	info.Kernel = span(load, end)
	size := x86.GPA(pages(len(in.Initramfs))) * x86.PageSize
	// Below, it fills memory that would otherwise be in use by nobody until
	// Linux runs, and the VM's least memory shrinks by its size.
	below := b.next+size <= load
	if below {
		info.Initrd = handoff.Span{Start: uint64(b.add(in.Initramfs)), Size: uint64(len(in.Initramfs))}
	}
	b.next = load
	b.add(k.Payload)
	if !below {
		b.next = end
		info.Initrd = handoff.Span{Start: uint64(b.add(in.Initramfs)), Size: uint64(len(in.Initramfs))}
	}
	if max(end, b.next) > mapped {
		return fmt.Errorf("%w: it does not fit below 4 GiB", ErrInput)
	}
	return nil
}

func span(start, end x86.GPA) handoff.Span {
	return handoff.Span{Start: uint64(start), Size: uint64(end - start)}
}

// seal computes the digest and puts the info page in front.
func (img *Image) seal() error {
	img.Info.Digest = [32]byte{}
	page, err := img.Info.encode()
	if err != nil {
		return err
	}
	if err := img.Isolation.put(page); err != nil {
		return err
	}
	img.Pages = slices.Insert(img.Pages, 0, Page{InfoGPA, page})
	img.Info.Digest = img.digest()
	copy(page[digestOffset:], img.Info.Digest[:])
	return nil
}

// digest is SHA-256 over, page by page in ascending order, the address as 64
// bits and the contents, with zeros for the digest itself, and then the
// registers that the image is entered with.
func (img *Image) digest() [32]byte {
	h := sha256.New()
	var zero [x86.PageSize]byte
	for _, p := range img.Pages {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(p.GPA)))
		data := p.Data
		if p.GPA == InfoGPA {
			data = bytes.Clone(data)
			clear(data[digestOffset : digestOffset+sha256.Size])
		}
		if data == nil {
			data = zero[:]
		}
		h.Write(data)
	}
	h.Write(img.Info.context().Bytes())
	return [32]byte(h.Sum(nil))
}

// pageTables maps the first 4 GiB one to one with 2 MiB pages, the tables being
// at base. Accessed and dirty bits are set, so that the processor writes nothing.
func pageTables(base x86.GPA) []byte {
	const (
		table = 0x23 // present, writable, accessed
		large = 0xe3 // present, writable, accessed, dirty, page size
	)
	b := make([]byte, 0, pageTablePages*x86.PageSize)
	put := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	put(uint64(base) + x86.PageSize | table)
	b = b[:x86.PageSize]
	for i := range uint64(4) {
		put(uint64(base) + (2+i)*x86.PageSize | table)
	}
	b = b[:2*x86.PageSize]
	for g := uint64(0); g < mapped; g += x86.LargePageSize {
		put(g | large)
	}
	return b
}

// Regions names the pieces of the image in ascending order.
func (img *Image) Regions() []Region {
	i := &img.Info
	page := func(name string, g x86.GPA) Region { return Region{name, span(g, g+x86.PageSize)} }
	stack := i.StackTop - stackPages*x86.PageSize
	r := []Region{
		page("info", InfoGPA),
		{"shim", span(shim.Base, stack)},
		{"stack", span(stack, i.StackTop)},
		{"page tables", span(i.PageTables, i.PageTables+pageTablePages*x86.PageSize)},
		page("command line, measured", i.Cmdline), page("command line", i.CmdlineOut),
		page("boot_params", i.BootParams), page("handoff", i.Handoff),
		page("parameter: memory map", i.ParamMap), page("parameter: VP count", i.ParamVP),
		page("parameter: PVH host", i.ParamHost),
		{"kernel", i.Kernel},
	}
	if i.Initrd.Size > 0 {
		r = append(r, Region{"initramfs", i.Initrd})
	}
	if s := &img.Isolation; s.Has(igvm.PlatformSNP) {
		r = append(r, page("SNP entry", s.SNPEntry), page("SNP CPUID", s.CPUID), page("SNP secrets", s.Secrets))
	}
	if img.Isolation.Has(igvm.PlatformTDX) {
		r = append(r, page("TDX reset vector", img.Isolation.TDXEntry))
	}
	slices.SortStableFunc(r, func(a, b Region) int { return cmp.Compare(a.Span.Start, b.Span.Start) })
	return r
}

// Cmdline returns the measured command line.
func (img *Image) Cmdline() string {
	for _, p := range img.Pages {
		if p.GPA == img.Info.Cmdline {
			text, _, _ := bytes.Cut(p.Data, []byte{0})
			return string(text)
		}
	}
	return ""
}
