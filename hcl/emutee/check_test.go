package emutee

import (
	"fmt"
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestAccessChecks is table 15-39 of APM vol. 2, row by row, for an SNP-active
// guest.
func TestAccessChecks(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true, snp.RMP_RWX, snp.RMP_R)
	prepare(t, r, 0x1000, k4, false)
	r.RMPUpdate(0x3000, k4, OwnerFirmware)
	prepare(t, r, large1, m2, true)
	const host, firmware = x86.GPA(0x2000), x86.GPA(0x3000)
	shared := func(bits uint64) Fault {
		return Fault{FaultNPF, snp.NPF_P | snp.NPF_US | snp.NPF_RMP | snp.NPF_FINAL | bits}
	}
	table := func(bits uint64) Fault { return Fault{FaultNPF, npf(bits).Code&^snp.NPF_FINAL | snp.NPF_TABLE} }
	vc := Fault{FaultVC, 0x404}
	for _, c := range []struct {
		what   string
		gpa    x86.GPA
		access Access
		vmpl   uint8
		want   Fault
	}{
		{"private read", page0, 0, 0, Fault{}},
		{"private write", page0 + 0xfff, Write, 0, Fault{}},
		{"fetch", page0, Fetch, 0, Fault{}},
		{"page table walk", page0, Table, 0, Fault{}},

		{"C=1 RMP-Covered", beyond, 0, 0, npf(0)},
		{"C=1 RMP-Covered, write", beyond, Write, 0, npf(snp.NPF_W)},
		{"C=1 Guest-Owned", host, 0, 0, npf(0)},
		{"C=1 Guest-Owned, write", host, Write, 0, npf(snp.NPF_W)},
		{"C=1 Mutable", firmware, 0, 0, npf(0)},
		{"C=1 Page-Size: mapped in 2M", page0, Nested2M, 0, npf(0)},
		{"C=1 Page-Size: mapped in 4K", large1, Nested4K, 0, npf(0)},
		{"C=1 Page-Size agrees in 4K", page0, Nested4K, 0, Fault{}},
		{"C=1 Page-Size agrees in 2M", large1 + 0x5000, Nested2M, 0, Fault{}},
		{"C=1 Validate", 0x1000, 0, 0, vc},
		{"C=1 VMPL", page0, Write, 2, npf(snp.NPF_W | snp.NPF_VMPL)},
		{"C=1 VMPL, permissions of another level", page0, Write, 1, Fault{}},
		{"C=1 VMPL that does not exist", page0, 0, 9, npf(snp.NPF_VMPL)},

		{"fetch RMP-Covered", beyond, Fetch, 0, npf(snp.NPF_ID)},
		{"fetch Guest-Owned, whatever the C bit", host, Fetch | Shared, 0, npf(snp.NPF_ID)},
		{"fetch Validate", 0x1000, Fetch, 0, vc},
		{"fetch VMPL", page0, Fetch, 2, npf(snp.NPF_ID | snp.NPF_VMPL)},
		{"walk Guest-Owned, whatever the C bit", host, Table | Shared, 0, table(0)},
		{"walk Validate", 0x1000, Table, 0, vc},
		{"walk VMPL: dirty bit", page0, Table | Write, 2, table(snp.NPF_W | snp.NPF_VMPL)},

		{"C=0 write Hypervisor-Owned", page0, Shared | Write, 0, shared(snp.NPF_W)},
		{"C=0 write of the host's", host, Shared | Write, 3, Fault{}},
		{"C=0 write beyond the RMP is the host's", beyond, Shared | Write, 0, Fault{}},
		{"C=0 write of 2M with one page of the guest", small2 - x86.LargePageSize, Shared | Write | Nested2M, 0, shared(snp.NPF_W)},
		{"C=0 write of 2M, all the host's", small2, Shared | Write | Nested2M, 0, Fault{}},
		{"C=0 read is not checked", page0, Shared, 3, Fault{}},

		// Their order: Page-Size before Validate, Validate before VMPL.
		{"not validated and wrong size", 0x1000, Nested2M, 0, npf(0)},
		{"not validated and not permitted", 0x1000, Write, 3, vc},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := r.Check(c.gpa, c.access, c.vmpl); got != c.want {
				t.Errorf("%+v (%#x), want %+v (%#x)", got, got.Code, c.want, c.want.Code)
			}
		})
	}
}

