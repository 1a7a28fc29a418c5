package tdxmodule

import (
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// Statuses of metadata fields, without operands.
const (
	idIncorrect = uint64(0xC0000C0000000000)
	notWritable = uint64(0xC0000C0100000000)
	notReadable = uint64(0xC0000C0200000000)
	notValid    = uint64(0xC0000C0300000000)
)

// TestVPFields: ABI, "VCPU-Scope Metadata" and "L2 VMCS": masks and special handling. A
// row writes a value with a mask, and reads back.
func TestVPFields(t *testing.T) {
	f := func(code uint32) uint64 { return l2.VMCSField(1, code) }
	for _, c := range []struct {
		what        string
		id          uint64
		value, mask uint64
		status      uint64
		old, after  uint64
	}{
		{"a selector", f(0x804), 0xffff, all, 0, 0, 0xffff},
		{"a selector of 17 bits", f(0x804), 0x1ffff, all, notValid, 0, 0},
		{"its low byte", f(0x804), 0xffff, 0xff, 0, 0, 0xff},
		{"TR access rights", f(0x4822), 0x8b | 1<<16, all, 0, 0x8b, 0x1008b},
		{"CR3", f(0x6802), 0x123000, all, 0, 0, 0x123000},
		{"an empty mask", f(0x6802), 1, 0, notWritable, 0, 0},
		{"VPID", f(0), 1, all, notWritable, 0, 0},
		{"pin controls", f(0x4000), 0x29, all, notWritable, 0, 0x29},
		{"exit controls", f(0x400c), 0, all, notWritable, 0, 0x1f3c8204},
		{"host RSP", f(0x6c14), 1, all, notWritable, 0, 0},

		{"CR0: PE, NE, PG", f(0x6800), 0x80000021, all, 0, 0x21, 0x80000021},
		{"CR0: real mode", f(0x6800), 0x20, all, 0, 0x21, 0x20},
		{"CR0 without NE", f(0x6800), 0x80000001, all, notValid, 0, 0x21},
		{"CR0 with CD", f(0x6800), 0x40000021, all, notValid, 0, 0x21},
		{"CR0 with CD, masked off", f(0x6800), 0xc0000021, 0x80000000, 0, 0x21, 0x80000021},
		{"CR0: a high bit", f(0x6800), 0x100000021, all, notValid, 0, 0x21},
		{"CR4: PAE", f(0x6804), 0x2060, all, 0, 0x2040, 0x2060},
		{"CR4 without MCE", f(0x6804), 0x2020, all, notValid, 0, 0x2040},
		{"CR4 without VMXE", f(0x6804), 0x60, all, notValid, 0, 0x2040},
		{"CR4: SMXE", f(0x6804), 0x6040, all, notValid, 0, 0x2040},
		{"CR4: PKE without XFAM.PK", f(0x6804), 0x402040, all, notValid, 0, 0x2040},
		{"CR4: CET without XFAM", f(0x6804), 0x802040, all, notValid, 0, 0x2040},
		{"CR4: key locker", f(0x6804), 0x82040, all, notValid, 0, 0x2040},
		{"EFER: LMA and LME", f(0x2806), 0xd01, all, 0, 0x901, 0xd01},
		{"EFER without NXE", f(0x2806), 0x501, all, notValid, 0, 0x901},
		{"EFER: SVME", f(0x2806), 0x1901, all, notValid, 0, 0x901},
		{"DEBUGCTL: LBR", f(0x2802), 1, all, 0, 0, 1},
		{"DEBUGCTL: TR without BTS", f(0x2802), 1 << 6, all, notValid, 0, 0},
		{"DEBUGCTL: TR and BTS", f(0x2802), 3 << 6, all, 0, 0, 3 << 6},

		{"processor controls: interrupt window", f(0x4002), 4, 4, 0, 0xb1220c88, 0xb1220c8c},
		{"processor controls: I/O is not L1's", f(0x4002), 0, 1 << 24, notWritable, 0, 0xb1220c88},
		{"processor controls: RDPMC must exit", f(0x4002), 0, 1 << 11, notValid, 0, 0xb1220c88},
		{"processor controls: HLT must exit", f(0x4002), 0xb1220c08, all, notValid, 0, 0xb1220c88},
		{"secondary: descriptor tables", f(0x401e), 4, 4, 0, 0x1338b3fa, 0x1338b3fe},
		{"secondary: mode-based execute", f(0x401e), 1 << 22, 1 << 22, 0, 0x1338b3fa, 0x1378b3fa},
		{"secondary: user-level waits are missing", f(0x401e), 1 << 26, 1 << 26, notValid, 0, 0x1338b3fa},
		{"secondary: #VE for EPT violations", f(0x401e), 1 << 18, 1 << 18, notWritable, 0, 0x1338b3fa},
		{"tertiary: HLAT is missing", f(0x2034), 2, 2, notValid, 0, 0x80},
		{"entry controls: IA-32e", f(0x4012), 1 << 9, 1 << 9, 0, 0x3ec004, 0x3ec204},
		{"entry controls: others", f(0x4012), 0x3ec006, all, notValid, 0, 0x3ec004},
		{"exceptions", f(0x4004), 0x40001, all, 0, 0x40000, 0x40001},
		{"exceptions without #MC", f(0x4004), 1, all, notValid, 0, 0x40000},
		{"EPTP: SSS without XFAM.CET", f(0x201a), 0x80, 0x80, notValid, 0, 0x1e},
		{"EPTP: memory type", f(0x201a), 0, 7, notWritable, 0, 0x1e},

		{"virtual APIC", f(0x2012), 0x5000, all, 0, null, 0x5000},
		{"virtual APIC, not a page", f(0x2012), 0x5008, all, notValid, 0, null},
		{"virtual APIC, shared", f(0x2012), 1<<47 | 0x5000, all, notValid, 0, null},
		{"virtual APIC, above 48 bits", f(0x2012), 1 << 48, all, notValid, 0, null},
		{"CR0 mask", f(0x6000), all, all, 0, 0, all},
		{"CR4 shadow", f(0x6006), 0x20, all, 0, 0, 0x20},
		{"activity", f(0x4826), 1, all, notWritable, 0, 0},

		{"MSR bitmap", l2.MSRBitmapField(2, 511), 0xff, all, 0, all, 0xff},
		{"VCPU_INDEX", tdx.VP_VCPU_INDEX, 1, all, notWritable, 0, 0},
		{"CPUID_SUPERVISOR_VE", tdx.VP_SUPERVISOR_VE, 1, all, 0, 0, 1},
		{"CPUID_USER_VE of 9 bits", tdx.VP_USER_VE, 0x101, all, notValid, 0, 0},
		{"L2_CTLS", tdx.VP_L2_CTLS + 3, 7, all, 0, 0, 7},
		{"L2_CTLS, reserved", tdx.VP_L2_CTLS + 1, 8, all, notValid, 0, 0},
		{"TSC_DEADLINE", tdx.VP_TSC_DEADLINE + 1, 12345, all, 0, all, 12345},
		{"CPUID_CONTROL", tdx.VP_CPUID_CONTROL + 127, 3, all, 0, 0, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			v := newVP(t, nil)
			if got := v.Write(0, c.id, c.value, c.mask); got.Status != c.status || got.Value != c.old {
				t.Errorf("%#x, was %#x, want %#x, %#x", got.Status, got.Value, c.status, c.old)
			}
			if got := v.Read(0, c.id); got.Value != c.after {
				t.Errorf("then %#x, want %#x", got.Value, c.after)
			}
		})
	}
}

