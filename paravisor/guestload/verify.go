package guestload

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// VerifyKernel reads a whole kernel file of size bytes and reports damage that
// the headers do not show. It is for the launcher, which gives the user the
// answer before a VM starts; the paravisor relies on PlanKernel alone.
//
// A bzImage of Linux before 6.16 ends with a CRC-32 that makes the CRC of all
// that the boot header counts zero (boot.rst, "Kernel Image Checksum"). Later
// ones keep the place and leave it zero. Signing for Secure Boot changes two
// fields of the PE header afterwards.
func VerifyKernel(r io.ReaderAt, size int64) error {
	head, err := readHead(r, size)
	if err != nil {
		return badKernel("make the file readable", "%v", err)
	}
	k, err := parseKernel(head, uint64(size))
	if err != nil || k.name != "bzImage" {
		return err
	}
	end := int64(k.Segments[0].Offset + k.Segments[0].Size)
	var sum [4]byte
	if _, err := r.ReadAt(sum[:], end-int64(len(sum))); err != nil {
		return badKernel("make the file readable", "%v", err)
	}
	if sum == [4]byte{} {
		return nil
	}
	// The CRC of the protocol is not inverted at the end; that of the library
	// is.
	crc := crc32.NewIEEE()
	if err := hashUnsigned(crc, r, head, end); err != nil {
		return badKernel("make the file readable", "%v", err)
	}
	if ^crc.Sum32() != 0 {
		return corrupt("its checksum is wrong")
	}
	return nil
}

// Offsets of the PE header of a bzImage with an EFI stub (Microsoft PE format,
// "Optional Header"), relative to its start.
const (
	peOffsetAt   = 0x3c
	peMagic      = "PE\x00\x00"
	peChecksum   = 24 + 64        // u32
	peSignatures = 24 + 112 + 4*8 // u32 address, u32 size of the certificates
	peEnd        = peSignatures + 8
)

// hashUnsigned hashes the first end bytes of the file as they were before it
// was signed. head is its beginning.
func hashUnsigned(h hash.Hash, r io.ReaderAt, head []byte, end int64) error {
	unsigned := append([]byte(nil), head[:min(int64(len(head)), end)]...)
	pe := uint64(le.Uint32(unsigned[peOffsetAt:]))
	if (magic{bytes: "MZ"}).in(unsigned) && pe < uint64(len(unsigned)) && uint64(len(unsigned))-pe >= peEnd &&
		string(unsigned[pe:][:4]) == peMagic {
		clear(unsigned[pe+peChecksum:][:4])
		clear(unsigned[pe+peSignatures:][:8])
	}
	h.Write(unsigned)
	_, err := io.Copy(h, io.NewSectionReader(r, int64(len(unsigned)), end-int64(len(unsigned))))
	return err
}

func readHead(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, min(size, HeadSize))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("the first %d bytes cannot be read: %w", len(head), err)
	}
	return head, nil
}

// VerifyInitrd reads a whole initrd of size bytes and reports damage: every
// cpio archive in it must be complete, and so must gzip streams. The contents
// of other compressions are not looked at. It is for the launcher.
func VerifyInitrd(r io.ReaderAt, size int64) error {
	head, err := readHead(r, size)
	if err != nil {
		return badInitrd("make the file readable", "%v", err)
	}
	if err := checkInitrd(head); err != nil {
		return err
	}
	br := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10)
	for {
		more, err := verifyPart(br)
		if err != nil {
			return badInitrd("the file is truncated or corrupt, copy it again", "%v", err)
		}
		if !more {
			return nil
		}
	}
}

// verifyPart checks the next archive of an initrd, which may have many: Linux
// unpacks them one after the other and skips zeroes in between.
func verifyPart(br *bufio.Reader) (more bool, err error) {
	head, err := br.Peek(8)
	for err == nil && head[0] == 0 {
		if _, err = br.Discard(1); err == nil {
			head, err = br.Peek(8)
		}
	}
	if len(head) == 0 || allZero(head) {
		return false, nil
	}
	switch {
	case isCPIO(head):
		return true, verifyCPIO(br)
	case compression(head) == "gzip":
		return true, verifyGzip(br)
	case compression(head) != "":
		return false, nil
	}
	return false, fmt.Errorf("%#x follows an archive", head)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func verifyGzip(br *bufio.Reader) error {
	z, err := gzip.NewReader(br)
	if err != nil {
		return err
	}
	z.Multistream(false) // what follows need not be gzip
	inner := bufio.NewReader(z)
	for {
		head, _ := inner.Peek(len(cpioNewc))
		if !isCPIO(head) {
			break
		}
		if err := verifyCPIO(inner); err != nil {
			return err
		}
		if err := skipZeroes(inner); err != nil {
			return err
		}
	}
	// The checksum is compared at the end of the stream.
	_, err = io.Copy(io.Discard, inner)
	return err
}

func skipZeroes(br *bufio.Reader) error {
	for {
		c, err := br.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c != 0 {
			return br.UnreadByte()
		}
	}
}

// Layout of a cpio member: six digits of magic, then 13 numbers of eight hex
// digits, then the name and the contents, each padded to four bytes.
const (
	cpioHeader    = 110
	cpioFileSize  = 54
	cpioNameSize  = 94
	cpioMaxName   = 4096
	cpioTrailer   = "TRAILER!!!"
	cpioAlignment = 4
)

// verifyCPIO reads one archive up to and including its trailer.
func verifyCPIO(br *bufio.Reader) error {
	var header [cpioHeader]byte
	for {
		if _, err := io.ReadFull(br, header[:]); err != nil {
			return fmt.Errorf("the archive ends without a trailer: %w", err)
		}
		if !isCPIO(header[:]) {
			return fmt.Errorf("%#x stands where a member should begin", header[:6])
		}
		fileSize, err := hexNumber(header[cpioFileSize:])
		if err != nil {
			return err
		}
		nameSize, err := hexNumber(header[cpioNameSize:])
		if err != nil {
			return err
		}
		if nameSize == 0 || nameSize > cpioMaxName {
			return fmt.Errorf("a name of %d bytes is impossible", nameSize)
		}
		name := make([]byte, pad(cpioHeader+nameSize)-cpioHeader)
		if _, err := io.ReadFull(br, name); err != nil {
			return fmt.Errorf("the archive ends in a name: %w", err)
		}
		if string(name[:nameSize-1]) == cpioTrailer {
			return nil
		}
		if _, err := io.CopyN(io.Discard, br, int64(pad(fileSize))); err != nil {
			return fmt.Errorf("the archive ends in %q: %w", name[:nameSize-1], err)
		}
	}
}

func pad(n uint64) uint64 { return (n + cpioAlignment - 1) &^ (cpioAlignment - 1) }

func hexNumber(digits []byte) (uint64, error) {
	var b [4]byte
	if _, err := hex.Decode(b[:], digits[:8]); err != nil {
		return 0, fmt.Errorf("a member has the number %q: %w", digits[:8], err)
	}
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), nil
}
