package tdxmodule

import (
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// TestHostFunctions: ABI, "Host-Side (SEAMCALL) Interface Functions": which state of an
// entry each function on memory wants, and which it leaves.
func TestHostFunctions(t *testing.T) {
	const (
		ok         = uint64(0)
		incorrect  = uint64(0xC0000B0D00000001)
		notBlocked = uint64(0xC0000B0600000001)
		already    = uint64(0x00000B0700000001)
		walk       = uint64(0xC0000B0000000001)
		promote    = uint64(0xC0000B0900000001)
		notFree    = uint64(0xC0000B0E00000001)
		invalid    = uint64(0xC000010000000001)
	)
	add := func(td *TD) func(uint64) uint64 { return td.PageAdd }
	aug := func(td *TD) func(uint64) uint64 { return td.PageAug }
	remove := func(td *TD) func(uint64) uint64 { return td.PageRemove }
	block := func(td *TD) func(uint64) uint64 { return td.RangeBlock }
	unblock := func(td *TD) func(uint64) uint64 { return td.RangeUnblock }
	demote := func(td *TD) func(uint64) uint64 { return td.PageDemote }
	join := func(td *TD) func(uint64) uint64 { return td.PagePromote }
	septAdd := func(td *TD) func(uint64) uint64 { return td.SEPTAdd }
	septRemove := func(td *TD) func(uint64) uint64 { return td.SEPTRemove }
	for _, c := range []struct {
		what   string
		do     func(*TD) func(uint64) uint64
		before func(*TD)
		rcx    uint64
		status uint64
		state  uint64
	}{
		{"ADD to free", add, nil, 3 * k4, ok, tdx.SEPT_MAPPED},
		{"ADD of 2 MiB", add, nil, 2*m2 | 1, invalid, tdx.SEPT_FREE},
		{"ADD to mapped", add, nil, 0, incorrect, tdx.SEPT_MAPPED},
		{"AUG to free", aug, nil, 3 * k4, ok, tdx.SEPT_PENDING},
		{"AUG of 2 MiB", aug, nil, 2*m2 | 1, ok, tdx.SEPT_PENDING},
		{"AUG of 1 GiB", aug, nil, 2, invalid, tdx.SEPT_MAPPED},
		{"AUG to mapped", aug, nil, 0, incorrect, tdx.SEPT_MAPPED},
		{"AUG to pending", aug, nil, k4, incorrect, tdx.SEPT_PENDING},
		{"AUG to a table", aug, nil, 0 | 1, incorrect, tdx.SEPT_MAPPED},
		{"AUG of 4 KiB without a table", aug, nil, 2 * m2, walk, tdx.SEPT_FREE},
		{"AUG of 4 KiB within 2 MiB", aug, nil, m2 + k4, walk, tdx.SEPT_MAPPED},
		{"AUG beyond the memory", aug, nil, 4 * m2, walk, tdx.SEPT_FREE},
		{"AUG of a shared address", aug, nil, 1 << 47, invalid, tdx.SEPT_FREE},

		{"BLOCK mapped", block, nil, 0, ok, tdx.SEPT_BLOCKED},
		{"BLOCK pending", block, nil, k4, ok, tdx.SEPT_PENDING_BLOCKED},
		{"BLOCK blocked", block, nil, 2 * k4, already, tdx.SEPT_BLOCKED},
		{"BLOCK free", block, nil, 3 * k4, incorrect, tdx.SEPT_FREE},
		{"BLOCK a table", block, nil, 0 | 1, ok, tdx.SEPT_NL_BLOCKED},
		{"UNBLOCK blocked", unblock, nil, 2 * k4, ok, tdx.SEPT_MAPPED},
		{"UNBLOCK mapped", unblock, nil, 0, incorrect, tdx.SEPT_MAPPED},
		{"UNBLOCK a table", unblock, func(td *TD) { td.RangeBlock(0 | 1) }, 0 | 1, ok, tdx.SEPT_MAPPED},

		{"REMOVE blocked", remove, nil, 2 * k4, ok, tdx.SEPT_FREE},
		{"REMOVE mapped", remove, nil, 0, notBlocked, tdx.SEPT_MAPPED},
		{"REMOVE pending", remove, nil, k4, notBlocked, tdx.SEPT_PENDING},
		{"REMOVE free", remove, nil, 3 * k4, incorrect, tdx.SEPT_FREE},
		{"REMOVE a table", remove, nil, 0 | 1, incorrect, tdx.SEPT_MAPPED},

		{"DEMOTE mapped", demote, nil, m2 | 1, notBlocked, tdx.SEPT_MAPPED},
		{"DEMOTE blocked", demote, func(td *TD) { td.RangeBlock(m2 | 1) }, m2 | 1, ok, tdx.SEPT_MAPPED},
		{"DEMOTE pending and blocked", demote, func(td *TD) { td.RangeBlock(3*m2 | 1) }, 3*m2 | 1, ok, tdx.SEPT_PENDING},
		{"DEMOTE a table", demote, nil, 0 | 1, incorrect, tdx.SEPT_MAPPED},
		{"DEMOTE 4 KiB", demote, nil, 0, invalid, tdx.SEPT_MAPPED},
		{"PROMOTE a table", join, nil, 0 | 1, notBlocked, tdx.SEPT_MAPPED},
		{"PROMOTE what differs", join, func(td *TD) { td.RangeBlock(0 | 1) }, 0 | 1, promote, tdx.SEPT_NL_BLOCKED},
		{"PROMOTE a page", join, nil, m2 | 1, incorrect, tdx.SEPT_MAPPED},

		{"SEPT.ADD to free", septAdd, nil, 2*m2 | 1, ok, tdx.SEPT_FREE},
		{"SEPT.ADD to a page", septAdd, nil, m2 | 1, incorrect, tdx.SEPT_MAPPED},
		{"SEPT.REMOVE what is not blocked", septRemove, nil, 0 | 1, notBlocked, tdx.SEPT_MAPPED},
		{"SEPT.REMOVE what maps pages", septRemove, func(td *TD) { td.RangeBlock(0 | 1) }, 0 | 1, notFree, tdx.SEPT_NL_BLOCKED},
		{"SEPT.REMOVE", septRemove, func(td *TD) { td.SEPTAdd(2*m2 | 1); td.RangeBlock(2*m2 | 1) }, 2*m2 | 1, ok, tdx.SEPT_FREE},
		{"SEPT.REMOVE a page", septRemove, nil, m2 | 1, incorrect, tdx.SEPT_MAPPED},
	} {
		t.Run(c.what, func(t *testing.T) {
			td := filled(t, nil)
			if c.before != nil {
				c.before(td)
			}
			if got := c.do(td)(c.rcx); got != c.status {
				t.Errorf("%#x, want %#x", got, c.status)
			}
			if got := td.Page(x86.GPA(c.rcx &^ 7)).State; got != c.state {
				t.Errorf("state %d, want %d", got, c.state)
			}
		})
	}
}

// TestSizes: splitting and joining keep acceptance and attributes; a block takes them
// away for its time; removal for ever.
func TestSizes(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(large1, 1), 1, tdx.GPA_ATTR_R|tdx.GPA_ATTR_W)
	must(t, "BLOCK", td.RangeBlock(operand(large1, 1)))
	for vm := range 2 {
		if f := td.Check(large1, 0, vm); f.Kind != FaultHost {
			t.Errorf("VM %d reads a blocked page: %+v", vm, f)
		}
	}
	must(t, "DEMOTE", td.PageDemote(operand(large1, 1)))
	for page := large1; page < large1+m2; page += k4 {
		if p := td.Page(page); p.Level != 0 || p.State != tdx.SEPT_MAPPED || p.Attributes[1] != 3 {
			t.Fatalf("%#x: %+v", page, p)
		}
	}
	setAttributes(t, td, operand(large1+k4, 0), 1, tdx.GPA_ATTR_R)
	must(t, "BLOCK", td.RangeBlock(operand(large1, 1)))
	if got := td.PagePromote(operand(large1, 1)); got != tdx.STATUS_EPT_INVALID_PROMOTE|1 {
		t.Errorf("PROMOTE of pages that differ: %#x", got)
	}
	must(t, "UNBLOCK", td.RangeUnblock(operand(large1, 1)))
	setAttributes(t, td, operand(large1+k4, 0), 1, tdx.GPA_ATTR_R|tdx.GPA_ATTR_W)
	must(t, "BLOCK", td.RangeBlock(operand(large1, 1)))
	must(t, "PROMOTE", td.PagePromote(operand(large1, 1)))
	if p := td.Page(large1 + k4); p.Level != 1 || p.Attributes[1] != 3 || !td.Check(large1, Write, 1).OK() {
		t.Errorf("%+v", p)
	}
	must(t, "BLOCK", td.RangeBlock(operand(large1, 1)))
	must(t, "REMOVE", td.PageRemove(operand(large1, 1)))
	must(t, "AUG", td.PageAug(operand(large1, 1)))
	accept(t, td, operand(large1, 1))
	if f := td.Check(large1, 0, 1); f.Kind != FaultL1 {
		t.Errorf("an alias outlived its page: %+v", f)
	}
}