// TestFieldIDs: ABI, "MD_FIELD_ID": what in an identifier counts, and what does not.
func TestFieldIDs(t *testing.T) {
	v := newVP(t, nil)
	cr3 := l2.VMCSField(1, tdx.VMCS_GUEST_CR3)
	if cr3 != 0x2424000300006802 {
		t.Errorf("CR3 of VM 1 is %#x", cr3)
	}
	for _, c := range []struct {
		what   string
		id     uint64
		status uint64
	}{
		{"as it is", cr3, 0},
		{"another context", cr3 ^ 7<<52, 0},
		{"another size", cr3 &^ (3 << 32), 0},
		{"no increment", cr3 &^ tdx.FIELD_INC_SIZE, 0},
		{"the write mask's bit", cr3 | tdx.FIELD_WRITE_MASK_VALID, 0},
		{"not architectural", cr3 | tdx.FIELD_NON_ARCH, 0},
		{"the upper half", cr3 + 1, idIncorrect},
		{"no such field", l2.VMCSField(1, 0x6fff-1), idIncorrect},
		{"no such field between", l2.VMCSField(1, 0x2030), idIncorrect},
		{"a sequence", cr3 | 1<<38, idIncorrect},
		{"several elements", cr3 | 1<<34, idIncorrect},
		{"reserved, low", cr3 | 1<<24, idIncorrect},
		{"reserved, middle", cr3 | 1<<47, idIncorrect},
		{"reserved, bit 55", cr3 | 1<<55, idIncorrect},
		{"reserved, bit 62", cr3 | 1<<62, idIncorrect},
		{"a VM that does not exist", l2.VMCSField(3, tdx.VMCS_GUEST_CR3), idIncorrect},
		{"its MSR bitmap", l2.MSRBitmapField(3, 0), idIncorrect},
		{"word 512 of an MSR bitmap", l2.MSRBitmapField(1, 512), idIncorrect},
		{"a shadow bitmap", l2.MSRBitmapField(1, 0) + 1<<56, idIncorrect},
		{"a class without fields", 63 << 56, idIncorrect},
		{"CPUID_CONTROL 128", tdx.VP_CPUID_CONTROL + 128, idIncorrect},
		{"L1's own VMCS", 0x0024000300006802, notReadable},
		{"nothing in L1's own VMCS", 0x0024000300002030, idIncorrect},
		{"VPID", l2.VMCSField(1, 0), notReadable},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := v.Read(0, c.id)
			if got.Status != c.status || c.status != 0 && (got.Next != tdx.FIELD_NONE || got.Value != 0) {
				t.Errorf("%#x", got)
			}
		})
	}
	if got := v.Read(1, cr3); got.Status != 0xC000010000000001 {
		t.Errorf("RCX: %#x", got.Status)
	}
	if got := v.Write(1, cr3, 0, all); got.Status != 0xC000010000000001 {
		t.Errorf("RCX: %#x", got.Status)
	}
}

