package guestload

import (
	"bytes"
	"encoding/binary"
)

// magic is a signature at a fixed offset of a file.
type magic struct {
	offset int
	bytes  string
	name   string
}

func (m magic) in(head []byte) bool {
	return len(head) >= m.offset && bytes.HasPrefix(head[m.offset:], []byte(m.bytes))
}

// compressions are those that Linux decompresses kernels and initrds with
// (lib/decompress.c).
var compressions = []magic{
	{0, "\x1f\x8b", "gzip"},
	{0, "\x1f\x9e", "gzip"},
	{0, "BZh", "bzip2"},
	{0, "\x5d\x00\x00", "lzma"},
	{0, "\xfd7zXZ\x00", "xz"},
	{0, "\x89LZO\x00\r\n\x1a\n", "lzo"},
	{0, "\x02\x21\x4c\x18", "lz4"},
	{0, "\x28\xb5\x2f\xfd", "zstd"},
}

// compression names the compression of data, or returns "".
func compression(data []byte) string {
	for _, c := range compressions {
		if c.in(data) {
			return c.name
		}
	}
	return ""
}

// strangers are files that people pass as a kernel by mistake, with the word
// that describes them.
var strangers = []magic{
	{56, "ARMd", "an arm64 Image"},
	{56, "RSC\x05", "a RISC-V Image"},
	{4, "zimg", "an EFI zboot image of another architecture"},
	{0, "\x27\x05\x19\x56", "a U-Boot image of another architecture"},
	{0, "070701", "a cpio archive, perhaps the initrd"},
	{0, "070702", "a cpio archive, perhaps the initrd"},
	{0, "IGVM", "an IGVM file"},
	{0, "!<arch>\n", "an archive, perhaps a Debian package"},
	{0, "QFI\xfb", "a qcow2 disk"},
}

const remedyFormat = "name an x86-64 bzImage or an uncompressed vmlinux"

// foreign refuses what is recognizably no x86-64 Linux kernel, by name.
func foreign(head []byte) error {
	if len(head) == 0 {
		return badKernel(remedyFormat, "the file is empty")
	}
	for _, s := range strangers {
		if s.in(head) {
			return badKernel(remedyFormat, "the file is %s", s.name)
		}
	}
	if c := compression(head); c != "" {
		return badKernel("decompress it first; "+remedyFormat, "the file is compressed with %s", c)
	}
	return nil
}

// le reads little-endian numbers from a header whose length was checked.
var le = binary.LittleEndian
