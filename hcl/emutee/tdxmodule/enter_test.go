package tdxmodule

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// TestEnter: ABI, "TDG.VP.ENTER Leaf": the checks, and in which order.
func TestEnter(t *testing.T) {
	const (
		badRCX = uint64(0xC000010000000001)
		badRDX = uint64(0xC000010000000002)
		vapic  = uint64(0xC0000100000000AA)
	)
	for _, c := range []struct {
		what      string
		rcx, rdx  uint64
		apic      uint64
		interrupt bool
		want      Result
	}{
		{"VM 1", 1 << 52, 0x100, m2, false, Result{}},
		{"VM 2, with INVEPT", 2<<52 | 1, m2 + 0xf00, 0, false, Result{}},
		{"VM 1, flushing what is not global", 1<<52 | 3, 0, 0, false, Result{}},
		{"L1", 0, 0, 0, false, Result{Status: badRCX}},
		{"a VM that does not exist", 3 << 52, 0, 0, false, Result{Status: badRCX}},
		{"reserved, low", 1<<52 | 4, 0, 0, false, Result{Status: badRCX}},
		{"reserved, high", 1<<52 | 1<<54, 0, 0, false, Result{Status: badRCX}},
		{"the state is not aligned", 1 << 52, 0x80, 0, false, Result{Status: badRDX}},
		{"the state is shared", 1 << 52, 1 << 47, 0, false, Result{Status: badRDX}},
		{"the state before the VM", 0, 0x80, 0, false, Result{Status: badRDX}},
		{"no virtual APIC page", 1 << 52, 0, null, false, Result{Status: vapic}},
		{"L1 has an interrupt", 1 << 52, 0, 0, true, Result{Status: 0x0000112000000000}},
		{"no virtual APIC page before the interrupt", 1 << 52, 0, null, true, Result{Status: vapic}},
		{"the state is pending", 1 << 52, k4, 0, false, Result{GPA: k4, Fault: Fault{Kind: FaultHost}}},
		{"the state is nowhere", 1 << 52, memory, 0, false, Result{GPA: memory, Fault: Fault{Kind: FaultHost}}},
		{"the virtual APIC page is blocked", 1 << 52, 0, 2 * k4, false, Result{GPA: 2 * k4, Fault: Fault{Kind: FaultHost}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			v, err := filled(t, nil).NewVP()
			if err != nil {
				t.Fatal(err)
			}
			for vm := 1; vm <= 2; vm++ {
				v.set(vm, tdx.VMCS_VIRTUAL_APIC, c.apic)
			}
			if got := v.Enter(c.rcx, c.rdx, c.interrupt); got != c.want {
				t.Errorf("%+v (%#x), want %+v", got, got.Status, c.want)
			}
			vm := 0
			if c.want.OK() {
				vm = int(c.rcx >> 52)
			}
			if v.Current() != vm || vm != 0 && v.StateGPA() != x86.GPA(c.rdx) {
				t.Errorf("VM %d runs from %#x", v.Current(), v.l2[vm].state)
			}
		})
	}
}

// TestLeave: ABI, "TDG.VP.ENTER Leaf": L1's registers.
func TestLeave(t *testing.T) {
	v := newVP(t, nil)
	special := runnable()
	special.CS = hcl.Segment{Base: 0x1234, Limit: 0xfffff, Selector: 0x33, Attributes: 0xa0fb}
	special.SS.Attributes = 0xc0f3
	v.SetSpecial(2, &special)
	v.Write(0, l2.VMCSField(2, tdx.VMCS_ENTRY_INTERRUPTION), 0x80000031, all)
	v.current = 2
	x := l2.Exit{
		Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: 48, Qualification: 0x181, GLA: 0x7f0012345678, GPA: 0x5000,
		Interruption: 0x80000b0e, InterruptionError: 7, IDTVectoring: 0x80000020, IDTError: 9, Instruction: 0x11, Length: 3,
		Extended: 6,
	}
	want := l2.Outputs{
		RAX: 0x0000110200000030, RCX: 0x181, RDX: 0x7f0012345678, RSI: 0x000fffff_a0fb_0033, RDI: 0x1234, R8: 0x5000,
		R9: 7<<32 | 0x80000b0e, R10: 9<<32 | 0x80000020, R11: 3<<32 | 0x11, R12: 3, R13: 6,
	}
	got := v.Leave(&x)
	if got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
	if got.Exit() != x {
		t.Errorf("%+v, want %+v", got.Exit(), x)
	}
	var r l2.Registers
	r.RBX, r.R14, r.R15 = 1, 1, 1
	if r.Returned(&got); r.RAX != want.RAX || r.RBX|r.R14|r.R15 != 0 || r.R13 != 6 {
		t.Errorf("%#x", r)
	}
	for code, want := range map[uint32]uint64{
		tdx.VMCS_EXIT_REASON: 48, tdx.VMCS_EXIT_QUALIFICATION: 0x181, tdx.VMCS_GUEST_PHYSICAL: 0x5000, tdx.VMCS_EXIT_LENGTH: 3,
		tdx.VMCS_ENTRY_INTERRUPTION: 0x31, tdx.VMCS_IDT_ERROR_CODE: 9,
	} {
		if got := v.Read(0, l2.VMCSField(2, code)).Value; got != want {
			t.Errorf("field %#x: %#x, want %#x", code, got, want)
		}
	}
	v.Write(0, l2.VMCSField(2, tdx.VMCS_ENTRY_INTERRUPTION), 0x80000031, all)
	v.current = 2
	failure := EntryFailure()
	if v.Leave(&failure); v.get(2, tdx.VMCS_ENTRY_INTERRUPTION) != 0x80000031 || v.Current() != 0 {
		t.Error("an entry that failed delivered its event")
	}
}

