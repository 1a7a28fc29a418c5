package measure

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"

	"keel/boot/igvm"
	"keel/hcl/abi/x86"

	"keel/hcl/abi/snp"
)

// vector is an image of testdata/vectors.json; see README.md there.
type vector struct {
	Name       string
	Platform   string
	Digest     Digest
	NativeZero bool `json:"native_zero"`
	QEMU       bool
	Directives []struct {
		Op                          string
		GPA                         x86.GPA
		Fill                        any // nil: no data; "zero": stored zeros; a number: a pattern
		Kind                        string
		Unmeasured, Shared, Foreign bool
		CR0                         uint64
	}
}

// Compatibility masks of the files that tests make.
const (
	ours    = 2
	foreign = 1
)

// pattern returns size bytes of a pattern, and zeros up to a page.
func pattern(fill, size int) []byte {
	b := make([]byte, igvm.PageSize)
	for i := range size {
		b[i] = byte(i*7 + i>>8*13 + fill)
	}
	return b
}

var platforms = map[string]igvm.PlatformType{"snp": igvm.PlatformSNP, "tdx": igvm.PlatformTDX}

// fileOf returns an empty file for a platform, with a foreign one beside it.
func fileOf(p igvm.PlatformType, directives ...igvm.Header) *igvm.File {
	f := &igvm.File{Version: 2, PageSize: igvm.PageSize, Headers: []igvm.Header{
		&igvm.SupportedPlatform{Mask: foreign, Platform: igvm.PlatformNative, Version: 1},
		&igvm.SupportedPlatform{Mask: ours, Platform: p, Version: 1, HighestVTL: 2, SharedGPABoundary: 1 << 46},
	}}
	f.Headers = append(f.Headers, directives...)
	return f
}

// file builds the vector's image.
func (v *vector) file(t *testing.T) *igvm.File {
	t.Helper()
	f := fileOf(platforms[v.Platform])
	areas := uint32(0)
	for _, d := range v.Directives {
		var data []byte
		switch fill := d.Fill.(type) {
		case string:
			data = make([]byte, igvm.PageSize)
		case float64:
			data = pattern(int(fill), igvm.PageSize)
		}
		switch d.Op {
		case "page":
			p := &igvm.PageData{GPA: d.GPA, Mask: ours, Data: data}
			p.Kind = map[string]igvm.PageDataType{
				"normal": igvm.PageNormal, "secrets": igvm.PageSecrets, "cpuid": igvm.PageCPUID, "cpuid-xf": igvm.PageCPUIDXF,
			}[d.Kind]
			if d.Unmeasured {
				p.Flags |= igvm.PageUnmeasured
			}
			if d.Shared {
				p.Flags |= igvm.PageShared
			}
			if d.Foreign {
				p.Mask = foreign
			}
			f.Headers = append(f.Headers, p)
		case "parameter":
			f.Headers = append(f.Headers, &igvm.ParameterArea{Size: igvm.PageSize, Index: areas},
				&igvm.ParameterInsert{GPA: d.GPA, Mask: ours, Index: areas})
			areas++
		case "vmsa":
			data = pattern(int(d.Fill.(float64)), 0x3f0)
			if d.CR0 != 0 {
				binary.LittleEndian.PutUint64(data[snp.VMSA_CR0:], d.CR0)
			}
			f.Headers = append(f.Headers, &igvm.VPContext{GPA: d.GPA, Mask: ours, Data: data})
		default:
			t.Fatalf("directive %q", d.Op)
		}
	}
	return f
}

// reread writes a file and reads it again: what is measured comes from bytes.
func reread(t *testing.T, f *igvm.File) *igvm.File {
	t.Helper()
	b, err := igvm.Write(f)
	if err != nil {
		t.Fatal(err)
	}
	f, err = igvm.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func vectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Digests computed by a program that shares nothing with this one.
func TestVectors(t *testing.T) {
	counts := map[string]int{}
	for _, v := range vectors(t) {
		counts[v.Platform]++
		t.Run(v.Platform+" "+v.Name, func(t *testing.T) {
			r, err := Measure(reread(t, v.file(t)), platforms[v.Platform], Options{NativeZero: v.NativeZero, QEMU: v.QEMU})
			if err != nil {
				t.Fatal(err)
			}
			if r.Digest != v.Digest {
				t.Errorf("digest %v, want %v", r.Digest, v.Digest)
			}
			if v.NativeZero {
				plain, err := Measure(v.file(t), platforms[v.Platform], Options{})
				if err != nil || plain.Digest == r.Digest || plain.DatalessPages == 0 {
					t.Errorf("without native zero pages: %v, %d of them, %v", plain.Digest, plain.DatalessPages, err)
				}
			}
		})
	}
	if counts["snp"] < 3 || counts["tdx"] < 3 {
		t.Errorf("too few vectors: %v", counts)
	}
}
