package tdxmodule

import (
	"fmt"
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

const (
	rwx  = uint16(tdx.GPA_ATTR_RWX)
	line = tdx.EPT_LINEAR_VALID | tdx.EPT_FINAL
)

// TestAccesses: Base Architecture, "EPT Violation", and TD Partitioning, "L2 EPT
// Violation": who learns of an access that fails, by the state of the page.
func TestAccesses(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(0, tdx.LEVEL_4K), 1, rwx)
	setAttributes(t, td, operand(k4, tdx.LEVEL_4K), 1, rwx) // pending
	setAttributes(t, td, operand(large1, tdx.LEVEL_2M), 2, tdx.GPA_ATTR_R)
	l1 := func(q uint64) Fault { return Fault{Kind: FaultL1, Qualification: q} }
	host := func(q uint64) Fault { return Fault{Kind: FaultHost, Qualification: q | line} }
	const above = x86.GPA(1 << 50)
	for _, c := range []struct {
		what   string
		gpa    x86.GPA
		access Access
		vm     int
		want   Fault
	}{
		{"L1, mapped", 0, Write, 0, Fault{}},
		{"L1, mapped, last byte", k4 - 1, Fetch, 0, Fault{}},
		{"L1, 2 MiB", large1 + 0x12345, Write, 0, Fault{}},
		{"L1, pending", k4, Write, 0, Fault{Kind: FaultVE, Qualification: tdx.EPT_WRITE | line}},
		{"L1, pending in 2 MiB", 3*m2 + 5, 0, 0, Fault{Kind: FaultVE, Qualification: tdx.EPT_READ | line}},
		{"L1, blocked", 2 * k4, 0, 0, host(tdx.EPT_READ)},
		{"L1, free", 3 * k4, Write, 0, host(tdx.EPT_WRITE)},
		{"L1, free region", free2, Fetch, 0, host(tdx.EPT_FETCH)},
		{"L1, beyond the memory", beyond, 0, 0, host(tdx.EPT_READ)},
		{"L1, shared", shared, Write, 0, Fault{}},
		{"L1, bits above", above, Write | User, 0, Fault{Kind: FaultPF, Qualification: 1 | 2 | 4 | 8}},
		{"L1, bits above, fetch of a shadow stack", above, Fetch | ShadowStack, 0, Fault{Kind: FaultPF, Qualification: 1 | 8 | 16 | 64}},

		{"L2, mapped", 0, Write, 1, Fault{}},
		{"L2, fetch at user addresses", 0, Fetch | User | ModeBased, 1, Fault{}},
		{"L2, another VM's page", 0, 0, 2, l1(tdx.EPT_READ | line)},
		{"L2, another VM's page, page walk", 0, Table | Write, 2, l1(tdx.EPT_WRITE | tdx.EPT_LINEAR_VALID)},
		{"L2, read of a page to read", large1, 0, 2, Fault{}},
		{"L2, write to a page to read", large1, Write, 2, l1(tdx.EPT_WRITE | tdx.EPT_READABLE | line)},
		{"L2, fetch of a page to read", large1, Fetch, 2, l1(tdx.EPT_FETCH | tdx.EPT_READABLE | line)},
		{"L2, shadow stack", large1, Write | ShadowStack, 2, l1(tdx.EPT_WRITE | tdx.EPT_READABLE | tdx.EPT_SHADOW_STACK | line)},
		{"L2, pending, with an alias", k4, Write, 1, Fault{FaultL1, tdx.EPT_WRITE | line, tdx.EEQ_PENDING_EPT_VIOLATION}},
		{"L2, pending, without", 3 * m2, 0, 1, Fault{FaultL1, tdx.EPT_READ | line, tdx.EEQ_PENDING_EPT_VIOLATION}},
		{"L2, blocked", 2 * k4, Write, 1, host(tdx.EPT_WRITE)},
		{"L2, free: where devices are", 3 * k4, Write, 1, host(tdx.EPT_WRITE)},
		{"L2, beyond the memory", beyond, 0, 1, host(tdx.EPT_READ)},
		{"L2, shared, not enabled", shared, Write, 1, host(tdx.EPT_WRITE)},
		{"L2, shared, enabled", shared, Write | SharedEPT, 1, Fault{}},
		{"L2, bits above", above, Write, 1, l1(tdx.EPT_WRITE | line)},

		{"a VM that does not exist", 0, 0, 3, host(tdx.EPT_READ)},
		{"a VM that cannot exist", 0, 0, -1, host(tdx.EPT_READ)},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := td.Check(c.gpa, c.access, c.vm); got != c.want {
				t.Errorf("%+v (%#x), want %+v (%#x)", got, got.Qualification, c.want, c.want.Qualification)
			}
		})
	}
}

