package guestload

import (
	"reflect"
	"testing"

	"keel/boot/handoff"
)

func TestPlanBzImage(t *testing.T) {
	file := bzImage()
	k, err := PlanKernel(head(file), uint64(len(file)), mem256())
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{{Offset: 5 * 512, Size: 0x2000, GPA: 0x100_0000}}
	if !reflect.DeepEqual(k.Segments, want) {
		t.Errorf("segments %+v, want %+v", k.Segments, want)
	}
	if k.entry != 0x100_0200 || k.end != 0x380_0000 {
		t.Errorf("entry %#x, end %#x", k.entry, k.end)
	}
}

// setup_sects of 0 means 4 for the sake of ancient kernels.
func TestDefaultSetupSectors(t *testing.T) {
	file := bzImage()
	file[hdrSetupSects] = 0
	k, err := PlanKernel(file, uint64(len(file)), mem256())
	if err != nil {
		t.Fatal(err)
	}
	if k.Segments[0].Offset != 5*512 {
		t.Errorf("offset %d", k.Segments[0].Offset)
	}
}

func TestBadBzImage(t *testing.T) {
	cases := []struct {
		name  string
		spoil func([]byte)
		names string
	}{
		{"boot flag", func(b []byte) { b[hdrBootFlag] = 0 }, "no Linux boot header"},
		{"magic", func(b []byte) { b[hdrMagic] = 'h' }, "no Linux boot header"},
		{"old protocol", func(b []byte) { le.PutUint16(b[hdrVersion:], 0x20b) }, "boot protocol 2.11"},
		{"jump", func(b []byte) { b[hdrJump] = 0x90 }, "cut short"},
		{"short header", func(b []byte) { b[hdrJump+1] = 0x60 }, "cut short"},
		{"zImage", func(b []byte) { b[hdrLoadFlags] = 0 }, "zImage"},
		{"32 bits", func(b []byte) { b[hdrXLoadFlags] = 0 }, "32-bit"},
		{"no code", func(b []byte) { le.PutUint32(b[hdrSysSize:], 0x20) }, "entry point"},
		{"truncated", func(b []byte) { le.PutUint32(b[hdrSysSize:], 0x201) }, "asks for 10768 bytes and it has 10752"},
		{"many setup sectors", func(b []byte) { b[hdrSetupSects] = 255 }, "asks for"},
		{"no payload", func(b []byte) { le.PutUint32(b[hdrPayloadLength:], 0) }, "payload"},
		{"payload outside", func(b []byte) { le.PutUint32(b[hdrPayloadOffset:], 0x1001) }, "does not fit"},
		{"payload wraps", func(b []byte) { le.PutUint32(b[hdrPayloadOffset:], 0xffff_ffff) }, "does not fit"},
		{"payload damaged", func(b []byte) { b[5*512+0x300] = 0 }, "no known compression"},
		{"alignment", func(b []byte) { le.PutUint32(b[hdrAlignment:], 0x30_0000) }, "power of two"},
		{"no alignment", func(b []byte) { le.PutUint32(b[hdrAlignment:], 0) }, "power of two"},
		{"low address", func(b []byte) { le.PutUint64(b[hdrPrefAddress:], 0xff000) }, "preferred address"},
		{"high address", func(b []byte) { le.PutUint64(b[hdrPrefAddress:], 1<<40) }, "preferred address"},
		{"odd address", func(b []byte) { le.PutUint64(b[hdrPrefAddress:], 0x100_0800) }, "preferred address"},
		{"fixed and unaligned", func(b []byte) {
			b[hdrRelocatable] = 0
			le.PutUint64(b[hdrPrefAddress:], 0x110_0000)
		}, "not relocatable"},
		{"small init size", func(b []byte) { le.PutUint32(b[hdrInitSize:], 0x1000) }, "init size"},
		{"huge init size", func(b []byte) { le.PutUint32(b[hdrInitSize:], 0xffff_ffff) }, "init size"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := bzImage()
			c.spoil(file)
			_, err := PlanKernel(head(file), uint64(len(file)), mem256())
			wantFailure(t, err, handoff.OutcomeBadKernel, c.names)
		})
	}
}

