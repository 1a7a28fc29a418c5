package layout

import (
	"encoding/binary"
	"fmt"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// InfoGPA is where every image begins: the page with its Info.
const InfoGPA x86.GPA = 0x100000

const (
	infoMagic   = 0x47414d494c45454b // "KEELIMAG"
	infoVersion = 1
	infoBytes   = 384

	mapped = 4 << 30 // what the page tables map
)

// Selectors of the boot GDT (boot.rst: __BOOT_CS, __BOOT_DS), and the GDT.
const (
	selCode = 0x10
	selData = 0x18
)

var bootGDT = [4]uint64{2: 0x00af9b000000ffff, 3: 0x00cf93000000ffff}

// Info is the first page of an image: what the shim must know and what was
// decided when the image was made. It mirrors struct image of
// boot/shim/src/shim.h; a test of boot/shim compares the two.
type Info struct {
	Magic                        uint64
	Version, Bytes               uint32
	Platform                     handoff.Platform
	Flags                        handoff.Flags
	Control, Kernel, Initrd      handoff.Span // Kernel: the space that unpacking takes
	PageTables, StackTop         x86.GPA
	Cmdline, CmdlineOut          x86.GPA
	BootParams, Handoff          x86.GPA
	ParamMap, ParamVP, ParamHost x86.GPA
	IGVMEntry, PVHEntry          x86.GPA
	GDT                          [4]uint64
	Digest                       [32]byte
	SetupHeader                  [setupMax]byte
}

// encode returns the page that holds the info.
func (i *Info) encode() ([]byte, error) {
	b, err := binary.Append(make([]byte, 0, x86.PageSize), binary.LittleEndian, i)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return b[:x86.PageSize], nil
}

// parseInfo decodes and checks the first page of an image.
func parseInfo(page []byte) (*Info, error) {
	i := new(Info)
	if _, err := binary.Decode(page, binary.LittleEndian, i); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if i.Magic != infoMagic || i.Version != infoVersion || i.Bytes != infoBytes {
		return nil, fmt.Errorf("%w: first page has magic %#x, version %d", ErrForeign, i.Magic, i.Version)
	}
	if i.Control.Start != uint64(InfoGPA) {
		return nil, fmt.Errorf("%w: control region at %#x", ErrForeign, i.Control.Start)
	}
	for _, s := range []handoff.Span{i.Control, i.Kernel, i.Initrd} {
		if s.Start > mapped || s.Size > mapped-s.Start {
			return nil, fmt.Errorf("%w: region %#x at %#x", ErrForeign, s.Size, s.Start)
		}
	}
	return i, nil
}

// params lists the pages that the host fills.
func (i *Info) params() []x86.GPA { return []x86.GPA{i.ParamMap, i.ParamVP, i.ParamHost} }

// context returns the registers with which a loader enters the image. entry.S
// sets the same ones for PVH.
func (i *Info) context() *igvm.NativeContext {
	const (
		cr0      = 1<<31 | 1<<16 | 1<<5 | 1<<4 | 1<<0 // PG WP NE ET PE
		cr4PAE   = 1 << 5
		efer     = 1<<10 | 1<<8 // LMA LME
		codeAttr = 0xa09b       // 4 KiB units, 64 bit, present, execute/read, accessed
		dataAttr = 0xc093       // 4 KiB units, 32 bit, present, read/write, accessed
	)
	return &igvm.NativeContext{
		RSI: uint64(InfoGPA), RSP: uint64(i.StackTop), RIP: uint64(i.IGVMEntry), RFLAGS: 2,
		GDTRBase: uint64(InfoGPA) + uint64(gdtOffset), GDTRLimit: uint16(len(i.GDT)*8 - 1),
		CS:  igvm.Segment{Selector: selCode, Attributes: codeAttr, Limit: 0xffffffff},
		DS:  igvm.Segment{Selector: selData, Attributes: dataAttr, Limit: 0xffffffff},
		CR0: cr0, CR3: i.PageTables, CR4: cr4PAE, EFER: efer,
	}
}

// Offsets of fields that are read in place.
const (
	gdtOffset    = 160
	digestOffset = 192
)
