package measure

import (
	"bytes"
	"encoding/binary"
	"testing"

	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

func digest(t *testing.T, s string) (d Digest) {
	t.Helper()
	if err := d.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return d
}

// google/gce-tcb-verifier, sev/sev_test.go: TestUpdateData (three NORMAL pages
// from address 0, whose first and last 16 bytes are text) and
// TestZeroContentUpdateData (three ZERO pages from 0x9000).
func TestPublishedByGCETCBVerifier(t *testing.T) {
	text := []byte("LGTMLGTMLGTMLGTM")
	data := make([]byte, 3*igvm.PageSize)
	copy(data, text)
	copy(data[len(data)-len(text):], text)
	normal, zero := fileOf(igvm.PlatformSNP), fileOf(igvm.PlatformSNP)
	for i := range 3 {
		off := i * igvm.PageSize
		normal.Headers = append(normal.Headers, &igvm.PageData{GPA: x86.GPA(off), Mask: ours, Data: data[off : off+igvm.PageSize]})
		zero.Headers = append(zero.Headers, &igvm.PageData{GPA: x86.GPA(0x9000 + off), Mask: ours})
	}
	for _, tt := range []struct {
		name string
		file *igvm.File
		want string
	}{
		{"normal", normal, "cba1cd767c33b30f96271837dbbae4081a945464a5af397b9b0336b5d8759ee88cc6b62c05d915c4424a9ac5747437d4"},
		{"zero", zero, "4bfe18477ba370a50329da74b9621e721c4f29663176e08fbcf088a17c1bc45f133898b86d5082acbe202a6e9419808a"},
	} {
		r, err := Measure(reread(t, tt.file), igvm.PlatformSNP, Options{NativeZero: true})
		if err != nil {
			t.Fatal(err)
		}
		if r.Digest != digest(t, tt.want) {
			t.Errorf("%s: digest %v, want %s", tt.name, r.Digest, tt.want)
		}
	}
}

// resetVMSA is a VP after reset (APM vol. 2, table B-4 for the offsets, section
// 14.1.3 for the values) as a hypervisor shows it to firmware.
func resetVMSA(eip uint32, features, pat, rdx, mxcsr, fcw uint64) []byte {
	b := make([]byte, igvm.PageSize)
	le := binary.LittleEndian
	for off, attributes := range map[int]uint64{
		0x00: 0x93, 0x10: 0x9b, 0x20: 0x93, 0x30: 0x93, 0x40: 0x93, 0x50: 0x93, // ES CS SS DS FS GS
		0x60: 0, 0x70: 0x82, 0x80: 0, 0x90: 0x8b, // GDTR LDTR IDTR TR
	} {
		le.PutUint64(b[off:], attributes<<16|0xffff<<32)
	}
	le.PutUint16(b[0x10:], 0xf000)
	le.PutUint64(b[0x18:], uint64(eip&0xffff0000)) // CS base
	for off, v := range map[int]uint64{
		0x0d0: 0x1000, 0x148: 0x40, 0x158: 0x10, // EFER CR4 CR0
		0x160: 0x400, 0x168: 0xffff0ff0, 0x170: 2, 0x178: uint64(eip & 0xffff), // DR7 DR6 RFLAGS RIP
		0x268: pat, 0x310: rdx, 0x3b0: features, 0x3e8: 1, 0x408: mxcsr, 0x410: fcw, // PAT RDX SEV_FEATURES XCR0 MXCSR FCW
	} {
		le.PutUint64(b[off:], v)
	}
	return b
}

// virtee/sev-snp-measure, tests/test_guest.py: OVMF's last page, its metadata
// sections, and a VMSA for each VP. Of the two pages with contents only their
// SHA-384 is here: what firmware hashes of a page is that.
func TestPublishedBySEVSNPMeasure(t *testing.T) {
	const (
		ovmf      = "161ace084859674ded7322ad102eb33f49457e0f7845a8f9ad0e03a59eac3e3e360f8b78345363feaeac956ebba2d894"
		afterOVMF = "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74" // published, too
		hashes    = "7b581a6e6bc2ae2e8a0e875bd21d19d8b0cc96f035a9c8fb1d127d3ec75e21edbb830e1f1b5c47bf7644d7f3561bece3" // of no kernel
		firstEIP  = 0xfffffff0
		otherEIP  = 0x80b004
	)
	qemu := func(features uint64) func(uint32) []byte {
		return func(eip uint32) []byte {
			return resetVMSA(eip, features, 0x7040600070406, 0x800f12, 0x1f80, 0x37f)
		}
	}
	gce := func(eip uint32) []byte { return resetVMSA(eip, 1, 0x70106, 0x600, 0, 0) }
	for _, tt := range []struct {
		name   string
		memory Kind
		kernel bool
		vps    int
		vmsa   func(uint32) []byte
		want   string
	}{
		{"snp_without_kernel_default", KindZero, false, 1, qemu(0x21), "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b"},
		{"snp_without_kernel_feature_snp_only", KindZero, false, 1, qemu(1), "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d"},
		{"snp_ovmf_hash_gen_default", KindZero, true, 1, qemu(0x21), "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198"},
		{"snp_with_multiple_vcpus_default", KindZero, true, 4, qemu(0x21), "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942"},
		{"snp_with_multiple_vcpus_feature_snp_only", KindZero, true, 4, qemu(1), "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5"},
		{"snp_gce_default", KindUnmeasured, true, 1, gce, "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e"},
		{"snp_gce_with_multiple_vcpus_default", KindUnmeasured, true, 4, gce, "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parts := newPartList(nil)
			c := &snpChain{}
			run := func(kind Kind, first, last x86.GPA) {
				for g := first; g <= last; g += igvm.PageSize {
					c.special(kind, g, parts.page(kind, g))
				}
			}
			c.extend(KindNormal, 0xfffff000, digest(t, ovmf), parts.page(KindNormal, 0xfffff000))
			if c.sum() != digest(t, afterOVMF) {
				t.Fatalf("behind OVMF: %v", c.sum())
			}
			run(tt.memory, 0x800000, 0x808000)
			run(tt.memory, 0x80a000, 0x80c000)
			run(KindSecrets, 0x80d000, 0x80d000)
			run(KindCPUID, 0x80e000, 0x80e000)
			run(KindZero, 0x80f000, 0x80f000) // calling area of an SVSM
			if tt.kernel {
				c.extend(KindNormal, 0x810000, digest(t, hashes), parts.page(KindNormal, 0x810000))
			} else {
				run(KindZero, 0x810000, 0x810000)
			}
			run(tt.memory, 0x811000, 0x81f000)
			for vp := range tt.vps {
				eip := uint32(firstEIP)
				if vp > 0 {
					eip = otherEIP
				}
				c.vmsa(kvmVMSA, tt.vmsa(eip), parts.page(KindVMSA, kvmVMSA))
			}
			if c.sum() != digest(t, tt.want) {
				t.Errorf("digest %v, want %s", c.sum(), tt.want)
			}
		})
	}
}

