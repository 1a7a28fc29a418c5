package kvm

import (
	"slices"
	"testing"

	"keel/hcl"
)

// TestWithoutXSave checks that nothing remains that needs XCR0, and that the rest
// stays.
func TestWithoutXSave(t *testing.T) {
	const all = ^uint32(0)
	got := withoutXSave([]hcl.CPUIDEntry{
		{Leaf: 0x1, EAX: 5, EBX: 6, ECX: all, EDX: all},
		{Leaf: 0x7, Indexed: true, EAX: 1, EBX: all, ECX: all, EDX: all},
		{Leaf: 0x7, Subleaf: 1, Indexed: true, EAX: all},
		{Leaf: 0xd, Indexed: true, EAX: 7},
		{Leaf: 0xd, Subleaf: 1, Indexed: true, EAX: 0xf},
		{Leaf: 0x80000001, ECX: all, EDX: 7},
	})
	want := []hcl.CPUIDEntry{
		{Leaf: 0x1, EAX: 5, EBX: 6, ECX: 0xc3ffefff, EDX: all},
		{Leaf: 0x7, Indexed: true, EBX: 0x23dcffdf, ECX: 0xffffa1a5, EDX: 0xfc3ffef3},
		{Leaf: 0x80000001, ECX: 0xfffe77ff, EDX: 7},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