// TestGigabyte: 512 pages of 2 MiB become one of 1 GiB, which can be split again.
func TestGigabyte(t *testing.T) {
	td := newTD(t, func(c *Config) { c.Memory = 1<<30 + m2 })
	must(t, "Give", td.Give(0, 1<<30+m2))
	for page := uint64(0); page < 1<<30; page += m2 {
		accept(t, td, page|1)
	}
	must(t, "BLOCK", td.RangeBlock(2))
	must(t, "PROMOTE", td.PagePromote(2))
	setAttributes(t, td, 2, 1, rwx)
	if p := td.Page(0x12345678); p.Level != 2 || p.Attributes[1] != rwx {
		t.Errorf("%+v", p)
	}
	if r, _ := td.Accept(m2|1, nil); r.Status != 0x00000B0A00000002 {
		t.Errorf("ACCEPT of a part: %#x", r.Status)
	}
	if r := td.WriteAttributes(m2|1, 0, 0); r.Fault.Extended != eeq(5, 1, 2, 4, true) {
		t.Errorf("ATTR.WR of a part: %+v (%#x)", r, r.Fault.Extended)
	}
	must(t, "BLOCK", td.RangeBlock(2))
	must(t, "DEMOTE", td.PageDemote(2))
	if p := td.Page(0x12345678); p.Level != 1 || p.Attributes[1] != rwx {
		t.Errorf("%+v", p)
	}
	must(t, "SEPT.ADD", 0)
	must(t, "BLOCK", td.RangeBlock(1<<30|2))
	if got := td.PagePromote(1<<30 | 2); got != tdx.STATUS_EPT_INVALID_PROMOTE|1 {
		t.Errorf("PROMOTE of the memory's end: %#x", got)
	}
}

