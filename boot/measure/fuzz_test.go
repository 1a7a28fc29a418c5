package measure

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"reflect"
	"testing"

	"keel/boot/igvm"
)

// FuzzMeasure takes any file. Both platforms are measured without a panic,
// twice the same, within bounds, and the digest depends on the parts alone.
func FuzzMeasure(f *testing.F) {
	for _, file := range []*igvm.File{
		image(),
		fileOf(igvm.PlatformTDX, area(0, 0x1000), insert(0, 0x8000), page(0x1000, 1), &igvm.PageData{GPA: 0x2000, Mask: ours}),
		fileOf(igvm.PlatformSNP, &igvm.PageData{GPA: 0x2000, Mask: ours, Kind: igvm.PageCPUID}, &igvm.SNPIDBlock{Mask: ours}),
		fileOf(igvm.PlatformSNP, area(0, 0x2000), insert(0, 0x8000)),
	} {
		b, err := igvm.Write(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, qemu bool) {
		file, err := igvm.Read(b)
		if err != nil {
			return
		}
		checkMeasure(t, file, b, qemu)
	})
}

func checkMeasure(t *testing.T, file *igvm.File, b []byte, qemu bool) {
	t.Helper()
	before := bytes.Clone(b)
	for _, platform := range []igvm.PlatformType{igvm.PlatformSNP, igvm.PlatformTDX} {
		o := Options{QEMU: qemu}
		r, err := Measure(file, platform, o)
		again, err2 := Measure(file, platform, o)
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v: not deterministic: %v, %v", platform, err, err2)
		}
		if err != nil {
			continue
		}
		if len(r.Parts) > len(file.Headers) {
			t.Fatalf("%v: %d parts from %d headers", platform, len(r.Parts), len(file.Headers))
		}
		for i, p := range r.Parts {
			if p.Bytes == 0 || p.Bytes%igvm.PageSize != 0 || uint64(p.GPA)%igvm.PageSize != 0 || p.end() > maxGPA+1 {
				t.Fatalf("%v: part %d: %+v", platform, i, p)
			}
		}
		if len(r.Parts) == 0 && platform == igvm.PlatformSNP && r.Digest != (Digest{}) {
			t.Fatalf("digest %v of nothing", r.Digest)
		}
		if r.IDBlock != nil {
			if _, _, err := r.CheckIDBlock(); err == nil && r.IDBlock.LaunchDigest != r.Digest {
				t.Fatal("ID block for another digest accepted")
			}
		}
	}
	if !bytes.Equal(b, before) {
		t.Fatal("the file was changed")
	}
}

// FuzzParseIDAuth takes any page: what is accepted encodes to the same bytes,
// and no verification panics.
func FuzzParseIDAuth(f *testing.F) {
	id := newKey(f, elliptic.P384())
	b := &IDBlock{Version: 1, Policy: 0x30000}
	a, err := SignIDBlock(b, id, newKey(f, elliptic.P384()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), a.Bytes())
	f.Add(b.Bytes(), make([]byte, IDAuthSize))
	f.Fuzz(func(t *testing.T, block, auth []byte) {
		b, err := ParseIDBlock(block)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Bytes(), block) {
			t.Fatal("block differs")
		}
		a, err := ParseIDAuth(auth)
		if err != nil {
			return
		}
		if !bytes.Equal(a.Bytes(), auth) {
			t.Fatal("authentication differs")
		}
		if a.Verify(b) != nil {
			return
		}
		// What holds survives the way through a file's directive.
		b2, a2 := FromHeader(Header(b, a, ours), b.Policy)
		if err := a2.Verify(b2); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseKey takes any file of a key: an accepted one is on P-384.
func FuzzParseKey(f *testing.F) {
	k := newKey(f, elliptic.P384())
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pemOf("EC PRIVATE KEY", der))
	f.Add(pemOf("ENCRYPTED PRIVATE KEY", der))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey("k", b)
		if (k == nil) == (err == nil) {
			t.Fatalf("key %v, error %v", k, err)
		}
		if k != nil && k.Curve != elliptic.P384() {
			t.Fatal("another curve")
		}
	})
}

// FuzzParsePolicy takes any text: what is accepted has a form that reads the same.
func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{"abi=1.55,smt", "0x30000", "none", "debug,sept-ve-disable", "avx,avx512", "7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseSNPPolicy(s); err == nil {
			if back, err := ParseSNPPolicy(p.String()); err != nil || back != p {
				t.Fatalf("SNP policy %q: %v", s, err)
			}
			if back, err := SNPPolicyOf(p.Word()); err != nil || back != p {
				t.Fatalf("SNP policy %q: %v", s, err)
			}
		}
		if a, err := ParseTDAttributes(s); err == nil {
			if back, err := TDAttributesOf(a.Word()); err != nil || back != a {
				t.Fatalf("TD attributes %q: %v", s, err)
			}
		}
		if p, err := ParseTDXPolicy(s); err == nil {
			if back, err := TDXPolicyOf(p.Word()); err != nil || back != p {
				t.Fatalf("TDX policy %q: %v", s, err)
			}
		}
		if x, err := ParseXFAM(s); err == nil {
			if back, err := XFAMOf(x.Word()); err != nil || back != x {
				t.Fatalf("XFAM %q: %v", s, err)
			}
		}
	})
}
