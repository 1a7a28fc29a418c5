package guestload

import (
	"keel/hcl"
	"keel/hcl/abi/x86"
)

// Selectors that the 64-bit boot protocol fixes, and the task register's.
const (
	bootCS  = 0x10
	bootDS  = 0x18
	bootTSS = 0x20
)

// Control register bits of the entry state (AMD64 APM vol. 2 §3.1).
const (
	cr0PE   = 1 << 0
	cr0ET   = 1 << 4
	cr0PG   = 1 << 31
	cr4PAE  = 1 << 5
	eferLME = 1 << 8
	eferLMA = 1 << 10

	rflagsFixed = 1 << 1 // always one; IF is clear
)

// Descriptor types (AMD64 APM vol. 2 §4.7, §4.8).
const (
	typeData = 0x3 // read, write, accessed
	typeCode = 0xb // execute, read, accessed
	typeTSS  = 0xb // busy 64-bit TSS

	tssLimit = 0x67
)

// Page table bits (AMD64 APM vol. 2 §5.4) and the size of the map.
const (
	ptPresent  = 1 << 0
	ptWrite    = 1 << 1
	ptLarge    = 1 << 7
	ptEntries  = x86.PageSize / 8
	identityGB = 4
)

const flat = hcl.SegPresent | hcl.SegNonSystem | hcl.SegGranularity

func segments() (cs, ds, tr hcl.Segment) {
	cs = hcl.Segment{Limit: 0xffff_ffff, Selector: bootCS, Attributes: flat | hcl.SegLong | typeCode}
	ds = hcl.Segment{Limit: 0xffff_ffff, Selector: bootDS, Attributes: flat | hcl.SegDefaultBig | typeData}
	tr = hcl.Segment{Limit: tssLimit, Selector: bootTSS, Attributes: hcl.SegPresent | typeTSS}
	return cs, ds, tr
}

// descriptor packs s as it stands in the GDT (AMD64 APM vol. 2 §4.7); the base
// is 0.
func descriptor(s hcl.Segment) uint64 {
	limit := uint64(s.Limit)
	if s.Attributes&hcl.SegGranularity != 0 {
		limit >>= x86.PageShift
	}
	return limit&0xffff | uint64(s.Attributes&0xf0ff)<<40 | limit>>16<<48
}

// gdt returns the table that the selectors of the entry state refer to. The
// TSS takes two entries.
func gdt() []byte {
	cs, ds, tr := segments()
	b := make([]byte, bootTSS+16)
	le.PutUint64(b[bootCS:], descriptor(cs))
	le.PutUint64(b[bootDS:], descriptor(ds))
	le.PutUint64(b[bootTSS:], descriptor(tr))
	return b
}

// identityMap returns page tables for pageTablesGPA that map the first 4 GiB
// with large pages onto themselves: one PML4, one PDPT, four page directories.
func identityMap() []byte {
	const table = ptPresent | ptWrite
	b := make([]byte, (2+identityGB)*x86.PageSize)
	le.PutUint64(b, uint64(pageTablesGPA+x86.PageSize)|table)
	for i := range uint64(identityGB) {
		le.PutUint64(b[x86.PageSize+i*8:], uint64(pageTablesGPA)+(2+i)*x86.PageSize|table)
	}
	for i := range uint64(identityGB * ptEntries) {
		le.PutUint64(b[2*x86.PageSize+i*8:], i*x86.LargePageSize|table|ptLarge)
	}
	return b
}

// entryState returns the registers of the 64-bit boot protocol (boot.rst,
// "64-bit Boot Protocol").
func (k *Kernel) entryState() Entry {
	cs, ds, tr := segments()
	return Entry{
		Registers: hcl.Registers{
			RIP:    uint64(k.entry),
			RSI:    uint64(bootParamsGPA),
			RFLAGS: rflagsFixed,
		},
		Special: hcl.SpecialRegisters{
			CS: cs, DS: ds, ES: ds, FS: ds, GS: ds, SS: ds,
			TR:   tr,
			LDT:  hcl.Segment{Attributes: hcl.SegUnusable},
			GDT:  hcl.Table{Base: uint64(gdtGPA), Limit: uint16(len(gdt()) - 1)},
			CR0:  cr0PE | cr0ET | cr0PG,
			CR3:  uint64(pageTablesGPA),
			CR4:  cr4PAE,
			EFER: eferLME | eferLMA,
		},
	}
}