// TestPendingVE: TD_CTLS.PENDING_VE_DISABLE sends L1's accesses to pending pages to the
// host (ABI, "TD_CTLS"; "Extended Exit Qualification").
func TestPendingVE(t *testing.T) {
	td := filled(t, func(c *Config) { c.Attributes = tdx.ATTRIBUTES_SEPT_VE_DISABLE })
	want := Fault{FaultHost, tdx.EPT_WRITE | line, tdx.EEQ_PENDING_EPT_VIOLATION}
	got := td.Check(k4, Write, 0)
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if q := got.HostQualification(); q != tdx.EPT_WRITE {
		t.Errorf("the host sees %#x", q)
	}
}

// TestWide: with addresses of 52 bits the shared bit is 51 (Base Architecture, "GPAW").
func TestWide(t *testing.T) {
	td := filled(t, func(c *Config) { c.Wide = true })
	v, err := td.NewVP()
	if err != nil {
		t.Fatal(err)
	}
	if i := v.Info(); i.Width != 52 || td.Read(0, tdx.TD_GPAW).Value != 1 || td.VMs() != 2 {
		t.Errorf("%+v", i)
	}
	if td.SharedBit() != 1<<51 {
		t.Errorf("shared bit %#x", td.SharedBit())
	}
	for gpa, want := range map[x86.GPA]FaultKind{1 << 51: FaultNone, 1 << 47: FaultHost, 1 << 52: FaultPF} {
		if got := td.Check(gpa, 0, 0); got.Kind != want {
			t.Errorf("%#x: %+v, want %d", gpa, got, want)
		}
	}
}

// TestAttributeBits: SDM vol. 3, "EPT Violations": each attribute and what it lets, with
// the bits of the exit qualification that say so.
func TestAttributeBits(t *testing.T) {
	td := filled(t, nil)
	for a := range uint16(tdx.GPA_ATTR_SSS << 1) {
		if !legalAttributes(a) || a&tdx.GPA_ATTR_PRESENT == 0 {
			continue
		}
		setAttributes(t, td, operand(0, tdx.LEVEL_4K), 1, a)
		has := func(bits uint16) bool { return a&bits == bits }
		for _, c := range []struct {
			access Access
			want   bool
		}{
			{0, has(tdx.GPA_ATTR_R)},
			{User, has(tdx.GPA_ATTR_R)},
			{Write, has(tdx.GPA_ATTR_R | tdx.GPA_ATTR_W)},
			{Table | Write, has(tdx.GPA_ATTR_R | tdx.GPA_ATTR_W)},
			{Fetch, has(tdx.GPA_ATTR_XS)},
			{Fetch | User, has(tdx.GPA_ATTR_XS)},
			{Fetch | ModeBased, has(tdx.GPA_ATTR_XS)},
			{Fetch | User | ModeBased, has(tdx.GPA_ATTR_XU)},
			{ShadowStack, has(tdx.GPA_ATTR_R)},
			{ShadowStack | ShadowPages, has(tdx.GPA_ATTR_R | tdx.GPA_ATTR_SSS)},
			{ShadowStack | ShadowPages | User, has(tdx.GPA_ATTR_R)},
		} {
			f := td.Check(0, c.access, 1)
			if f.OK() != c.want {
				t.Errorf("attributes %07b, access %08b: allowed %v, want %v", a, c.access, f.OK(), c.want)
			}
			if f.OK() {
				continue
			}
			bits := uint64(a&7) << 3
			if c.access&ModeBased != 0 {
				bits |= uint64(a&tdx.GPA_ATTR_XU) << 3
			}
			if f.Qualification>>3&0xf != bits>>3 {
				t.Errorf("attributes %07b, access %08b: qualification %#x", a, c.access, f.Qualification)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"no memory":      func(c *Config) { c.Memory = 0 },
		"1 MiB":          func(c *Config) { c.Memory = 1 << 20 },
		"too much":       func(c *Config) { c.Memory = maxMemory + m2 },
		"four L2 VMs":    func(c *Config) { c.VMs = 4 },
		"negative":       func(c *Config) { c.VMs = -1 },
		"no VP":          func(c *Config) { c.VPs = 0 },
		"debug":          func(c *Config) { c.Attributes = tdx.ATTRIBUTES_DEBUG },
		"migratable":     func(c *Config) { c.Attributes = tdx.ATTRIBUTES_MIGRATABLE },
		"no x87 and SSE": func(c *Config) { c.XFAM = tdx.XFAM_AVX },
	} {
		c := config()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: a TD was made", what)
		}
	}
	td := newTD(t, func(c *Config) { c.VPs = 1 })
	if v, err := td.NewVP(); err != nil || v.Index() != 0 {
		t.Fatal(v, err)
	}
	if _, err := td.NewVP(); err == nil {
		t.Error("a VP too many")
	}
}

func TestReach(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(large1, tdx.LEVEL_2M), 1, rwx)
	setAttributes(t, td, operand(large1, tdx.LEVEL_2M), 2, tdx.GPA_ATTR_R|tdx.GPA_ATTR_XS)
	setAttributes(t, td, operand(0, tdx.LEVEL_4K), 2, tdx.GPA_ATTR_R)
	for _, c := range []struct {
		gpa   x86.GPA
		vm    int
		reach Reach
		end   x86.GPA
	}{
		{0, 0, ReachAll, k4},
		{5, 1, ReachNone, k4},
		{0, 2, ReachPart, k4},
		{k4, 0, ReachNone, 2 * k4},
		{large1 + k4, 0, ReachAll, 2 * m2},
		{large1, 1, ReachAll, 2 * m2},
		{large1, 2, ReachPart, 2 * m2},
		{free2 + k4, 1, ReachNone, 3 * m2},
		{3 * m2, 1, ReachNone, 4 * m2},
		{beyond, 0, ReachNone, 1 << 30},
		{large1, 3, ReachNone, 2 * m2},
	} {
		if reach, end := td.Reach(c.gpa, c.vm); reach != c.reach || end != c.end {
			t.Errorf("%#x of VM %d: %d up to %#x, want %d up to %#x", c.gpa, c.vm, reach, end, c.reach, c.end)
		}
	}
}