// TestPermissions is table 15-36 of APM vol. 2: each bit, and what it lets.
func TestPermissions(t *testing.T) {
	r, err := NewRMP(memory, true)
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, r, page0, k4, true)
	for p := range uint8(snp.RMP_ALL + 1) {
		if res := r.RMPAdjust(0, page0, k4, 2, p, false); !res.OK() {
			t.Fatal(res)
		}
		legal := p&snp.RMP_W == 0 || p&snp.RMP_R != 0 // write without read is illegal
		for _, c := range []struct {
			access Access
			want   bool
		}{
			{0, p&snp.RMP_R != 0},
			{User, p&snp.RMP_R != 0},
			{Write, p&snp.RMP_W != 0 && legal},
			{Table | Write, p&snp.RMP_W != 0 && legal},
			{Fetch | User, p&snp.RMP_UX != 0},
			{Fetch, p&snp.RMP_SX != 0},
			{ShadowStack | Write, p&snp.RMP_SSS != 0 && p&snp.RMP_W != 0 && legal},
			{ShadowStack | Write | User, p&snp.RMP_W != 0 && legal},
		} {
			f := r.Check(page0, c.access, 2)
			if f.OK() != c.want {
				t.Errorf("permissions %05b, access %08b: allowed %v, want %v", p, c.access, f.OK(), c.want)
			}
			if !f.OK() && (f.Code&snp.NPF_SSS != 0) != (p&snp.RMP_SSS != 0) {
				t.Errorf("permissions %05b: bit 37 of %#x is not the SSS permission", p, f.Code)
			}
		}
	}
}

// TestWithoutSSS: where the feature is off, shadow stacks are ordinary memory and
// bit 37 stays clear.
func TestWithoutSSS(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true, snp.RMP_R|snp.RMP_W, snp.RMP_SSS)
	if f := r.Check(page0, ShadowStack|Write, 1); !f.OK() {
		t.Errorf("shadow stack: %+v", f)
	}
	if f := r.Check(page0, ShadowStack, 2); f != npf(snp.NPF_SS|snp.NPF_VMPL) {
		t.Errorf("%+v (%#x)", f, f.Code)
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []uint64{0, 1 << 20, x86.LargePageSize + x86.PageSize, maxMemory + x86.LargePageSize} {
		if _, err := NewRMP(size, false); err == nil {
			t.Errorf("a table for %#x bytes was made", size)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, large1, m2, true, snp.RMP_RWX)
	prepare(t, r, page0, k4, true)
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"Check", func() { r.Check(large1, Write, 1); r.Check(beyond, Write, 1) }},
		{"PValidate", func() { r.PValidate(0, page0, k4, false); r.PValidate(0, page0, k4, true) }},
		{"RMPAdjust", func() { r.RMPAdjust(0, page0, k4, 1, snp.RMP_R, true) }},
		{"RMPQuery", func() { r.RMPQuery(0, page0, 1) }},
		{"EnterVMSA", func() { r.EnterVMSA(page0); r.LeaveVMSA(page0) }},
		{"PSmash", func() { r.PSmash(large1); r.Unsmash(large1) }},
		{"RMPUpdate", func() { r.RMPUpdate(small2, m2, OwnerGuest); r.RMPUpdate(small2, m2, OwnerHost) }},
		{"PageStateChange", func() { r.PageStateChange(2<<52 | 0x3<<12) }},
	} {
		if n := testing.AllocsPerRun(20, c.do); n != 0 {
			t.Errorf("%s allocates %v times", c.what, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r := newRMP(b)
	prepare(b, r, page0, k4, true, snp.RMP_RWX)
	for b.Loop() {
		if !r.Check(page0, Write, 1).OK() {
			b.Fatal("refused")
		}
	}
}

func ExampleRMP_Check() {
	r, err := NewRMP(2<<20, false)
	if err != nil {
		return
	}
	r.RMPUpdate(0, snp.RMP_PG_SIZE_4K, OwnerGuest)
	fmt.Printf("%#x\n", r.Check(0, Write, snp.VMPL0).Code)
	r.PValidate(snp.VMPL0, 0, snp.RMP_PG_SIZE_4K, true)
	fmt.Println(r.Check(0, Write, snp.VMPL0).OK(), r.Check(0, Write, snp.VMPL2).OK())
	// Output:
	// 0x404
	// true false
}