func TestStrangers(t *testing.T) {
	at := func(offset int, s string) []byte {
		b := make([]byte, 4096)
		copy(b[offset:], s)
		return b
	}
	elf := func(machine uint16) []byte {
		b := vmlinux()
		le.PutUint16(b[ehMachine:], machine)
		return b
	}
	cases := []struct {
		name  string
		file  []byte
		names string
	}{
		{"empty", nil, "empty"},
		{"text", []byte("hello\n"), "no Linux boot header"},
		{"zeroes", make([]byte, 1<<17), "no Linux boot header"},
		{"arm64", at(56, "ARMd"), "arm64 Image"},
		{"RISC-V", at(56, "RSC\x05"), "RISC-V Image"},
		{"gzip", at(0, "\x1f\x8b\x08"), "compressed with gzip"},
		{"zstd", at(0, "\x28\xb5\x2f\xfd"), "compressed with zstd"},
		{"zboot", at(0, "MZ\x00\x00zimg"), "zboot"},
		{"initrd", at(0, "070701"), "perhaps the initrd"},
		{"IGVM", at(0, "IGVM"), "IGVM"},
		{"arm64 ELF", elf(183), "ELF file for arm64"},
		{"strange ELF", elf(4711), "another architecture"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := PlanKernel(head(c.file), uint64(len(c.file)), mem256())
			wantFailure(t, err, handoff.OutcomeBadKernel, c.names)
		})
	}
}

func TestHeadCutShort(t *testing.T) {
	file := bzImage()
	_, err := PlanKernel(file[:100], uint64(len(file)), mem256())
	wantFailure(t, err, handoff.OutcomeBadKernel, "only 100 of its first 10752 bytes")
}

func TestKernelNeedsMemory(t *testing.T) {
	file := bzImage()
	_, err := PlanKernel(file, uint64(len(file)), Map{LowRAM: 54 << 20})
	wantFailure(t, err, handoff.OutcomeTooLittleMemory, "give the guest at least 56 MiB")
	if _, err := PlanKernel(file, uint64(len(file)), Map{LowRAM: 56 << 20}); err != nil {
		t.Error(err)
	}
}

func FuzzPlanBzImage(f *testing.F) {
	f.Add(bzImage(), uint64(len(bzImage())))
	f.Add(bzImage()[:hdrLimit], uint64(1<<30))
	f.Fuzz(fuzzPlan)
}

// fuzzPlan checks what every accepted plan promises.
func fuzzPlan(t *testing.T, file []byte, size uint64) {
	m := Map{LowRAM: 64 << 20} // small, as every accepted plan is carried out
	k, err := PlanKernel(head(file), size, m)
	if err != nil {
		return
	}
	for _, s := range k.Segments {
		if s.Offset > size || size-s.Offset < s.Size {
			t.Errorf("segment %+v is outside the file of %d bytes", s, size)
		}
		if s.GPA < firstMegabyte || uint64(s.GPA)+s.Size > m.LowRAM {
			t.Errorf("segment %+v is outside RAM", s)
		}
	}
	if k.entry < k.start || k.entry >= k.end {
		t.Errorf("entry %#x outside %#x..%#x", k.entry, k.start, k.end)
	}
	initrd, err := k.PlaceInitrd([]byte("070701"), 1<<20)
	if err == nil && (initrd.GPA < k.end || uint64(initrd.GPA)+initrd.Size > m.LowRAM) {
		t.Errorf("initrd %+v with the kernel up to %#x", initrd, k.end)
	}
	if _, err := k.Finish(make(ram, m.LowRAM), Boot{CommandLine: "quiet"}); err != nil {
		t.Error(err)
	}
}
