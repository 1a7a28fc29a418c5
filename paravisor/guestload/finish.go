package guestload

import (
	"fmt"
	"strings"

	"keel/boot/handoff"
	"keel/hcl"
	"keel/hcl/abi/x86"
)

// Where Finish puts what the boot protocol asks for, all in conventional
// memory, which no kernel is loaded to.
const (
	gdtGPA        x86.GPA = 0x6000
	bootParamsGPA x86.GPA = 0x7000
	pageTablesGPA x86.GPA = 0x9000 // six pages
	commandGPA    x86.GPA = 0x20000
)

// Offsets in the boot parameters (zero-page.rst).
const (
	bpRSDPAddr    = 0x070 // u64
	bpE820Entries = 0x1e8 // u8
	bpE820Table   = 0x2d0 // entries of u64 start, u64 size, u32 kind
	e820EntrySize = 20
)

// Boot is what the loader tells the kernel besides the files.
type Boot struct {
	CommandLine string
	Hints       string  // further parameters, left out where they do not fit
	RSDP        x86.GPA // ACPI root pointer, 0 when there is none
}

// Entry is the state in which the bootstrap VP begins.
type Entry struct {
	Registers hcl.Registers
	Special   hcl.SpecialRegisters
}

// Finish writes the boot parameters, the command line, page tables and GDT to
// guest memory and clears the memory that the kernel expects to be zero.
// Preconditions: every Segment of the plan has been read into guest memory.
// A command line that the kernel would cut is OutcomeBadConfig; other errors
// are those of mem or ErrMap.
func (k *Kernel) Finish(mem Memory, b Boot) (Entry, error) {
	if uint64(len(b.CommandLine)) > k.maxCommand {
		return Entry{}, &handoff.Failure{
			Outcome: handoff.OutcomeBadConfig,
			Cause:   fmt.Sprintf("the command line has %d bytes and the guest kernel takes %d", len(b.CommandLine), k.maxCommand),
			Remedy:  "shorten it",
		}
	}
	line := b.CommandLine
	if hinted := strings.TrimPrefix(line+" "+b.Hints, " "); b.Hints != "" && uint64(len(hinted)) <= k.maxCommand {
		line = hinted
	}
	params, err := k.bootParams(b)
	if err != nil {
		return Entry{}, err
	}
	writes := []struct {
		gpa  x86.GPA
		data []byte
	}{
		{bootParamsGPA, params},
		{commandGPA, append([]byte(line), 0)},
		{gdtGPA, gdt()},
		{pageTablesGPA, identityMap()},
	}
	for _, w := range writes {
		if err := mem.WriteAt(w.gpa, w.data); err != nil {
			return Entry{}, err
		}
	}
	for _, r := range k.zero {
		if err := clearMemory(mem, r); err != nil {
			return Entry{}, err
		}
	}
	return k.entryState(), nil
}

// bootParams returns the zero page.
func (k *Kernel) bootParams(b Boot) ([]byte, error) {
	regions, err := k.mem.E820()
	if err != nil {
		return nil, err
	}
	p := make([]byte, x86.PageSize)
	copy(p[hdrSetupSects:hdrLimit], k.header)
	p[hdrTypeOfLoader] = loaderNone
	// Everything lies below 4 GiB, so that the ext_ fields stay zero.
	le.PutUint32(p[hdrRamdiskImage:], uint32(k.initrd.GPA))
	le.PutUint32(p[hdrRamdiskSize:], uint32(k.initrd.Size))
	le.PutUint32(p[hdrCmdLinePtr:], uint32(commandGPA))
	le.PutUint64(p[bpRSDPAddr:], uint64(b.RSDP))
	p[bpE820Entries] = uint8(len(regions))
	for i, r := range regions {
		e := p[bpE820Table+i*e820EntrySize:]
		le.PutUint64(e, uint64(r.Start))
		le.PutUint64(e[8:], r.Size)
		le.PutUint32(e[16:], uint32(r.Kind))
	}
	return p, nil
}

// zeroes is the source of clearMemory.
var zeroes [256 << 10]byte

func clearMemory(mem Memory, r Region) error {
	for gpa := r.Start; gpa < r.End(); {
		n := min(uint64(r.End()-gpa), uint64(len(zeroes)))
		if err := mem.WriteAt(gpa, zeroes[:n]); err != nil {
			return err
		}
		gpa += x86.GPA(n)
	}
	return nil
}
