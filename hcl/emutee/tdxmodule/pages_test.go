package tdxmodule

import (
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// eeq is an extended exit qualification with its information.
func eeq(kind, wanted, at, state uint64, leaf bool) uint64 {
	info := wanted | at<<3 | state<<6
	if leaf {
		info |= 1 << 14
	}
	return kind | info<<32
}

// TestAccept: ABI, "TDG.MEM.PAGE.ACCEPT Leaf", each way that it ends.
func TestAccept(t *testing.T) {
	const invalid = uint64(0xC000010000000001)
	write := uint64(2)
	for _, c := range []struct {
		what   string
		rcx    uint64
		status uint64
		fault  Fault
	}{
		{"pending", 1 << 12, 0, Fault{}},
		{"pending in 2 MiB", 3*m2 | 1, 0, Fault{}},
		{"accepted before", 0, 0x00000B0A00000000, Fault{}},
		{"accepted before in 2 MiB", m2 | 1, 0x00000B0A00000001, Fault{}},
		{"part of an accepted 2 MiB", m2 + k4, 0x00000B0A00000001, Fault{}},
		{"2 MiB that are mapped in 4 KiB", 0 | 1, 0xC0000B0B00000001, Fault{}},
		{"blocked", 2 * k4, 0, Fault{FaultHost, write, eeq(1, 0, 0, 1, true)}},
		{"free", 3 * k4, 0, Fault{FaultHost, write, eeq(1, 0, 0, 0, false)}},
		{"4 KiB of pending 2 MiB", 3*m2 + k4, 0, Fault{FaultHost, write, eeq(1, 0, 1, 2, true)}},
		{"4 KiB of a free region", 2*m2 + k4, 0, Fault{FaultHost, write, eeq(1, 0, 1, 0, false)}},
		{"2 MiB of a free region", 2*m2 | 1, 0, Fault{FaultHost, write, eeq(1, 1, 1, 0, false)}},
		{"beyond the memory", 4 * m2, 0, Fault{FaultHost, write, eeq(1, 0, 2, 0, false)}},
		{"1 GiB", 2, invalid, Fault{}},
		{"level 7", 7, invalid, Fault{}},
		{"a low reserved bit", 1<<12 | 1<<3, invalid, Fault{}},
		{"a high reserved bit", 1<<12 | 1<<52, invalid, Fault{}},
		{"2 MiB that are not aligned", 3*m2 + k4 | 1, invalid, Fault{}},
		{"shared", 1<<47 | 1<<12, invalid, Fault{}},
		{"above 48 bits", 1<<48 | 1<<12, invalid, Fault{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			td := filled(t, nil)
			want := Result{Status: c.status, Fault: c.fault}
			if c.fault.Kind != FaultNone {
				want.GPA = x86.GPA(c.rcx &^ 7)
			}
			got, err := td.Accept(c.rcx, nil)
			if err != nil || got != want {
				t.Errorf("%+v (%#x, %#x), want %+v (%#x, %#x)", got, got.Status, got.Fault.Extended, want, want.Status, want.Fault.Extended)
			}
			if got.OK() && !td.Check(x86.GPA(c.rcx&^7), Write, 0).OK() {
				t.Error("accepted, and yet not L1's")
			}
		})
	}
}

// TestAcceptUnblocks: attributes given to a pending page hold from its acceptance on (TD
// Partitioning, "L2 Page Attributes").
func TestAcceptUnblocks(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(k4, 0), 1, rwx)
	if f := td.Check(k4, Write, 1); f.Kind != FaultL1 {
		t.Errorf("before: %+v", f)
	}
	accept(t, td, operand(k4, 0))
	if f := td.Check(k4, Write, 1); !f.OK() {
		t.Errorf("after: %+v", f)
	}
}

