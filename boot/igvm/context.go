package igvm

import (
	"encoding/binary"
	"fmt"

	"keel/hcl/abi/x86"
)

// NativeContextBytes is the size of a NativeContext in a file. The igvm crate
// reads a whole page, so Write pads it to one.
const NativeContextBytes = 232

// NativeContext is the first register state of a VP on the native platform
// (igvm_defs IgvmNativeVpContextX64); what it does not name has its value of
// reset. It exists from format version 2 on.
type NativeContext struct {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
	IDTRBase                               uint64
	IDTRLimit                              uint16
	Reserved                               [2]uint16
	GDTRLimit                              uint16
	GDTRBase                               uint64
	CS                                     Segment
	DS                                     Segment // also ES, SS, FS and GS
	GSBase                                 uint64
	CR0                                    uint64
	CR3                                    x86.GPA
	CR4, EFER                              uint64
}

// Segment is a segment register. Attributes are bits 8 to 23 of the
// descriptor's second word; bits 8 to 11 of them must be zero.
type Segment struct {
	Selector, Attributes uint16
	Base, Limit          uint32
}

// Bytes encodes the context.
func (c *NativeContext) Bytes() []byte {
	b, err := binary.Append(nil, binary.LittleEndian, c)
	if err != nil || len(b) != NativeContextBytes {
		// The struct has a fixed size, which a test compares with the constant.
		return nil
	}
	return b
}

// ParseNativeContext decodes the data of a VPContext of the native platform.
func ParseNativeContext(b []byte) (*NativeContext, error) {
	c := new(NativeContext)
	if len(b) != NativeContextBytes {
		return nil, fmt.Errorf("%w: VP context of %d bytes", ErrCorrupt, len(b))
	}
	if _, err := binary.Decode(b, binary.LittleEndian, c); err != nil {
		return nil, fmt.Errorf("%w: VP context: %w", ErrCorrupt, err)
	}
	return c, nil
}
