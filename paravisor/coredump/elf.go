package coredump

// What the file has of ELF-64. Package debug/elf, which reads such files, brings more with
// it than an image has room for.

// fileHeader is Elf64_Ehdr.
type fileHeader struct {
	Ident                                  [16]byte
	Type, Machine                          uint16
	Version                                uint32
	Entry, ProgramOffset, SectionOffset    uint64
	Flags                                  uint32
	Size, ProgramSize, Programs            uint16
	SectionSize, Sections, SectionsOfNames uint16
}

// programHeader is Elf64_Phdr.
type programHeader struct {
	Type, Flags               uint32
	Offset, Virtual, Physical uint64
	FileSize, MemorySize      uint64
	Align                     uint64
}

// ident begins every 64-bit file of little-endian numbers: magic number, class, data and
// version.
var ident = [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}

const (
	headerBytes  = 64
	programBytes = 56

	version       = 1
	typeCore      = 4  // ET_CORE
	machineX86_64 = 62 // EM_X86_64

	programLoad = 1         // PT_LOAD
	programNote = 4         // PT_NOTE
	mayAll      = 1 | 2 | 4 // PF_X, PF_W, PF_R
)
