package measure

import (
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	a := Part{Name: "kernel", Kind: KindNormal, GPA: 0x1000, Bytes: 0x2000, Digest: Digest{1}}
	b := Part{Kind: KindParameter, GPA: 0x8000, Bytes: 0x1000, Digest: Digest{2}}
	v1 := Part{Kind: KindVMSA, GPA: kvmVMSA, Bytes: 0x1000, Digest: Digest{3}}
	v2 := v1
	v2.Digest = Digest{4}
	longer, changed, moved := a, a, a
	longer.Bytes, longer.Digest = 0x3000, Digest{9}
	changed.Digest = Digest{9}
	moved.GPA = 0x4000
	for _, tt := range []struct {
		name      string
		want, got []Part
		lines     []string
	}{
		{"same", []Part{a, b}, []Part{a, b}, nil},
		{"nothing", nil, nil, nil},
		{"contents", []Part{a, b}, []Part{changed, b}, []string{"kernel at 0x1000: contents differ"}},
		{"size", []Part{a, b}, []Part{longer, b}, []string{"kernel at 0x1000: 12288 bytes instead of 8192"}},
		{"missing", []Part{a, b}, []Part{a}, []string{"parameter pages at 0x8000: missing"}},
		{"added", []Part{a}, []Part{a, b}, []string{"parameter pages at 0x8000: not in the reference"}},
		{"moved", []Part{a}, []Part{moved}, []string{"kernel at 0x1000: missing", "kernel at 0x4000: not in the reference"}},
		{"order", []Part{a, b}, []Part{b, a}, []string{"parameter pages at 0x8000: loaded where kernel at 0x1000 belongs"}},
		{"second VMSA", []Part{v1, v1}, []Part{v1, v2}, []string{"vmsa pages at 0xfffffffff000: contents differ"}},
		{"a VMSA less", []Part{v1, v1}, []Part{v1}, []string{"vmsa pages at 0xfffffffff000: missing"}},
	} {
		var lines []string
		for _, d := range Compare(tt.want, tt.got) {
			lines = append(lines, d.String())
		}
		if !slices.Equal(lines, tt.lines) {
			t.Errorf("%s: %q, want %q", tt.name, lines, tt.lines)
		}
	}
}
