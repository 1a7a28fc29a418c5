package layout

import (
	"encoding/binary"
	"fmt"

	"keel/hcl/abi/x86"
)

// code is a page of machine code in the making. The two pages of it that images
// have are entered in 32-bit protected mode, flat segments, paging off, EFER.LME
// set, and leave for the shim in long mode. They are written here, not by the
// compiler, because they contain the image's addresses.
type code struct {
	base x86.GPA
	text []byte
}

// Data of a code page, behind its text.
const (
	codeGDTR   = 0x800 // operand of LGDT: u16 limit, u32 base
	codeTarget = 0x808 // u64: where the shim is entered
)

// emit appends an instruction, or more; parts are bytes, or addresses and
// numbers of 32 bits.
func (c *code) emit(parts ...any) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			c.text = append(c.text, byte(p))
		case uint32:
			c.text = binary.LittleEndian.AppendUint32(c.text, p)
		case x86.GPA:
			// The composer keeps everything below 4 GiB.
			c.text = binary.LittleEndian.AppendUint32(c.text, uint32(p))
		}
	}
}

// jump appends a short jump forward and returns what lets it land.
func (c *code) jump(opcode int) (land func()) {
	c.emit(opcode, 0)
	at := len(c.text)
	return func() { c.text[at-1] = byte(len(c.text) - at) }
}

// back appends a short jump to the offset to.
func (c *code) back(opcode, to int) { c.emit(opcode, to-(len(c.text)+2)) }

// here returns the address of the next instruction.
func (c *code) here() x86.GPA { return c.base + x86.GPA(len(c.text)) }

// page returns the code as a page, with the data that enterShim refers to.
func (c *code) page(info *Info) ([]byte, error) {
	if len(c.text) > codeGDTR {
		return nil, fmt.Errorf("%w: entry code of %d bytes", ErrInput, len(c.text))
	}
	b := make([]byte, x86.PageSize)
	copy(b, c.text)
	binary.LittleEndian.PutUint16(b[codeGDTR:], uint16(len(info.GDT)*8-1))
	binary.LittleEndian.PutUint32(b[codeGDTR+2:], uint32(InfoGPA)+uint32(gdtOffset))
	binary.LittleEndian.PutUint64(b[codeTarget:], uint64(info.IGVMEntry))
	return b, nil
}

// Opcodes of short jumps (APM vol. 3, appendix A).
const (
	opJB  = 0x72
	opJZ  = 0x74
	opJNZ = 0x75
	opJA  = 0x77
	opJMP = 0xeb
)

// enterShim appends the way into the shim: the registers of the native platform's
// context, apart from CR4.MCE, which both platforms keep on.
func (c *code) enterShim(info *Info) {
	context := info.context()
	c.emit(0x0f, 0x01, 0x15, c.base+codeGDTR) // lgdt (codeGDTR)
	c.emit(0x0f, 0x20, 0xe0)                  // mov %cr4,%eax
	c.emit(0x83, 0xc8, int(context.CR4))      // or $PAE,%eax
	c.emit(0x0f, 0x22, 0xe0)                  // mov %eax,%cr4
	c.emit(0xb8, context.CR3)                 // mov $CR3,%eax
	c.emit(0x0f, 0x22, 0xd8)                  // mov %eax,%cr3
	c.emit(0xb8, uint32(context.CR0))         // mov $CR0,%eax
	c.emit(0x0f, 0x22, 0xc0)                  // mov %eax,%cr0: paging on, EFER.LMA sets itself
	// The selector makes the next instruction the first of 64-bit code.
	c.emit(0xea, c.here()+7, selCode, 0)             // ljmp $selCode,$next
	c.emit(0xb8, uint32(selData))                    // mov $selData,%eax
	c.emit(0x8e, 0xd8)                               // mov %eax,%ds
	c.emit(0x8e, 0xc0)                               // mov %eax,%es
	c.emit(0x8e, 0xd0)                               // mov %eax,%ss
	c.emit(0x8e, 0xe0)                               // mov %eax,%fs
	c.emit(0x8e, 0xe8)                               // mov %eax,%gs
	c.emit(0xbc, x86.GPA(context.RSP))               // mov $RSP,%esp: writes of 32 bits clear the upper half
	c.emit(0x31, 0xc0)                               // xor %eax,%eax
	c.emit(0x31, 0xc9)                               // xor %ecx,%ecx
	c.emit(0x31, 0xd2)                               // xor %edx,%edx
	c.emit(0x31, 0xdb)                               // xor %ebx,%ebx
	c.emit(0x31, 0xed)                               // xor %ebp,%ebp
	c.emit(0x31, 0xff)                               // xor %edi,%edi
	c.emit(0x45, 0x31, 0xc0)                         // xor %r8d,%r8d
	c.emit(0x45, 0x31, 0xc9)                         // xor %r9d,%r9d
	c.emit(0x45, 0x31, 0xd2)                         // xor %r10d,%r10d
	c.emit(0x45, 0x31, 0xdb)                         // xor %r11d,%r11d
	c.emit(0x45, 0x31, 0xe4)                         // xor %r12d,%r12d
	c.emit(0x45, 0x31, 0xed)                         // xor %r13d,%r13d
	c.emit(0x45, 0x31, 0xf6)                         // xor %r14d,%r14d
	c.emit(0x45, 0x31, 0xff)                         // xor %r15d,%r15d
	c.emit(0xbe, x86.GPA(context.RSI))               // mov $RSI,%esi
	c.emit(0xff, 0x25, c.base+codeTarget-c.here()-6) // jmp *codeTarget(%rip)
}
