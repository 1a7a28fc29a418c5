package guestload

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"

	"keel/boot/handoff"
)

func planned(t *testing.T, m Map) *Kernel {
	t.Helper()
	file := bzImage()
	k, err := PlanKernel(file, uint64(len(file)), m)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPlaceInitrd(t *testing.T) {
	cases := []struct {
		name   string
		lowRAM uint64
		max    uint32 // initrd_addr_max
		size   uint64
		gpa    uint64
	}{
		{"top of RAM", 256 << 20, 0x7fff_ffff, 0x1000, 0xfff_f000},
		{"page aligned", 256 << 20, 0x7fff_ffff, 0x1001, 0xfff_e000},
		{"kernel's limit", 3 << 30, 0x7fff_ffff, 0x1000, 0x7fff_f000},
		{"old limit", 3 << 30, 0x37ff_ffff, 0x2000, 0x37ff_e000},
		{"just fits", 58 << 20, 0x7fff_ffff, 2 << 20, 0x380_0000},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := planned(t, Map{LowRAM: c.lowRAM})
			k.initrdMax = uint64(c.max)
			s, err := k.PlaceInitrd([]byte("070701"), c.size)
			if err != nil {
				t.Fatal(err)
			}
			if uint64(s.GPA) != c.gpa || s.Size != c.size || s.Offset != 0 {
				t.Errorf("got %+v, want %d bytes at %#x", s, c.size, c.gpa)
			}
		})
	}
}

func TestInitrdRefused(t *testing.T) {
	cases := []struct {
		name    string
		head    string
		size    uint64
		outcome handoff.Outcome
		names   string
	}{
		{"empty", "", 0, handoff.OutcomeBadInitrd, "empty"},
		{"text", "hello\n", 6, handoff.OutcomeBadInitrd, "neither cpio nor a known compression"},
		{"old cpio", "070707", 512, handoff.OutcomeBadInitrd, "neither cpio"},
		{"a byte more than fits", "070701", 2<<20 + 1, handoff.OutcomeTooLittleMemory, "at least 60 MiB"},
		{"more than the kernel takes", "070701", 0x7ff0_0000, handoff.OutcomeBadInitrd, "make it smaller"},
		{"wraps", "070701", ^uint64(0), handoff.OutcomeBadInitrd, "make it smaller"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := planned(t, Map{LowRAM: 58 << 20}).PlaceInitrd([]byte(c.head), c.size)
			wantFailure(t, err, c.outcome, c.names)
		})
	}
}

// member returns one cpio member.
func member(name, contents string) string {
	header := cpioNewc
	for i := range 13 {
		n := 0
		switch 6 + i*8 {
		case cpioFileSize:
			n = len(contents)
		case cpioNameSize:
			n = len(name) + 1
		}
		header += fmt.Sprintf("%08x", n)
	}
	padded := func(s string) string { return s + "\x00\x00\x00"[:(4-len(s)%4)%4] }
	return padded(header+name+"\x00") + padded(contents)
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestVerifyInitrd(t *testing.T) {
	archive := member("init", "#!/bin/sh\n") + member(cpioTrailer, "")
	zip := zipped(t, archive+"\x00\x00\x00")
	zeroes := string(make([]byte, 300))
	flipped := []byte(zip)
	flipped[len(flipped)-6] ^= 1 // in the CRC
	cases := []struct{ name, file, names string }{
		{"cpio", archive, ""},
		{"cpio, padded", archive + zeroes, ""},
		{"two archives", archive + zeroes + archive, ""},
		{"gzip", zip, ""},
		{"gzip, padded", zip + zeroes, ""},
		{"early archive and gzip", archive + zeroes + zip, ""},
		{"early archive and zstd", archive + "\x28\xb5\x2f\xfd....", ""},
		{"no trailer", member("init", "x"), "without a trailer"},
		{"cut in contents", archive[:len(archive)-140], "ends in"},
		{"cut in a header", member("a", "") + cpioNewc, "without a trailer"},
		{"cut in a name", cpioNewc + member("init", "")[6:cpioHeader] + "i", "ends in a name"},
		{"no member", member("init", "x") + string(bytes.Repeat([]byte("x"), 200)), "where a member should begin"},
		{"endless name", cpioNewc + string(bytes.Repeat([]byte("f"), 104)), "impossible"},
		{"no number", cpioNewc + string(bytes.Repeat([]byte("x"), 104)), "number"},
		{"junk behind", archive + "junkjunk", "follows an archive"},
		{"gzip cut", zip[:len(zip)-9], "EOF"},
		{"gzip flipped", string(flipped), "checksum"},
		{"gzip of a cut archive", zipped(t, member("init", "x")), "without a trailer"},
		{"empty", "", "empty"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := VerifyInitrd(bytes.NewReader([]byte(c.file)), int64(len(c.file)))
			if c.names == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFailure(t, err, handoff.OutcomeBadInitrd, c.names)
		})
	}
	wantFailure(t, VerifyInitrd(bytes.NewReader(nil), 10), handoff.OutcomeBadInitrd, "cannot be read")
}

func FuzzVerifyInitrd(f *testing.F) {
	f.Add([]byte(member("init", "x") + member(cpioTrailer, "")))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := VerifyInitrd(bytes.NewReader(file), int64(len(file))); err != nil {
			wantFailure(t, err, handoff.OutcomeBadInitrd, "guest initrd")
		}
	})
}

func TestVerifyKernel(t *testing.T) {
	signed := bzImage()
	le.PutUint32(signed[0x40+peChecksum:], 0x1234)
	le.PutUint64(signed[0x40+peSignatures:], 0x5678)
	signed = append(signed, "certificates"...)
	flipped := bzImage()
	flipped[0x2000] ^= 1
	without := bzImage() // Linux 6.16 and later
	clear(without[len(without)-4:])
	cases := []struct {
		name  string
		file  []byte
		names string
	}{
		{"as built", bzImage(), ""},
		{"signed", signed, ""},
		{"without checksum", without, ""},
		{"vmlinux", vmlinux(), ""},
		{"flipped", flipped, "checksum is wrong"},
		{"truncated", bzImage()[:0x2000], "asks for"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := VerifyKernel(bytes.NewReader(c.file), int64(len(c.file)))
			if c.names == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFailure(t, err, handoff.OutcomeBadKernel, c.names)
		})
	}
	wantFailure(t, VerifyKernel(bytes.NewReader(nil), 10), handoff.OutcomeBadKernel, "cannot be read")
}
