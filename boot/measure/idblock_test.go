package measure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"keel/boot/igvm"
)

func newKey(tb testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// image is a file that can be signed.
func image() *igvm.File {
	return fileOf(igvm.PlatformSNP, &igvm.GuestPolicy{Policy: 0x30000, Mask: ours}, area(0, 0x1000), insert(0, 0x8000),
		page(0x1000, 1), page(0x2000, 2), vmsa(kvmVMSA))
}

// The sizes of SNP ABI 8.18.
func TestIDSizes(t *testing.T) {
	for name, n := range map[string][2]int{
		"block": {len((&IDBlock{}).Bytes()), IDBlockSize}, "authentication": {len((&IDAuth{}).Bytes()), IDAuthSize},
		"key": {len(wire(&PublicKey{})), publicKeySize}, "signature": {len(wire(&Signature{})), 512},
	} {
		if n[0] != n[1] {
			t.Errorf("%s has %d bytes instead of %d", name, n[0], n[1])
		}
	}
}

// An image is signed, written, read, measured and checked; what a loader would
// give to firmware holds.
func TestAddIDBlock(t *testing.T) {
	id, author := newKey(t, elliptic.P384()), newKey(t, elliptic.P384())
	who := Identity{FamilyID: [16]byte{1}, ImageID: [16]byte{2}, GuestSVN: 3}
	plain := mustMeasure(t, image(), igvm.PlatformSNP, Options{QEMU: true})
	for name, second := range map[string]*ecdsa.PrivateKey{"no author": nil, "author": author} {
		f, r, err := AddIDBlock(image(), Options{QEMU: true}, who, id, second)
		if err != nil {
			t.Fatal(err)
		}
		if last := f.Headers[len(f.Headers)-1]; last.Type() != igvm.TypeVPContext {
			t.Errorf("%s: last header %v", name, last.Type())
		}
		got := mustMeasure(t, reread(t, f), igvm.PlatformSNP, Options{QEMU: true})
		if got.Digest != plain.Digest || r.Digest != plain.Digest {
			t.Errorf("%s: the block changes the digest", name)
		}
		b, a, err := got.CheckIDBlock()
		if err != nil {
			t.Fatal(err)
		}
		want := IDBlock{LaunchDigest: plain.Digest, FamilyID: who.FamilyID, ImageID: who.ImageID, Version: 1, GuestSVN: 3, Policy: 0x30000}
		if *b != want || a.HasAuthor() != (second != nil) {
			t.Errorf("%s: block %+v, author %v", name, b, a.HasAuthor())
		}
		key, err := NewPublicKey(&id.PublicKey)
		if err != nil || a.IDKey.Digest() != key.Digest() {
			t.Errorf("%s: ID key %v, %v", name, a.IDKey.Digest(), err)
		}
		pb, err1 := ParseIDBlock(b.Bytes())
		pa, err2 := ParseIDAuth(a.Bytes())
		if err := errors.Join(err1, err2); err != nil || *pb != *b || *pa != *a {
			t.Errorf("%s: pages read again differ: %v", name, err)
		}
		// Signed again, and a second block replaced: the same bytes.
		again, _, err := AddIDBlock(f, Options{QEMU: true}, who, id, second)
		if err != nil {
			t.Fatal(err)
		}
		x, err1 := igvm.Write(f)
		y, err2 := igvm.Write(again)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s: signing is not deterministic: %v", name, err)
		}
	}
}

