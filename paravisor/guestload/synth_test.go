package guestload

import (
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/hcl/abi/x86"
)

// bzImage returns a small kernel file as Linux builds it: one sector of boot
// sector, four of setup, then code with a gzip payload, and its CRC.
func bzImage() []byte {
	const setup, code = 5 * sectorSize, 0x2000
	b := make([]byte, setup+code)
	copy(b, "MZ")
	le.PutUint32(b[peOffsetAt:], 0x40)
	copy(b[0x40:], peMagic)
	b[hdrSetupSects] = 4
	le.PutUint32(b[hdrSysSize:], code/paragraphSize)
	le.PutUint16(b[hdrBootFlag:], bootFlag)
	b[hdrJump], b[hdrJump+1] = 0xeb, 0x6a
	copy(b[hdrMagic:], headerMagic)
	le.PutUint16(b[hdrVersion:], 0x20f)
	b[hdrLoadFlags] = loadedHigh
	le.PutUint32(b[hdrInitrdAddrMax:], 0x7fff_ffff)
	le.PutUint32(b[hdrAlignment:], 0x20_0000)
	b[hdrRelocatable] = 1
	le.PutUint16(b[hdrXLoadFlags:], 0x7f)
	le.PutUint32(b[hdrCmdLineSize:], 2047)
	le.PutUint32(b[hdrPayloadOffset:], 0x300)
	le.PutUint32(b[hdrPayloadLength:], 0x1000)
	le.PutUint64(b[hdrPrefAddress:], 0x100_0000)
	le.PutUint32(b[hdrInitSize:], 0x280_0000)
	copy(b[setup+0x300:], "\x1f\x8b\x08")
	putCRC(b)
	return b
}

// putCRC makes the CRC of b zero in the protocol's sense.
func putCRC(b []byte) {
	end := len(b) - 4
	le.PutUint32(b[end:], ^crc32.ChecksumIEEE(b[:end]))
}

// Where the synthetic vmlinux has its program headers.
const (
	phText = ehSize
	phBSS  = ehSize + phSize
	phNote = ehSize + 2*phSize
)

// vmlinux returns a small vmlinux: text, data with bss, and a note.
func vmlinux() []byte {
	b := make([]byte, 0x3000)
	copy(b, elfMagic)
	b[ehClass], b[ehData] = classELF64, dataLittle
	le.PutUint16(b[ehType:], typeExec)
	le.PutUint16(b[ehMachine:], machineX86_64)
	le.PutUint64(b[ehEntry:], 0x100_0040)
	le.PutUint64(b[ehPhOff:], ehSize)
	le.PutUint16(b[ehPhEntSize:], phSize)
	le.PutUint16(b[ehPhNum:], 3)
	put := func(at int, kind uint32, offset, vaddr, paddr, fileSize, memSize uint64) {
		le.PutUint32(b[at+phType:], kind)
		le.PutUint64(b[at+phOffset:], offset)
		le.PutUint64(b[at+phVAddr:], vaddr)
		le.PutUint64(b[at+phPAddr:], paddr)
		le.PutUint64(b[at+phFileSz:], fileSize)
		le.PutUint64(b[at+phMemSz:], memSize)
	}
	put(phText, ptLoad, 0x1000, kernelMap+0x100_0000, 0x100_0000, 0x1000, 0x1000)
	put(phBSS, ptLoad, 0x2000, 0, 0x120_0000, 0x800, 0x10_0000)
	put(phNote, 4, 0x1000, 0, 0, 0x10, 0x10)
	return b
}

// mem256 is the memory of a guest with 256 MiB and the usual reservations.
func mem256() Map {
	return Map{LowRAM: 256 << 20, Reserved: []Region{
		{0xe0000, 0x10000, KindACPI},
		{0xf0000, 0x10000, KindReserved},
		{0xe000_0000, 0x1000_0000, KindReserved},
	}}
}

// head cuts a file as the caller of the planning functions does.
func head(file []byte) []byte { return file[:min(len(file), HeadSize)] }

// ram is guest memory that begins at address 0.
type ram []byte

var errOutside = errors.New("outside RAM")

func (r ram) WriteAt(gpa x86.GPA, p []byte) error {
	if uint64(gpa) > uint64(len(r)) || uint64(len(r))-uint64(gpa) < uint64(len(p)) {
		return errOutside
	}
	copy(r[gpa:], p)
	return nil
}

// wantFailure checks that err is a one-line failure with the outcome and that
// it names the cause.
func wantFailure(t *testing.T, err error, o handoff.Outcome, names string) {
	t.Helper()
	var f *handoff.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *handoff.Failure", err)
	}
	if f.Outcome != o {
		t.Errorf("outcome %q, want %q (%v)", f.Outcome, o, err)
	}
	if !strings.Contains(f.Error(), names) {
		t.Errorf("%q does not name %q", f.Error(), names)
	}
	if f.Remedy == "" || strings.ContainsAny(f.Error(), "\r\n") {
		t.Errorf("%q is not one line with a remedy", f.Error())
	}
}
