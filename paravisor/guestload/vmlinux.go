package guestload

import (
	"cmp"
	"slices"

	"keel/hcl/abi/x86"
)

// Offsets and numbers of the 64-bit ELF headers (System V ABI, chapter 4).
const (
	elfMagic = "\x7fELF"

	ehClass     = 4  // u8
	ehData      = 5  // u8
	ehType      = 16 // u16
	ehMachine   = 18 // u16
	ehEntry     = 24 // u64
	ehPhOff     = 32 // u64
	ehPhEntSize = 54 // u16
	ehPhNum     = 56 // u16
	ehSize      = 64

	phType   = 0  // u32
	phOffset = 8  // u64
	phVAddr  = 16 // u64
	phPAddr  = 24 // u64
	phFileSz = 32 // u64
	phMemSz  = 40 // u64
	phSize   = 56

	classELF64     = 2
	dataLittle     = 1
	typeExec       = 2
	machineX86_64  = 62
	ptLoad         = 1
	maxProgHeaders = 32
)

// Facts of Linux that a vmlinux does not carry in a header.
const (
	kernelMap       = 0xffff_ffff_8000_0000 // __START_KERNEL_map: all of Linux is linked above
	vmlinuxInitrd   = 0x7fff_ffff           // initrd_addr_max that every bzImage of 64 bits states
	vmlinuxCommand  = 2047                  // COMMAND_LINE_SIZE less the NUL
	vmlinuxAlign    = 2 << 20
	vmlinuxProtocol = 0x020f
)

// machines names the architectures whose kernels are met in practice.
var machines = map[uint16]string{
	3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "s390", 40: "arm",
	183: "arm64", 243: "RISC-V", 258: "LoongArch",
}

func isELF(head []byte) bool { return magic{bytes: elfMagic}.in(head) }

// parseVMLinux checks the ELF and program headers of a vmlinux. Linux links
// its entry point and its segments at the physical addresses at which it runs
// when it is not relocated.
func parseVMLinux(head []byte, size uint64) (*Kernel, error) {
	if len(head) < ehSize {
		return nil, corrupt("its ELF header is cut short")
	}
	if m := le.Uint16(head[ehMachine:]); m != machineX86_64 && machines[m] != "" {
		return nil, badKernel("use an x86-64 kernel", "the file is an ELF file for %s", machines[m])
	}
	if head[ehClass] != classELF64 || head[ehData] != dataLittle || le.Uint16(head[ehMachine:]) != machineX86_64 {
		return nil, badKernel("use an x86-64 kernel", "the file is an ELF file for another architecture")
	}
	if t := le.Uint16(head[ehType:]); t != typeExec {
		return nil, badKernel("name the linked vmlinux", "the file is an ELF file of type %d, not an executable", t)
	}
	count, at := uint64(le.Uint16(head[ehPhNum:])), le.Uint64(head[ehPhOff:])
	if le.Uint16(head[ehPhEntSize:]) != phSize || count == 0 || count > maxProgHeaders {
		return nil, corrupt("%d program headers of %d bytes are impossible", count, le.Uint16(head[ehPhEntSize:]))
	}
	if at > uint64(len(head)) || uint64(len(head))-at < count*phSize {
		return nil, corrupt("its program headers are at %#x, outside the first %d bytes", at, len(head))
	}

	k := &Kernel{
		name:       "vmlinux",
		entry:      x86.GPA(le.Uint64(head[ehEntry:])),
		header:     vmlinuxHeader(),
		initrdMax:  vmlinuxInitrd,
		maxCommand: vmlinuxCommand,
	}
	var spans []Region
	for i := range count {
		ph := head[at+i*phSize:][:phSize]
		if le.Uint32(ph[phType:]) != ptLoad || le.Uint64(ph[phMemSz:]) == 0 {
			continue
		}
		span, err := k.addLoad(ph, size)
		if err != nil {
			return nil, err
		}
		spans = append(spans, span)
	}
	return k, k.checkLoads(spans)
}

// addLoad checks one loadable segment and plans it. It returns the memory that
// the segment takes.
func (k *Kernel) addLoad(ph []byte, size uint64) (Region, error) {
	offset, vaddr, paddr := le.Uint64(ph[phOffset:]), le.Uint64(ph[phVAddr:]), le.Uint64(ph[phPAddr:])
	fileSize, memSize := le.Uint64(ph[phFileSz:]), le.Uint64(ph[phMemSz:])
	switch {
	case fileSize > memSize || memSize > maxInitSize:
		return Region{}, corrupt("a segment of %d bytes in %d bytes of memory is impossible", fileSize, memSize)
	case offset > size || size-offset < fileSize:
		return Region{}, corrupt("a segment needs %d bytes at %#x and the file has %d", fileSize, offset, size)
	case paddr < firstMegabyte || paddr >= fourGiB || paddr+memSize > fourGiB:
		return Region{}, badKernel(remedyFormat, "the ELF file is no Linux kernel: it loads %d bytes at %#x", memSize, paddr)
	case len(k.Segments) == 0 && vaddr < kernelMap:
		return Region{}, badKernel(remedyFormat, "the ELF file is no Linux kernel: it is linked at %#x", vaddr)
	}
	k.Segments = append(k.Segments, Segment{Offset: offset, Size: fileSize, GPA: x86.GPA(paddr)})
	if memSize > fileSize {
		k.zero = append(k.zero, Region{Start: x86.GPA(paddr + fileSize), Size: memSize - fileSize})
	}
	return Region{Start: x86.GPA(paddr), Size: memSize}, nil
}

// checkLoads checks the segments together.
func (k *Kernel) checkLoads(spans []Region) error {
	if len(spans) == 0 {
		return corrupt("it has nothing to load")
	}
	slices.SortFunc(spans, func(a, b Region) int { return cmp.Compare(a.Start, b.Start) })
	entered := false
	for i, s := range spans {
		if i > 0 && s.Start < spans[i-1].End() {
			return corrupt("its segments overlap at %#x", s.Start)
		}
		entered = entered || s.Start <= k.entry && k.entry < s.End()
	}
	if !entered {
		return corrupt("its entry point %#x is in no segment", k.entry)
	}
	k.start, k.end = spans[0].Start, spans[len(spans)-1].End()
	return nil
}

// vmlinuxHeader returns the setup header that a bzImage would have brought.
func vmlinuxHeader() []byte {
	b := make([]byte, hdrLimit)
	le.PutUint16(b[hdrBootFlag:], bootFlag)
	copy(b[hdrMagic:], headerMagic)
	le.PutUint16(b[hdrVersion:], vmlinuxProtocol)
	b[hdrLoadFlags] = loadedHigh
	le.PutUint32(b[hdrInitrdAddrMax:], vmlinuxInitrd)
	le.PutUint32(b[hdrAlignment:], vmlinuxAlign)
	le.PutUint16(b[hdrXLoadFlags:], xlfKernel64)
	le.PutUint32(b[hdrCmdLineSize:], vmlinuxCommand)
	return b[hdrSetupSects:]
}