// TestReadAttributes: ABI, "TDG.MEM.PAGE.ATTR.RD Leaf".
func TestReadAttributes(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(large1, 1), 1, rwx)
	setAttributes(t, td, operand(large1, 1), 2, tdx.GPA_ATTR_R|tdx.GPA_ATTR_PWA|tdx.GPA_ATTR_SSS|tdx.GPA_ATTR_VGP)
	setAttributes(t, td, operand(3*m2, 1), 2, tdx.GPA_ATTR_XU)
	for _, c := range []struct {
		what string
		rcx  uint64
		want Result
	}{
		{"no alias", 0x123, Result{}},
		{"two aliases, within 2 MiB", m2 + 0x12345, Result{RCX: m2 | 1, RDX: 0x8071<<32 | 0x800f<<16}},
		{"pending", k4, Result{RCX: k4 | 1<<62}},
		{"pending with an alias", 3*m2 + k4, Result{RCX: 3*m2 | 1 | 1<<62, RDX: 0x8008 << 32}},
		{"blocked", 2*k4 + 1, Result{GPA: 2 * k4, Fault: Fault{Kind: FaultHost}}},
		{"free", 3 * k4, Result{GPA: 3 * k4, Fault: Fault{Kind: FaultHost}}},
		{"beyond the memory", 4 * m2, Result{GPA: 4 * m2, Fault: Fault{Kind: FaultHost}}},
		{"shared", 1 << 47, Result{Status: 0xC000010000000001}},
		{"above 48 bits", 1 << 51, Result{Status: 0xC000010000000001}},
		{"above 52 bits", 1 << 63, Result{Status: 0xC000010000000001}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := td.ReadAttributes(c.rcx); got != c.want {
				t.Errorf("%+v (%#x), want %+v (%#x)", got, got.RDX, c.want, c.want.RDX)
			}
		})
	}
}