// virtee/sev, tests/id-block.rs: an ID block, the digests of both keys, and the
// authentication with signatures made by OpenSSL. The numbers are
// little-endian, as they stand in the page.
func TestPublishedIDBlock(t *testing.T) {
	const (
		launch      = "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745"
		idKeyDigest = "59fb2c686dfa4fef49f38339aa775c90051c28d57383ddc3baf3b5eb4b1496df3b0dbbdcbae5fe27677a644820773fe2"
		authorKey   = "eed81169fb0cb5e0ec34794f128fd4e0c4a46f67c65a1adfa81fcb24bcc088c272369b7ffc3eb2b6af6a4284a1b36c5f"
	)
	field := func(s string) (out [72]byte) {
		d := digest(t, s)
		copy(out[:], d[:])
		return out
	}
	a := &IDAuth{
		IDKeyAlgorithm: 1, AuthorKeyAlgorithm: 1,
		IDBlockSignature: Signature{
			R: field("e5d3bf7d9bf9e061bd4e8f7c6acae05909a9c3c69f04f318f0135eae71ff7d05ef5c8c6b1bc8c047613a7b6f01b738da"),
			S: field("d4194dca67de8381ec6d267c032b03dd3c1f5eafa6aa61e92964e5548bef332b1ae921f26de16ac33b642744d197a5d8"),
		},
		IDKey: PublicKey{
			Curve: 2,
			QX:    field("1f6d3c80b8fb9ef29ff7dd47e8de3fcb95dd90438768b1932c55233c0c475df54ccab8c82c2ff22c1bcf09264d3e76f6"),
			QY:    field("3ebe939c38350b08cd9bda503c85380dfd7c6012f71966767b3214cbdea837ad1d6dbe0a19b150c7c1cdb947d0a8d7cc"),
		},
		IDKeySignature: Signature{
			R: field("bb887b94557f568689ff4855c3f7ed99810c3d54ecd429651134dc18dd020ecaa771a34cb97666771aa31f0eb462ea99"),
			S: field("f261e8b95da71b2a35425f48a219a77dbb0fee252f64d18ce99888b9fb4f70b104011b7dfea3e0349371a2bfaf6f9133"),
		},
		AuthorKey: PublicKey{
			Curve: 2,
			QX:    field("8c8645dad57349a3c5ffc6c1a5f74a569f0f833c078bb22cd79474f0fe92ce716a73985ba2996233d14c90d68bc77062"),
			QY:    field("f5ac8771e0911103c9f2a2fe484377192accb388cc3afdb759b5563ecd08935fa9e2028108107aa74884c9a230793c86"),
		},
	}
	b := &IDBlock{LaunchDigest: digest(t, launch), Version: 1, Policy: 0x30000}
	if got := a.IDKey.Digest(); got != digest(t, idKeyDigest) {
		t.Errorf("ID key digest %v", got)
	}
	if got := a.AuthorKey.Digest(); got != digest(t, authorKey) {
		t.Errorf("author key digest %v", got)
	}
	if err := a.Verify(b); err != nil {
		t.Error(err)
	}
	// Where the numbers stand in the page (SNP ABI 8.18).
	page := a.Bytes()
	for off, want := range map[int][72]byte{
		0x040: a.IDBlockSignature.R, 0x088: a.IDBlockSignature.S, 0x244: a.IDKey.QX, 0x28c: a.IDKey.QY,
		0x680: a.IDKeySignature.R, 0x6c8: a.IDKeySignature.S, 0x884: a.AuthorKey.QX, 0x8cc: a.AuthorKey.QY,
	} {
		if !bytes.Equal(page[off:off+72], want[:]) {
			t.Errorf("offset %#x: %x", off, page[off:off+72])
		}
	}
	b.Policy |= 1 << 19 // debug
	if err := a.Verify(b); err == nil {
		t.Error("another policy accepted")
	}
}
