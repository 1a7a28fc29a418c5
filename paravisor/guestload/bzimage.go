package guestload

import (
	"math"
	"math/bits"

	"keel/hcl/abi/x86"
)

// Offsets of the setup header, in the file and in the boot parameters alike
// (boot.rst, "The Real-Mode Kernel Header").
const (
	hdrSetupSects    = 0x1f1 // u8: sectors of real-mode code, 0 means 4
	hdrSysSize       = 0x1f4 // u32: protected-mode code in paragraphs of 16 bytes
	hdrBootFlag      = 0x1fe // u16: 0xaa55
	hdrJump          = 0x200 // u8 0xeb, u8 distance: the header ends at 0x202 + distance
	hdrMagic         = 0x202 // "HdrS"
	hdrVersion       = 0x206 // u16
	hdrTypeOfLoader  = 0x210 // u8
	hdrLoadFlags     = 0x211 // u8
	hdrRamdiskImage  = 0x218 // u32
	hdrRamdiskSize   = 0x21c // u32
	hdrCmdLinePtr    = 0x228 // u32
	hdrInitrdAddrMax = 0x22c // u32
	hdrAlignment     = 0x230 // u32
	hdrRelocatable   = 0x234 // u8
	hdrXLoadFlags    = 0x236 // u16
	hdrCmdLineSize   = 0x238 // u32
	hdrPayloadOffset = 0x248 // u32, from the start of the protected-mode code
	hdrPayloadLength = 0x24c // u32
	hdrPrefAddress   = 0x258 // u64
	hdrInitSize      = 0x260 // u32
	hdrEnd212        = 0x268 // where the header of protocol 2.12 ends
	hdrLimit         = 0x290 // where the boot parameters end the header
)

const (
	bootFlag       = 0xaa55
	headerMagic    = "HdrS"
	minProtocol    = 0x020c
	loadedHigh     = 1 << 0 // hdrLoadFlags: protected-mode code is loaded at 1 MiB or above
	xlfKernel64    = 1 << 0 // hdrXLoadFlags: has the 64-bit entry point
	entry64Offset  = 0x200  // of the 64-bit entry point in the protected-mode code
	loaderNone     = 0xff   // hdrTypeOfLoader: a loader without a number
	sectorSize     = 512
	paragraphSize  = 16
	firstMegabyte  = 1 << 20
	maxInitSize    = 1 << 30
	minCommandSize = 255
)

// parseBzImage checks the setup header of a bzImage.
func parseBzImage(head []byte, size uint64) (*Kernel, error) {
	if len(head) < hdrLimit || le.Uint16(head[hdrBootFlag:]) != bootFlag || string(head[hdrMagic:][:4]) != headerMagic {
		return nil, badKernel(remedyFormat, "the file has no Linux boot header")
	}
	if v := le.Uint16(head[hdrVersion:]); v < minProtocol {
		return nil, badKernel("use Linux 3.8 or later", "boot protocol %d.%d is too old", v>>8, v&0xff)
	}
	hdrEnd := hdrMagic + int(head[hdrJump+1])
	if head[hdrJump] != 0xeb || hdrEnd < hdrEnd212 {
		return nil, corrupt("its boot header is cut short")
	}
	if head[hdrLoadFlags]&loadedHigh == 0 {
		return nil, badKernel("build a bzImage", "the file is a zImage")
	}
	if le.Uint16(head[hdrXLoadFlags:])&xlfKernel64 == 0 {
		return nil, badKernel("use a 64-bit kernel", "the kernel is a 32-bit one")
	}

	setupSects := uint64(head[hdrSetupSects])
	if setupSects == 0 {
		setupSects = 4
	}
	code := Segment{
		Offset: (setupSects + 1) * sectorSize,
		Size:   uint64(le.Uint32(head[hdrSysSize:])) * paragraphSize,
		GPA:    x86.GPA(le.Uint64(head[hdrPrefAddress:])),
	}
	if err := checkCode(head, code, size); err != nil {
		return nil, err
	}
	initSize := uint64(le.Uint32(head[hdrInitSize:]))
	if err := checkPlacement(head, code, initSize); err != nil {
		return nil, err
	}
	return &Kernel{
		Segments:   []Segment{code},
		name:       "bzImage",
		entry:      code.GPA + entry64Offset,
		start:      code.GPA,
		end:        code.GPA + x86.GPA(initSize),
		header:     append([]byte(nil), head[hdrSetupSects:min(hdrEnd, hdrLimit)]...),
		initrdMax:  uint64(le.Uint32(head[hdrInitrdAddrMax:])),
		maxCommand: max(uint64(le.Uint32(head[hdrCmdLineSize:])), minCommandSize),
	}, nil
}

// corrupt reports damage; only a fresh copy helps.
func corrupt(format string, args ...any) error {
	return badKernel("the file is truncated or corrupt, copy it again", format, args...)
}

// checkCode compares the sizes that the header gives with the file.
func checkCode(head []byte, code Segment, size uint64) error {
	if code.Size <= entry64Offset {
		return corrupt("%d bytes of protected-mode code cannot hold the entry point", code.Size)
	}
	if end := code.Offset + code.Size; end > size {
		return corrupt("its header asks for %d bytes and it has %d", end, size)
	}
	offset, length := uint64(le.Uint32(head[hdrPayloadOffset:])), uint64(le.Uint32(head[hdrPayloadLength:]))
	if length == 0 || offset+length > code.Size {
		return corrupt("a payload of %d bytes at %#x does not fit in %d bytes of code", length, offset, code.Size)
	}
	// The payload usually begins within the head. A build without compression
	// stores an ELF file.
	if at := code.Offset + offset; at+8 <= uint64(len(head)) {
		if payload := head[at:]; compression(payload) == "" && !isELF(payload) {
			return corrupt("its payload begins with %#x, which is no known compression", payload[:4])
		}
	}
	return nil
}

// checkPlacement bounds where the kernel wants to be. Keel always uses the
// preferred address: a 64-bit kernel never runs below it anyway.
func checkPlacement(head []byte, code Segment, initSize uint64) error {
	alignment := le.Uint32(head[hdrAlignment:])
	if bits.OnesCount32(alignment) != 1 || alignment < x86.PageSize {
		return corrupt("its alignment %#x is no power of two above a page", alignment)
	}
	if code.GPA < firstMegabyte || code.GPA >= math.MaxUint32 || uint64(code.GPA)%x86.PageSize != 0 {
		return corrupt("its preferred address %#x is impossible", code.GPA)
	}
	if head[hdrRelocatable] == 0 && uint64(code.GPA)%uint64(alignment) != 0 {
		return corrupt("it is not relocatable and its address %#x is not aligned to %#x", code.GPA, alignment)
	}
	if initSize < code.Size || initSize > maxInitSize {
		return corrupt("an init size of %d bytes for %d bytes of code is impossible", initSize, code.Size)
	}
	return nil
}