// TestNoAllocation: Check and the calls allocate nothing.
func TestNoAllocation(t *testing.T) {
	td := filled(t, nil)
	v, err := td.NewVP()
	if err != nil {
		t.Fatal(err)
	}
	v.set(1, tdx.VMCS_VIRTUAL_APIC, 0)
	setAttributes(t, td, operand(0, tdx.LEVEL_4K), 1, tdx.GPA_ATTR_R)
	var digest Digest
	var state l2.EnterState
	page := make([]byte, tdx.L2_STATE_SIZE)
	special := v.Special(1)
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"Check", func() { td.Check(0, Write, 1); td.Check(k4, Write, 0); td.Check(beyond, 0, 0) }},
		{"Accept", func() { td.Accept(operand(k4, 0), nil); td.Accept(operand(3*k4, 0), nil) }},
		{"ReadAttributes", func() { td.ReadAttributes(0) }},
		{"WriteAttributes", func() { td.WriteAttributes(0, 0x80010000, 0xf0000) }},
		{"host", func() {
			td.PageAug(operand(9*k4, 0))
			td.RangeBlock(operand(9*k4, 0))
			td.RangeUnblock(operand(9*k4, 0))
			td.RangeBlock(operand(9*k4, 0))
			td.PageRemove(operand(9*k4, 0))
		}},
		{"sizes", func() {
			td.RangeBlock(operand(large1, 1))
			td.PageDemote(operand(large1, 1))
			td.RangeBlock(operand(large1, 1))
			td.PagePromote(operand(large1, 1))
		}},
		{"Give", func() { td.Give(free2, m2); td.Take(free2, m2) }},
		{"Extend", func() { td.Extend(0, 1, &digest) }},
		{"fields", func() {
			v.Read(0, l2.VMCSField(1, tdx.VMCS_GUEST_CR0))
			v.Write(0, l2.VMCSField(1, tdx.VMCS_GUEST_CR3), 1, all)
			td.Read(0, tdx.TD_RTMR)
			td.Write(0, tdx.TD_NOTIFY_ENABLES, 1, 1)
		}},
		{"enter", func() {
			v.Enter(1<<52, 0, false)
			state.Decode(page)
			v.Load(1, &state)
			v.Violation(1)
			v.Leave(&l2.Exit{Reason: tdx.EXIT_HLT})
			v.Save(1, &state)
			state.Encode(page)
		}},
		{"state", func() { v.SetSpecial(1, &special); v.Special(1) }},
	} {
		if n := testing.AllocsPerRun(20, c.do); n != 0 {
			t.Errorf("%s allocates %v times", c.what, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	td := filled(b, nil)
	setAttributes(b, td, operand(0, tdx.LEVEL_4K), 1, rwx)
	for b.Loop() {
		if !td.Check(0, Write, 1).OK() {
			b.Fatal("refused")
		}
	}
}

func ExampleTD_Check() {
	td, err := New(Config{Memory: 2 << 20, VMs: 1, VPs: 1, XFAM: 3})
	if err != nil {
		return
	}
	td.Give(0, 2<<20)
	fmt.Println(td.Check(0, Write, tdx.VM_L1).Kind == FaultVE)
	td.Accept(0|tdx.LEVEL_2M, nil)
	fmt.Println(td.Check(0, Write, tdx.VM_L1).OK(), td.Check(0, Write, 1).OK())
	td.WriteAttributes(0|tdx.LEVEL_2M, 0x800f<<16, 0xf<<16)
	fmt.Println(td.Check(0, Write, 1).OK())
	// Output:
	// true
	// true false
	// true
}
