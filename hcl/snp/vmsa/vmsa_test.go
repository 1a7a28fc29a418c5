package vmsa

import (
	"encoding/binary"
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// layout is table B-4 of APM vol. 2, by its offsets, for the fields of eight
// bytes that SaveArea holds.
var layout = []struct {
	at   int
	read func(*SaveArea) uint64
}{
	{0x148, func(s *SaveArea) uint64 { return s.Special.CR4 }},
	{0x150, func(s *SaveArea) uint64 { return s.Special.CR3 }},
	{0x158, func(s *SaveArea) uint64 { return s.Special.CR0 }},
	{0x240, func(s *SaveArea) uint64 { return s.Special.CR2 }},
	{0x068, func(s *SaveArea) uint64 { return s.Special.GDT.Base }},
	{0x088, func(s *SaveArea) uint64 { return s.Special.IDT.Base }},
	{0x140, func(s *SaveArea) uint64 { return s.XSS }},
	{0x160, func(s *SaveArea) uint64 { return s.DR7 }},
	{0x168, func(s *SaveArea) uint64 { return s.DR6 }},
	{0x180, func(s *SaveArea) uint64 { return s.DR0 }},
	{0x188, func(s *SaveArea) uint64 { return s.DR1 }},
	{0x190, func(s *SaveArea) uint64 { return s.DR2 }},
	{0x198, func(s *SaveArea) uint64 { return s.DR3 }},
	{0x170, func(s *SaveArea) uint64 { return s.Registers.RFLAGS }},
	{0x178, func(s *SaveArea) uint64 { return s.Registers.RIP }},
	{0x1d8, func(s *SaveArea) uint64 { return s.Registers.RSP }},
	{0x1f8, func(s *SaveArea) uint64 { return s.Registers.RAX }},
	{0x308, func(s *SaveArea) uint64 { return s.Registers.RCX }},
	{0x310, func(s *SaveArea) uint64 { return s.Registers.RDX }},
	{0x318, func(s *SaveArea) uint64 { return s.Registers.RBX }},
	{0x328, func(s *SaveArea) uint64 { return s.Registers.RBP }},
	{0x330, func(s *SaveArea) uint64 { return s.Registers.RSI }},
	{0x338, func(s *SaveArea) uint64 { return s.Registers.RDI }},
	{0x340, func(s *SaveArea) uint64 { return s.Registers.R8 }},
	{0x348, func(s *SaveArea) uint64 { return s.Registers.R9 }},
	{0x350, func(s *SaveArea) uint64 { return s.Registers.R10 }},
	{0x358, func(s *SaveArea) uint64 { return s.Registers.R11 }},
	{0x360, func(s *SaveArea) uint64 { return s.Registers.R12 }},
	{0x368, func(s *SaveArea) uint64 { return s.Registers.R13 }},
	{0x370, func(s *SaveArea) uint64 { return s.Registers.R14 }},
	{0x378, func(s *SaveArea) uint64 { return s.Registers.R15 }},
	{0x200, func(s *SaveArea) uint64 { return s.STAR }},
	{0x208, func(s *SaveArea) uint64 { return s.LSTAR }},
	{0x210, func(s *SaveArea) uint64 { return s.CSTAR }},
	{0x218, func(s *SaveArea) uint64 { return s.SFMASK }},
	{0x220, func(s *SaveArea) uint64 { return s.KernelGSBase }},
	{0x228, func(s *SaveArea) uint64 { return s.SysenterCS }},
	{0x230, func(s *SaveArea) uint64 { return s.SysenterESP }},
	{0x238, func(s *SaveArea) uint64 { return s.SysenterEIP }},
	{0x268, func(s *SaveArea) uint64 { return s.PAT }},
	{0x2e0, func(s *SaveArea) uint64 { return s.SpecCtrl }},
	{0x390, func(s *SaveArea) uint64 { return s.Exit.Info1 }},
	{0x398, func(s *SaveArea) uint64 { return s.Exit.Info2 }},
	{0x3a0, func(s *SaveArea) uint64 { return s.Exit.IntInfo }},
	{0x3a8, func(s *SaveArea) uint64 { return s.Exit.NRIP }},
	{0x3b0, func(s *SaveArea) uint64 { return s.Features }},
	{0x3b8, func(s *SaveArea) uint64 { return s.VINTR }},
	{0x3c0, func(s *SaveArea) uint64 { return s.Exit.Code }},
	{0x3c8, func(s *SaveArea) uint64 { return s.VirtualTOM }},
	{0x3d0, func(s *SaveArea) uint64 { return s.TLBID }},
	{0x3d8, func(s *SaveArea) uint64 { return s.PCPUID }},
	{0x3e0, func(s *SaveArea) uint64 { return s.EventInj }},
	{0x3e8, func(s *SaveArea) uint64 { return s.XCR0 }},
}

func TestVMSALayout(t *testing.T) {
	for _, row := range layout {
		page := make([]byte, snp.VMSA_SIZE)
		binary.LittleEndian.PutUint64(page[row.at:], 0x1122334455667788)
		s := decode(t, page)
		if got := row.read(&s); got != 0x1122334455667788 {
			t.Errorf("offset %#x: %#x", row.at, got)
		}
		out := make([]byte, snp.VMSA_SIZE)
		if err := s.Encode(out); err != nil {
			t.Fatal(err)
		}
		if got := binary.LittleEndian.Uint64(out[row.at:]); got != 0x1122334455667788 {
			t.Errorf("offset %#x: %#x written", row.at, got)
		}
	}
	if want := len(layout) + 1; len((&SaveArea{}).words()) != want { // and EFER
		t.Errorf("the table has %d rows, the codec %d fields", want, len((&SaveArea{}).words()))
	}
}

// TestVMSASmallFields: the fields of other sizes in table B-4.
func TestVMSASmallFields(t *testing.T) {
	page := make([]byte, snp.VMSA_SIZE)
	page[0x0ca], page[0x0cb] = 2, 3
	le := binary.LittleEndian
	le.PutUint32(page[0x2e8:], 0x55555554)
	le.PutUint32(page[0x2ec:], 7)
	le.PutUint32(page[0x408:], 0x1f80)
	le.PutUint16(page[0x410:], 0x37f)
	le.PutUint32(page[0x064:], 0x7f)
	le.PutUint32(page[0x084:], 0xfff)
	le.PutUint64(page[0x0d0:], 0x1d01)
	s := decode(t, page)
	if s.VMPL != 2 || s.CPL != 3 || s.PKRU != 0x55555554 || s.TSCAux != 7 || s.MXCSR != 0x1f80 || s.X87FCW != 0x37f {
		t.Errorf("%+v", s)
	}
	if s.Special.GDT.Limit != 0x7f || s.Special.IDT.Limit != 0xfff {
		t.Errorf("tables %+v %+v", s.Special.GDT, s.Special.IDT)
	}
	// SVME is hidden from the guest; LMA follows from LME and CR0.PG.
	if !s.SVME || s.Special.EFER != 0x0901 {
		t.Errorf("EFER %#x, SVME %v", s.Special.EFER, s.SVME)
	}
	le.PutUint64(page[0x158:], 1<<31|1)
	if s = decode(t, page); s.Special.EFER != 0x0d01 {
		t.Errorf("EFER %#x with paging", s.Special.EFER)
	}
	for _, n := range []int{0, snp.VMSA_SIZE - 1, snp.VMSA_SIZE + 1} {
		if err := s.Decode(make([]byte, n)); !errors.Is(err, ErrVMSA) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := s.Encode(make([]byte, n)); !errors.Is(err, ErrVMSA) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestSegments: APM vol. 2 table B-2 and §15.5.1, with descriptors that systems
// use.
func TestSegments(t *testing.T) {
	for _, c := range []struct {
		what       string
		attributes uint16 // of SVM
		want       uint32 // of VMX
	}{
		{"64-bit code", 0xa9b, 0xa09b},
		{"flat data", 0xc93, 0xc093},
		{"real-mode code", 0x09b, 0x009b},
		{"busy TSS", 0x08b, 0x008b},
		{"available bit", 0x193, 0x1093},
		{"user code, L and G", 0xafb, 0xa0fb},
		{"absent", 0x000, hcl.SegUnusable},
		{"absent with a type", 0x013, 0x13 | hcl.SegUnusable},
	} {
		for _, at := range []struct {
			offset int
			get    func(*hcl.SpecialRegisters) hcl.Segment
		}{
			{0x00, func(r *hcl.SpecialRegisters) hcl.Segment { return r.ES }},
			{0x10, func(r *hcl.SpecialRegisters) hcl.Segment { return r.CS }},
			{0x30, func(r *hcl.SpecialRegisters) hcl.Segment { return r.DS }},
			{0x40, func(r *hcl.SpecialRegisters) hcl.Segment { return r.FS }},
			{0x50, func(r *hcl.SpecialRegisters) hcl.Segment { return r.GS }},
			{0x70, func(r *hcl.SpecialRegisters) hcl.Segment { return r.LDT }},
			{0x90, func(r *hcl.SpecialRegisters) hcl.Segment { return r.TR }},
		} {
			page := make([]byte, snp.VMSA_SIZE)
			le := binary.LittleEndian
			le.PutUint16(page[at.offset:], 0x33)
			le.PutUint16(page[at.offset+2:], c.attributes)
			le.PutUint32(page[at.offset+4:], 0xfffff)
			le.PutUint64(page[at.offset+8:], 0xffff800000001000)
			s := decode(t, page)
			want := hcl.Segment{Base: 0xffff800000001000, Limit: 0xfffff, Selector: 0x33, Attributes: c.want}
			if got := at.get(&s.Special); got != want {
				t.Errorf("%s at %#x: %+v, want %+v", c.what, at.offset, got, want)
			}
			out := make([]byte, snp.VMSA_SIZE)
			if err := s.Encode(out); err != nil {
				t.Fatal(err)
			}
			if got := le.Uint16(out[at.offset+2:]); got != c.attributes {
				t.Errorf("%s at %#x: attributes %#x written, want %#x", c.what, at.offset, got, c.attributes)
			}
		}
	}
}

// TestCPL: the CPL of SVM and the DPL of the stack segment are one (APM vol. 2
// §4.9.1).
func TestCPL(t *testing.T) {
	for _, c := range []struct {
		what        string
		cr0, rflags uint64
		dpl         uint32
		want        uint8
	}{
		{"real mode", 0, 2, 3, 0},
		{"virtual 8086", 1, 1<<17 | 2, 0, 3},
		{"kernel", 1, 2, 0, 0},
		{"user", 1, 2, 3, 3},
	} {
		var s SaveArea
		special := hcl.SpecialRegisters{CR0: c.cr0, EFER: 1 << 12}
		special.SS.Attributes = 0xc093 | c.dpl<<hcl.SegDPLShift
		s.SetRegisters(&hcl.Registers{RFLAGS: c.rflags}, &special)
		if s.CPL != c.want || s.Special.EFER != 0 {
			t.Errorf("%s: CPL %d, EFER %#x", c.what, s.CPL, s.Special.EFER)
		}
		page := make([]byte, snp.VMSA_SIZE)
		if err := s.Encode(page); err != nil {
			t.Fatal(err)
		}
		back := decode(t, page)
		if dpl := back.Special.SS.Attributes >> hcl.SegDPLShift & 3; uint8(dpl) != c.want {
			t.Errorf("%s: SS.DPL %d", c.what, dpl)
		}
	}
}

func TestVMSANoAllocation(t *testing.T) {
	page := make([]byte, snp.VMSA_SIZE)
	s, buffer := new(SaveArea), new([4]byte)
	if n := testing.AllocsPerRun(20, func() {
		if s.Decode(page) != nil || s.Violation(0) == ViolationNone {
			t.Fatal("an empty page would run")
		}
		e, _ := s.HCLExit(buffer)
		s.SetExit(&e, 0)
		if s.Encode(page) != nil {
			t.Fatal("not written")
		}
	}); n != 0 {
		t.Errorf("a run allocates %v times", n)
	}
}

func BenchmarkVMSA(b *testing.B) {
	page := make([]byte, snp.VMSA_SIZE)
	var s SaveArea
	for b.Loop() {
		if err := s.Decode(page); err != nil {
			b.Fatal(err)
		}
		if err := s.Encode(page); err != nil {
			b.Fatal(err)
		}
	}
}
