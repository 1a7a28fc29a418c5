package layout

import (
	"keel/boot/igvm"
	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// vmsaGPA is where KVM shows the VMSA of a VP to firmware, whatever a file says.
const vmsaGPA x86.GPA = 0xfffffffff000

// The CPUID page (SNP ABI 8.17.2.6): a count, and from 10h on its entries, of
// which the code below reads the function's number and EBX.
const (
	cpuidMax       = 64
	cpuidFirst     = 0x10
	cpuidEntry     = 0x30
	cpuidEBX       = 0x1c       // in an entry, which begins with the function
	cpuidEncrypted = 0x8000001f // EBX bits 5:0: position of the C-bit
)

// The GHCB MSR protocol (GHCB specification 2.3.1): termination, reason 0.
const (
	msrGHCB       = 0xc0010130
	ghcbTerminate = 0x100
)

// snpEntry returns the page in which the VP begins on SNP. In long mode, data is
// private only where a page table entry has the C-bit, and where that lies, only
// the machine knows: firmware has checked what the CPUID page says of it. Without
// paging all memory is private, so that the tables can be changed here.
func (img *Image) snpEntry() ([]byte, error) {
	const entries = pageTablePages * x86.PageSize / 8
	info := &img.Info
	c := &code{base: img.Isolation.SNPEntry}
	start := c.jump(opJMP)              // jmp start
	dead := len(c.text)                 // dead:
	c.emit(0xb9, uint32(msrGHCB))       // mov $msrGHCB,%ecx
	c.emit(0xb8, uint32(ghcbTerminate)) // mov $ghcbTerminate,%eax
	c.emit(0x31, 0xd2)                  // xor %edx,%edx
	c.emit(0x0f, 0x30)                  // wrmsr
	c.emit(0xf3, 0x0f, 0x01, 0xd9)      // vmgexit
	c.back(opJMP, dead)                 // jmp dead: the host may run the VP again

	start()                           // start:
	c.emit(0xbe, img.Isolation.CPUID) // mov $CPUID,%esi
	c.emit(0x8b, 0x0e)                // mov (%esi),%ecx: the count
	c.emit(0x83, 0xf9, cpuidMax)      // cmp $cpuidMax,%ecx
	c.back(opJA, dead)                // ja dead
	c.emit(0x83, 0xc6, cpuidFirst)    // add $cpuidFirst,%esi
	next := len(c.text)               // next:
	c.emit(0x83, 0xe9, 1)             // sub $1,%ecx
	c.back(opJB, dead)                // jb dead
	c.emit(0x81, 0x3e, uint32(cpuidEncrypted))
	found := c.jump(opJZ)          // cmpl $cpuidEncrypted,(%esi); je found
	c.emit(0x83, 0xc6, cpuidEntry) // add $cpuidEntry,%esi
	c.back(opJMP, next)            // jmp next

	found()                       // found:
	c.emit(0x8b, 0x4e, cpuidEBX)  // mov cpuidEBX(%esi),%ecx
	c.emit(0x83, 0xe1, 0x3f)      // and $63,%ecx
	c.emit(0x83, 0xf9, 32)        // cmp $32,%ecx: the C-bit lies in the upper half
	c.back(opJB, dead)            // jb dead
	c.emit(0xb8, uint32(1))       // mov $1,%eax
	c.emit(0xd3, 0xe0)            // shl %cl,%eax: by the position modulo 32
	c.emit(0xbf, info.PageTables) // mov $tables,%edi
	c.emit(0xb9, uint32(entries)) // mov $entries,%ecx
	fill := len(c.text)           // fill:
	c.emit(0xf6, 0x07, 1)         // testb $present,(%edi)
	absent := c.jump(opJZ)        // jz absent
	c.emit(0x09, 0x47, 4)         // or %eax,4(%edi)
	absent()                      // absent:
	c.emit(0x83, 0xc7, 8)         // add $8,%edi
	c.emit(0x83, 0xe9, 1)         // sub $1,%ecx
	c.back(opJNZ, fill)           // jnz fill
	c.enterShim(info)
	return c.page(info)
}

// snpContext returns the page of registers with which the VP begins on SNP: 32-bit
// protected mode, as in a TD. What it holds besides are the values that KVM and
// QEMU give a VP whatever a file says, and which are measured with it.
func (img *Image) snpContext() ([]byte, error) {
	const (
		cr0        = 1<<5 | 1<<4 | 1<<0 // NE ET PE: KVM starts with no other
		cr4        = 1 << 6             // MCE
		efer       = 1 << 8             // LME
		flat       = hcl.SegGranularity | hcl.SegDefaultBig | hcl.SegPresent | hcl.SegNonSystem
		codeAttr   = flat | 0xb // execute/read, accessed
		dataAttr   = flat | 0x3 // read/write, accessed
		ldtAttr    = hcl.SegPresent | 0x2
		tssAttr    = hcl.SegPresent | 0xb
		dr6        = 0xffff0ff0 // these are values of reset (APM vol. 2, table 14-2)
		dr7        = 0x400
		pat        = 0x0007040600070406
		xcr0       = 1 // x87
		mxcsr      = 0x1f80
		fcw        = 0x37f
		rflags     = 2
		tableLimit = 0xffff
	)
	data := hcl.Segment{Attributes: dataAttr, Limit: 0xffffffff}
	area := &vmsa.SaveArea{
		Registers: hcl.Registers{RIP: uint64(img.Isolation.SNPEntry), RFLAGS: rflags},
		Special: hcl.SpecialRegisters{
			ES: data, SS: data, DS: data, FS: data, GS: data,
			CS:  hcl.Segment{Attributes: codeAttr, Limit: 0xffffffff},
			GDT: hcl.Table{Limit: tableLimit}, IDT: hcl.Table{Limit: tableLimit},
			LDT: hcl.Segment{Attributes: ldtAttr, Limit: tableLimit},
			TR:  hcl.Segment{Attributes: tssAttr, Limit: tableLimit},
			CR0: cr0, CR4: cr4, EFER: efer,
		},
		DR6: dr6, DR7: dr7, PAT: pat, XCR0: xcr0, Features: snp.SEV_FEATURE_SNP_ACTIVE, MXCSR: mxcsr, X87FCW: fcw,
	}
	page := make([]byte, igvm.PageSize)
	return page, area.Encode(page)
}