// TestWriteAttributes: ABI, "TDG.MEM.PAGE.ATTR.WR Leaf", on a page of which VM 1 has R and
// W, and VM 2 nothing.
func TestWriteAttributes(t *testing.T) {
	const (
		badRCX = uint64(0xC000010000000001)
		badRDX = uint64(0xC000010000000002)
		badR8  = uint64(0xC000010000000008)
		attr   = uint64(0xC0000B1100000000)
		before = uint16(tdx.GPA_ATTR_R | tdx.GPA_ATTR_W)
	)
	for _, c := range []struct {
		what         string
		rcx, rdx, r8 uint64
		want         Result
		after        [2]uint16 // of VM 1 and VM 2
	}{
		{"all of both", 0, 0x800f_800f_0000, 0x000f_000f_0000, Result{RDX: 0x800f_800f_0000}, [2]uint16{15, 15}},
		{"one bit more", 0, 0x8004_0000, 0x0004_0000, Result{RDX: 0x8007_0000}, [2]uint16{7, 0}},
		{"one bit less", 0, 0x8000_0000, 0x0002_0000, Result{RDX: 0x8001_0000}, [2]uint16{1, 0}},
		{"the alias goes", 0, 0x8000_0000, 0x000f_0000, Result{RDX: 0x8000_0000}, [2]uint16{}},
		{"the alias goes, with what else it had", 0, 0x8070_0000, 0x007f_0000, Result{RDX: 0x8000_0000}, [2]uint16{}},
		{"nothing valid", 0, 0, 0x007f_007f_0000, Result{}, [2]uint16{before, 0}},
		{"valid, and an empty mask", 0, 0x8000_0000, 0, Result{RDX: 0x8003_0000}, [2]uint16{before, 0}},
		{"a new alias", 0, 0x8001_0000_0000, 0x000f_0000_0000, Result{RDX: 0x8001_0000_0000}, [2]uint16{before, 1}},
		{"no new alias without R, W, Xs, Xu", 0, 0x8070_0000_0000, 0x007f_0000_0000, Result{RDX: 0x8070_0000_0000}, [2]uint16{before, 0}},
		{"bits outside of the mask", 0, 0xff81_0000_0000, 0x0001_0000_0000, Result{RDX: 0x8001_0000_0000}, [2]uint16{before, 1}},
		{"INVEPT", 0, 0, 0x8000_8000_0000, Result{}, [2]uint16{before, 0}},
		{"VGP, PWA and SSS", 0, 0x8070_0000, 0x0070_0000, Result{RDX: 0x8073_0000}, [2]uint16{0x73, 0}},

		{"W without R", 0, 0x8002_0000_0000, 0x000f_0000_0000, Result{Status: attr}, [2]uint16{before, 0}},
		{"PWA without R", 0, 0x8028_0000_0000, 0x007f_0000_0000, Result{Status: attr}, [2]uint16{before, 0}},
		{"R taken, W left", 0, 0x8000_0000, 0x0001_0000, Result{Status: attr, RDX: 0x8003_0000}, [2]uint16{before, 0}},
		{"SVE", 0, 0x8081_0000_0000, 0x0081_0000_0000, Result{Status: attr}, [2]uint16{before, 0}},
		{"a reserved bit", 0, 0x8101_0000_0000, 0x0101_0000_0000, Result{Status: attr}, [2]uint16{before, 0}},
		{"one legal, one not", 0, 0x8002_8001_0000, 0x000f_000f_0000, Result{Status: attr, RDX: 0x8001_0000}, [2]uint16{before, 0}},

		{"attributes of L1", 0, 0x8001, 0, Result{Status: badRDX}, [2]uint16{before, 0}},
		{"a mask of L1", 0, 0, 1, Result{Status: badR8}, [2]uint16{before, 0}},
		{"attributes of a VM that does not exist", 0, 0x8001 << 48, 0, Result{Status: badRDX}, [2]uint16{before, 0}},
		{"its mask", 0, 0, 1 << 48, Result{Status: badR8}, [2]uint16{before, 0}},
		{"not valid, and yet not zero", 0, 0x0001_0000, 0x0001_0000, Result{Status: badRDX}, [2]uint16{before, 0}},
		{"level 3", 3, 0, 0, Result{Status: badRCX}, [2]uint16{before, 0}},
		{"reserved bits", 1 << 11, 0, 0, Result{Status: badRCX}, [2]uint16{before, 0}},
		{"shared", 1 << 47, 0, 0, Result{Status: badRCX}, [2]uint16{before, 0}},
		{"not aligned", k4 | 1, 0, 0, Result{Status: badRCX}, [2]uint16{before, 0}},
		{"operands before the page", 3, 0x8001, 0, Result{Status: badRDX}, [2]uint16{before, 0}},

		{"2 MiB that are mapped in 4 KiB", 0 | 1, 0, 0, Result{Status: 0xC0000B0B00000001}, [2]uint16{before, 0}},
		{"pending", k4, 0x800f_0000, 0x000f_0000, Result{RCX: k4 | 1<<62, RDX: 0x800f_0000}, [2]uint16{before, 0}},
		{"4 KiB of 2 MiB", m2, 0, 0, Result{GPA: m2, Fault: Fault{FaultHost, 2 | 0x38, eeq(5, 0, 1, 4, true)}}, [2]uint16{before, 0}},
		{"blocked", 2 * k4, 0, 0, Result{GPA: 2 * k4, Fault: Fault{FaultHost, 2, eeq(5, 0, 0, 1, true)}}, [2]uint16{before, 0}},
		{"free", 3 * k4, 0, 0, Result{GPA: 3 * k4, Fault: Fault{FaultHost, 2, eeq(5, 0, 0, 0, false)}}, [2]uint16{before, 0}},
		{"beyond the memory", 4 * m2, 0, 0, Result{GPA: 4 * m2, Fault: Fault{FaultHost, 2, eeq(5, 0, 2, 0, false)}}, [2]uint16{before, 0}},
	} {
		t.Run(c.what, func(t *testing.T) {
			td := filled(t, nil)
			setAttributes(t, td, 0, 1, before)
			if got := td.WriteAttributes(c.rcx, c.rdx, c.r8); got != c.want {
				t.Errorf("%+v (%#x, %#x), want %+v (%#x, %#x)", got, got.Status, got.RDX, c.want, c.want.Status, c.want.RDX)
			}
			p := td.Page(0)
			if got := [2]uint16{p.Attributes[1], p.Attributes[2]}; got != c.after {
				t.Errorf("attributes %#x, want %#x", got, c.after)
			}
		})
	}
}