// TestNextField: the chain from the first field visits each field that can be read once,
// in the order of classes and codes, and ends.
func TestNextField(t *testing.T) {
	v := newVP(t, nil)
	readable := 0
	for i := range vmcsRows {
		if vmcsRows[i].read != 0 {
			readable += int(vmcsRows[i].number)
		}
	}
	for _, c := range []struct {
		what string
		read func(rcx, id uint64) FieldResult
		want int
	}{
		{"VP", v.Read, 1 + 1 + 1 + 4 + 4 + 128 + 2*(readable+512)},
		{"TD", v.td.Read, 10 + 4*6 + 4*6 + 6 + 1},
	} {
		r := c.read(0, tdx.FIELD_NONE)
		if r.Status != tdx.STATUS_FIRST_FIELD_ID_IN_CONTEXT || r.Value != 0 {
			t.Errorf("%s: %#x", c.what, r)
		}
		n, order := 0, uint64(0)
		for id := r.Next; id != tdx.FIELD_NONE; n++ {
			place := id>>56&0x3f<<24 | id&0xffffff
			r := c.read(0, id)
			if r.Status != tdx.STATUS_SUCCESS || place <= order && n > 0 {
				t.Fatalf("%s: field %d, %#x: %#x", c.what, n, id, r)
			}
			id, order = r.Next, place
		}
		if n != c.want {
			t.Errorf("%s: %d fields, want %d", c.what, n, c.want)
		}
	}
}

// TestTDFields: ABI, "TD-Scope Metadata".
func TestTDFields(t *testing.T) {
	td := newTD(t, func(c *Config) {
		c.Measurements = Measurements{MRTD: Digest{1}, MRConfigID: Digest{2}, MROwner: Digest{3}, MROwnerConfig: Digest{4}, ServTDHash: Digest{5}}
		c.Attributes = tdx.ATTRIBUTES_SEPT_VE_DISABLE
		c.FlexibleVE = true
	})
	for _, c := range []struct {
		id, want uint64
	}{
		{tdx.TD_NUM_VCPUS, 0},
		{tdx.TD_NUM_L2_VMS, 2},
		{tdx.TD_ATTRIBUTES, 1 << 28},
		{tdx.TD_XFAM, 7},
		{tdx.TD_MAX_VCPUS, 4},
		{tdx.TD_GPAW, 0},
		{tdx.TD_TSC_FREQUENCY, 40},
		{tdx.TD_NOTIFY_ENABLES, 0},
		{tdx.TD_CONFIG_FLAGS, 2},
		{tdx.TD_CTLS, 1},
		{tdx.TD_MRTD, 1},
		{tdx.TD_MRCONFIGID, 2},
		{tdx.TD_MROWNER, 3},
		{tdx.TD_MROWNERCONFIG, 4},
		{tdx.TD_RTMR, 0},
		{tdx.TD_SERVTD_HASH, 5},
		{tdx.TD_SERVTD_NUM, 0},
		{0x9100000000000010, 0}, // as Linux names NOTIFY_ENABLES
	} {
		if got := td.Read(0, c.id); got.Status != 0 || got.Value != c.want {
			t.Errorf("%#x: %#x, want %#x", c.id, got, c.want)
		}
	}
	for _, c := range []struct {
		id, value, mask, status uint64
	}{
		{tdx.TD_NOTIFY_ENABLES, 1, 1, 0},
		{tdx.TD_NOTIFY_ENABLES, 2, 2, notWritable},
		{tdx.TD_NOTIFY_ENABLES, 3, 3, notValid},
		{tdx.TD_ATTRIBUTES, 0, all, notWritable},
		{tdx.TD_MRTD, 0, all, notWritable},
		{tdx.TD_CTLS, 0, 1, 0},
		{tdx.TD_CTLS, 4, 5, notValid},
		{0, 0, 0, idIncorrect},
		{1 << 24, 0, 0, idIncorrect},
	} {
		if got := td.Write(0, c.id, c.value, c.mask); got.Status != c.status {
			t.Errorf("%#x: %#x, want %#x", c.id, got, c.status)
		}
	}
	if got := td.Check(0, 0, 0); got.Kind != FaultHost {
		t.Errorf("%+v", got)
	}
	rigid := newTD(t, nil)
	if got := rigid.Write(0, tdx.TD_CTLS, 1, 1); got.Status != notValid {
		t.Errorf("TD_CTLS without FLEXIBLE_PENDING_VE: %#x", got)
	}
	if got := rigid.Write(0, tdx.TD_CTLS, 0, 1); got.Status != 0 {
		t.Errorf("TD_CTLS as it is: %#x", got)
	}
}