// runnable are registers of 64-bit code that VM entry accepts.
func runnable() hcl.SpecialRegisters {
	data := hcl.Segment{Limit: 0xffffffff, Selector: 0x10, Attributes: 0xc093}
	return hcl.SpecialRegisters{
		CS: hcl.Segment{Limit: 0xffffffff, Selector: 8, Attributes: 0xa09b},
		DS: data, ES: data, FS: data, GS: data, SS: data,
		TR: hcl.Segment{Limit: 0xfff, Selector: 0x28, Attributes: 0x8b}, LDT: hcl.Segment{Attributes: 1 << 16},
		GDT: hcl.Table{Base: 0x1000, Limit: 0x7f}, IDT: hcl.Table{Base: 0x2000, Limit: 0xfff},
		CR0: 0x80050033, CR2: 0xdead, CR3: 0x3000, CR4: 0x2060, EFER: 0xd01,
	}
}

// TestSpecial: what an L2 sees of its registers, and what L1 reads of them by TDG.VP.RD.
func TestSpecial(t *testing.T) {
	v := newVP(t, nil)
	want := runnable()
	v.SetSpecial(1, &want)
	if got := v.Special(1); got != want {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	for code, want := range map[uint32]uint64{
		tdx.VMCS_GUEST_CS_AR: 0xa09b, tdx.VMCS_GUEST_TR_SELECTOR: 0x28, tdx.VMCS_GUEST_LDTR_AR: 1 << 16, tdx.VMCS_GUEST_GDTR_LIMIT: 0x7f,
		tdx.VMCS_GUEST_IDTR_BASE: 0x2000, tdx.VMCS_GUEST_CR0: 0x80050033, tdx.VMCS_GUEST_CR4: 0x2060, tdx.VMCS_GUEST_EFER: 0xd01,
		tdx.VMCS_ENTRY_CONTROLS: 0x3ec204,
	} {
		if got := v.Read(0, l2.VMCSField(1, code)).Value; got != want {
			t.Errorf("field %#x: %#x, want %#x", code, got, want)
		}
	}
	if v.Special(2) == want {
		t.Error("another VM has the registers too")
	}
}

// TestShadows: SDM vol. 3, "Guest/Host Masks and Read Shadows"; TD Partitioning, "L2 CR0
// and CR4": a guest that knows nothing of VMX sees no NE and VMXE that it has not set.
func TestShadows(t *testing.T) {
	v := newVP(t, nil)
	write := func(code uint32, value uint64) {
		if r := v.Write(0, l2.VMCSField(1, code), value, all); r.Status != 0 {
			t.Fatalf("%#x: %#x", code, r)
		}
	}
	if s := v.Special(1); s.CR0 != 0x21 || s.CR4 != 0x2040 {
		t.Errorf("at first: %#x, %#x", s.CR0, s.CR4)
	}
	write(tdx.VMCS_CR0_MASK, cr0NE|cr0CD|cr0NW)
	write(tdx.VMCS_CR0_SHADOW, cr0CD|cr0NW)
	write(tdx.VMCS_CR4_MASK, cr4MCE|cr4VMXE)
	s := v.Special(1)
	if s.CR0 != 0x60000001 || s.CR4 != 0 {
		t.Errorf("the guest sees %#x, %#x", s.CR0, s.CR4)
	}
	s.CR0, s.CR4 = 0x80000013, 0x60 // it turns caches and paging on
	v.SetSpecial(1, &s)
	if got := v.Special(1); got.CR0 != 0x80000013 || got.CR4 != 0x60 {
		t.Errorf("the guest sees %#x, %#x", got.CR0, got.CR4)
	}
	if cr0, cr4 := v.get(1, tdx.VMCS_GUEST_CR0), v.get(1, tdx.VMCS_GUEST_CR4); cr0 != 0x80000033 || cr4 != 0x2060 {
		t.Errorf("the registers hold %#x, %#x", cr0, cr4)
	}
	if got := v.Read(0, l2.VMCSField(1, tdx.VMCS_CR0_SHADOW)).Value; got != 0 {
		t.Errorf("L1's shadow: %#x", got)
	}
}
