package paravisor

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"keel/hcl/abi/x86"
	"keel/paravisor/fwcfg"
	"keel/paravisor/guestload"
	"keel/vtl/guestmem"
	"keel/vtpm/eventlog"
)

// hostFile is a host that has one file.
type hostFile []byte

func (f hostFile) Find(name string) (fwcfg.File, error) {
	return fwcfg.File{Name: name, Size: uint32(len(f))}, nil
}

func (f hostFile) Read(_ fwcfg.File, offset uint64, p []byte) error {
	copy(p, f[offset:])
	return nil
}

func (f hostFile) ReadDMA(_ fwcfg.File, offset uint64, mapping []byte, _ int) error {
	copy(mapping, f[offset:])
	return nil
}

// TestDigest measures a file that is loaded whole, in parts and not at all: it is always
// the file's digest, and of what was loaded the guest's bytes count.
func TestDigest(t *testing.T) {
	data := make([]byte, 200<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	memory, err := guestmem.New(4<<20, memoryLayout, false)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	p := &payload{files: hostFile(data), memory: memory, granule: x86.PageSize}
	loaded := func(t *testing.T, segments ...guestload.Segment) source {
		t.Helper()
		f, err := p.open("file")
		if err != nil {
			t.Fatal(err)
		}
		f.segments = segments
		if err := p.transfer(&f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	banks := []eventlog.Algorithm{eventlog.SHA256}
	for name, segments := range map[string][]guestload.Segment{
		"nothing":         nil,
		"whole":           {{Offset: 0, Size: 200 << 10, GPA: 1 << 20}},
		"behind the head": {{Offset: 100 << 10, Size: 100 << 10, GPA: 1 << 20}},
		"within the head": {{Offset: 512, Size: 1000, GPA: 1 << 20}},
		"with a gap":      {{Offset: 4096, Size: 4096, GPA: 1 << 20}, {Offset: 80 << 10, Size: 100, GPA: 2 << 20}},
		"adjacent":        {{Offset: 4096, Size: 4096, GPA: 1 << 20}, {Offset: 8192, Size: 100 << 10, GPA: 2 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			f := loaded(t, segments...)
			sum := func() []byte {
				o, err := p.digest(&f, "file", banks)
				if err != nil || o.Name != "file" || len(o.Digests) != 1 {
					t.Fatalf("%+v, %v", o, err)
				}
				return o.Digests[0].Value
			}
			want := sha256.Sum256(data)
			if !bytes.Equal(sum(), want[:]) {
				t.Error("it is not the digest of the file")
			}
			for i, s := range segments {
				for _, at := range []uint64{0, s.Size - 1} {
					b, err := memory.Slice(s.GPA+x86.GPA(at), 1)
					if err != nil {
						t.Fatal(err)
					}
					b[0] ^= 1
					if bytes.Equal(sum(), want[:]) {
						t.Errorf("byte %d of segment %d in guest memory does not count", at, i)
					}
					b[0] ^= 1
				}
			}
		})
	}
	f := loaded(t, guestload.Segment{Offset: 4096, Size: 8192, GPA: 1 << 20}, guestload.Segment{Offset: 8192, Size: 8192, GPA: 2 << 20})
	if o, err := p.digest(&f, "file", banks); err == nil {
		t.Errorf("parts that overlap: %+v", o)
	}
}

func TestParamNames(t *testing.T) {
	for params, want := range map[string]string{
		"": "", "tsc_early_khz=2445406 tsc=reliable": "tsc_early_khz tsc", "quiet  a=b=c": "quiet a",
	} {
		if got := paramNames(params); got != want {
			t.Errorf("%q has %q, want %q", params, got, want)
		}
	}
}