// TestMSRBitmaps: SDM vol. 3, "MSR-Bitmap Address".
func TestMSRBitmaps(t *testing.T) {
	v := newVP(t, nil)
	if !v.InterceptsMSR(1, 0x10, false) || !v.InterceptsMSR(1, 0xc0000080, true) {
		t.Error("not everything exits at first")
	}
	for word := range uint32(tdx.MSR_BITMAP_WORDS) {
		v.Write(0, l2.MSRBitmapField(1, word), 0, all)
	}
	for _, c := range []struct {
		word  uint32
		bit   uint
		msr   uint32
		write bool
	}{
		{0, 16, 0x10, false},
		{127, 63, 0x1fff, false},
		{128, 0, 0xc0000000, false},
		{128 + 2, 0, 0xc0000080, false},
		{256, 16, 0x10, true},
		{384 + 2, 0, 0xc0000080, true},
		{511, 63, 0xc0001fff, true},
	} {
		if v.InterceptsMSR(1, c.msr, c.write) {
			t.Errorf("%#x exits before", c.msr)
		}
		v.Write(0, l2.MSRBitmapField(1, c.word), 1<<c.bit, all)
		if !v.InterceptsMSR(1, c.msr, c.write) || v.InterceptsMSR(1, c.msr, !c.write) {
			t.Errorf("%#x, write %v: word %d bit %d is not its bit", c.msr, c.write, c.word, c.bit)
		}
		v.Write(0, l2.MSRBitmapField(1, c.word), 0, all)
	}
	for _, msr := range []uint32{0x2000, 0x40000000, 0xbfffffff, 0xc0002000, 0xffffffff} {
		if !v.InterceptsMSR(1, msr, false) {
			t.Errorf("%#x has no bit and does not exit", msr)
		}
	}
	if !v.InterceptsMSR(3, 0x10, false) {
		t.Error("a VM that does not exist")
	}
}

// TestModes: how L1's settings reach accesses.
func TestModes(t *testing.T) {
	v := newVP(t, func(c *Config) { c.XFAM |= tdx.XFAM_CET_S | tdx.XFAM_CET_U })
	if v.Modes(1) != 0 || v.Modes(0) != 0 {
		t.Errorf("%08b", v.Modes(1))
	}
	v.Write(0, tdx.VP_L2_CTLS+1, tdx.L2_CTLS_SHARED_EPTP, all)
	v.Write(0, l2.VMCSField(1, tdx.VMCS_SECONDARY_CONTROLS), tdx.SECONDARY_MODE_BASED_EXECUTE, tdx.SECONDARY_MODE_BASED_EXECUTE)
	v.Write(0, l2.VMCSField(1, tdx.VMCS_EPTP), tdx.EPTP_SSS, tdx.EPTP_SSS)
	if v.Modes(1) != SharedEPT|ModeBased|ShadowPages || v.Modes(2) != 0 {
		t.Errorf("%08b", v.Modes(1))
	}
	for vm, want := range []FaultKind{FaultNone, FaultNone, FaultHost} {
		v.current = vm
		if got := v.Check(shared, Write); got.Kind != want {
			t.Errorf("VM %d writes shared memory: %+v", vm, got)
		}
	}
}