// Whatever is changed after signing is found.
func TestCheckIDBlockRefuses(t *testing.T) {
	id, author := newKey(t, elliptic.P384()), newKey(t, elliptic.P384())
	for _, tt := range []struct {
		name   string
		change func(f *igvm.File, h *igvm.SNPIDBlock)
		text   string
	}{
		{"nothing", nil, ""},
		{"page", func(f *igvm.File, _ *igvm.SNPIDBlock) {
			for _, h := range f.Headers {
				if p, ok := h.(*igvm.PageData); ok {
					p.Data[17] ^= 1
				}
			}
		}, "it is for digest"},
		{"policy", func(f *igvm.File, _ *igvm.SNPIDBlock) {
			for _, h := range f.Headers {
				if p, ok := h.(*igvm.GuestPolicy); ok {
					p.Policy |= 1 << 19
				}
			}
		}, "ID key: signature"},
		{"no policy", func(f *igvm.File, _ *igvm.SNPIDBlock) {
			f.Headers = slices.DeleteFunc(f.Headers, func(h igvm.Header) bool { return h.Type() == igvm.TypeGuestPolicy })
		}, "no GUEST_POLICY"},
		{"SVN", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.GuestSVN++ }, "ID key: signature"},
		{"family", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.FamilyID[0]++ }, "ID key: signature"},
		{"image", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.ImageID[0]++ }, "ID key: signature"},
		{"version", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.Version = 2 }, "version 2"},
		{"signature", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDKeySignature.S[0] ^= 1 }, "ID key: signature"},
		{"long signature", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDKeySignature.R[48] = 1 }, "more than 48"},
		{"zero signature", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDKeySignature = igvm.SNPSignature{} }, "ID key: signature"},
		{"key", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDPublicKey.QX[0] ^= 1 }, "no point"},
		{"long key", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDPublicKey.QY[71] = 1 }, "more than 48"},
		{"curve", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDPublicKey.Curve = 1 }, "curve 1"},
		{"algorithm", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDKeyAlgorithm = 0 }, "algorithm 0"},
		{"author's algorithm", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.AuthorKeyAlgorithm = 9 }, "author key algorithm 9"},
		{"author's signature", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.AuthorKeySignature.R[3] ^= 1 }, "author key: signature"},
		{"author's key", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.AuthorPublicKey = igvm.SNPPublicKey{} }, "without a key"},
		{"reserved", func(_ *igvm.File, h *igvm.SNPIDBlock) { h.IDPublicKey.Reserved = 1 }, "reserved"},
		{"foreign ID key", func(_ *igvm.File, h *igvm.SNPIDBlock) {
			k, err := NewPublicKey(&newKey(t, elliptic.P384()).PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			h.IDPublicKey.QX, h.IDPublicKey.QY = k.QX, k.QY
		}, "ID key: signature"},
	} {
		f, r, err := AddIDBlock(image(), Options{}, Identity{}, id, author)
		if err != nil {
			t.Fatal(err)
		}
		if tt.change != nil {
			tt.change(f, r.IDBlock)
		}
		_, _, err = mustMeasure(t, f, igvm.PlatformSNP, Options{}).CheckIDBlock()
		if tt.text == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if !errors.Is(err, ErrIDBlock) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.text)
		}
	}
	if _, _, err := mustMeasure(t, image(), igvm.PlatformSNP, Options{}).CheckIDBlock(); !errors.Is(err, ErrIDBlock) {
		t.Errorf("without a block: %v", err)
	}
}

func TestAddIDBlockRefuses(t *testing.T) {
	id := newKey(t, elliptic.P384())
	for name, f := range map[string]*igvm.File{
		"no policy":  fileOf(igvm.PlatformSNP, page(0, 1)),
		"bad policy": fileOf(igvm.PlatformSNP, &igvm.GuestPolicy{Policy: 1 << 40, Mask: ours}, page(0, 1)),
	} {
		if _, _, err := AddIDBlock(f, Options{}, Identity{}, id, nil); !errors.Is(err, ErrIDBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := AddIDBlock(fileOf(igvm.PlatformTDX), Options{}, Identity{}, id, nil); !errors.Is(err, ErrPlatform) {
		t.Errorf("TDX: %v", err)
	}
	if _, _, err := AddIDBlock(image(), Options{}, Identity{}, newKey(t, elliptic.P256()), nil); !errors.Is(err, ErrIDBlock) {
		t.Errorf("P-256: %v", err)
	}
	if _, _, err := AddIDBlock(image(), Options{}, Identity{}, id, newKey(t, elliptic.P521())); !errors.Is(err, ErrIDBlock) {
		t.Errorf("author on P-521: %v", err)
	}
	good, _, err := AddIDBlock(image(), Options{}, Identity{}, id, nil)
	if err != nil || len(good.Headers) != len(image().Headers)+1 {
		t.Errorf("%d headers, %v", len(good.Headers), err)
	}
}

func TestParseIDPagesRefuse(t *testing.T) {
	for _, n := range []int{0, 95, 97} {
		if _, err := ParseIDBlock(make([]byte, n)); !errors.Is(err, ErrIDBlock) {
			t.Errorf("block of %d bytes: %v", n, err)
		}
	}
	if _, err := ParseIDBlock(make([]byte, IDBlockSize)); !errors.Is(err, ErrIDBlock) {
		t.Errorf("version 0: %v", err)
	}
	if _, err := ParseIDAuth(make([]byte, IDAuthSize-1)); !errors.Is(err, ErrIDBlock) {
		t.Errorf("short page: %v", err)
	}
	// One byte in each reserved field.
	for _, off := range []int{0x08, 0x3f, 0xd0, 0x23f, 0x2d4, 0x643, 0x644, 0x67f, 0x710, 0x87f, 0x914, 0xc83, 0xc84, 0xfff} {
		page := make([]byte, IDAuthSize)
		page[off] = 1
		if _, err := ParseIDAuth(page); !errors.Is(err, ErrIDBlock) {
			t.Errorf("offset %#x: %v", off, err)
		}
	}
}