// TestGiveAndTake: what an honest host does for ranges of any shape.
func TestGiveAndTake(t *testing.T) {
	td := newTD(t, nil)
	must(t, "Give", td.Give(k4, memory-2*k4))
	for gpa, want := range map[x86.GPA]Page{
		0: {0, tdx.SEPT_FREE, [4]uint16{}}, k4: {0, tdx.SEPT_PENDING, [4]uint16{}}, m2: {1, tdx.SEPT_PENDING, [4]uint16{}},
		2*m2 + k4: {1, tdx.SEPT_PENDING, [4]uint16{}}, memory - k4: {0, tdx.SEPT_FREE, [4]uint16{}},
	} {
		if got := td.Page(gpa); got != want {
			t.Errorf("%#x: %+v, want %+v", gpa, got, want)
		}
	}
	accept(t, td, m2|1)
	must(t, "Give again", td.Give(0, memory))
	if !td.Check(m2, Write, 0).OK() {
		t.Error("giving took an accepted page")
	}
	must(t, "Take", td.Take(m2+k4, 2*k4))
	for gpa, want := range map[x86.GPA]uint64{m2: tdx.SEPT_MAPPED, m2 + k4: tdx.SEPT_FREE, m2 + 2*k4: tdx.SEPT_FREE, m2 + 3*k4: tdx.SEPT_MAPPED} {
		if got := td.Page(gpa).State; got != want {
			t.Errorf("%#x: state %d, want %d", gpa, got, want)
		}
	}
	must(t, "Take", td.Take(0, memory))
	for gpa := x86.GPA(0); gpa < memory; gpa += k4 {
		if got := td.Page(gpa).State; got != tdx.SEPT_FREE {
			t.Fatalf("%#x: state %d", gpa, got)
		}
	}
	for _, c := range []struct {
		gpa    x86.GPA
		length uint64
	}{{1, k4}, {0, 1}, {shared, k4}, {^x86.GPA(0) &^ (k4 - 1), 2 * k4}} {
		if got := td.Give(c.gpa, c.length); got != tdx.STATUS_OPERAND_INVALID|1 {
			t.Errorf("Give %#x %#x: %#x", c.gpa, c.length, got)
		}
	}
	if got := td.Give(beyond, k4); got != tdx.STATUS_EPT_WALK_FAILED|1 {
		t.Errorf("Give beyond the memory: %#x", got)
	}
}

// TestStats: refusals are counted by reason.
func TestStats(t *testing.T) {
	td := filled(t, nil)
	td.Check(k4, 0, 0)
	td.Check(k4, 0, 1)
	td.Check(beyond, 0, 1)
	td.Check(1<<50, 0, 0)
	td.Accept(0, nil)
	td.Accept(1, nil)
	td.Accept(2, nil)
	td.WriteAttributes(0, 0x80020000, 0xf0000)
	td.PageAug(0)
	td.Read(0, 0)
	want := Stats{
		L1Exits: 1, VE: 1, PF: 1, HostExits: 1, OperandInvalid: 1, AlreadyAccepted: 1, SizeMismatch: 1,
		AttributesInvalid: 1, Field: 1, Host: 1,
	}
	if got := td.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
