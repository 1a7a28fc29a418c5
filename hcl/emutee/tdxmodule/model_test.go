package tdxmodule

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// The model has two entries of 1 GiB, of which it looks at two regions each: the first,
// and the last of the first GiB; the second GiB has only one.
const (
	modelMemory = 1<<30 + m2
	modelVMs    = 2
)

// modelPage is what the model knows of a page of 4 KiB, in the plainest way.
type modelPage struct {
	mapped, pending, blocked bool
	level                    int
	attributes               [tdx.VMS]uint16
}

// model says the same as the TD with one record a page, no packing and no sharing.
// Tables are records of their own: those of 2 MiB by region, those of 1 GiB by number.
type model struct {
	pages          map[uint64]*modelPage // by page number; absent is free
	tables1, table map[uint64]*bool      // by number: present; the value is "blocked"
}

func newModel() *model {
	return &model{map[uint64]*modelPage{}, map[uint64]*bool{}, map[uint64]*bool{}}
}

// leaf finds the page that covers a page number, and its first number.
func (m *model) leaf(n uint64) (*modelPage, uint64) {
	for level, size := range []uint64{1, 512, 512 * 512} {
		first := n / size * size
		if p := m.pages[first]; p != nil && p.level == level {
			return p, first
		}
	}
	return nil, 0
}

// look is where a walk to a level ends: at a page, a table or nothing, and at which level.
func (m *model) look(n uint64, to int) (p *modelPage, tab *bool, level int) {
	if n >= modelMemory>>12 {
		return nil, nil, 2
	}
	p, _ = m.leaf(n)
	for level = 2; ; level-- {
		if p != nil && p.level == level {
			return p, nil, level
		}
		tables := m.tables1
		if level == 1 {
			tables = m.table
		}
		tab = nil
		if level > 0 {
			tab = tables[n>>(9*level)]
		}
		if level == to || tab == nil || *tab {
			return nil, tab, level
		}
	}
}

func (m *model) setTable(n uint64, level int, blocked *bool) {
	tables := m.tables1
	if level == 1 {
		tables = m.table
	}
	if blocked == nil {
		delete(tables, n>>(9*level))
		return
	}
	tables[n>>(9*level)] = blocked
}

func badOperand(rcx uint64, low, high int) bool {
	level := int(rcx & 7)
	return rcx>>47 != 0 || rcx&0xff8 != 0 || level < low || level > high || rcx>>12%(1<<(9*level)) != 0
}

// kind of a walk's end, for the extended exit qualification.
func modelState(p *modelPage, tab *bool) uint64 {
	switch {
	case tab != nil && *tab:
		return tdx.SEPT_NL_BLOCKED
	case tab != nil:
		return tdx.SEPT_NL_MAPPED
	case p == nil:
		return tdx.SEPT_FREE
	case p.pending && p.blocked:
		return tdx.SEPT_PENDING_BLOCKED
	case p.pending:
		return tdx.SEPT_PENDING
	case p.blocked:
		return tdx.SEPT_BLOCKED
	}
	return tdx.SEPT_MAPPED
}

func modelExit(rcx uint64, p *modelPage, tab *bool, level int, kind uint64) Result {
	q := uint64(2)
	if s := modelState(p, tab); s == tdx.SEPT_MAPPED || s == tdx.SEPT_NL_MAPPED {
		q |= 0x38
	}
	return Result{GPA: x86.GPA(rcx &^ 7), Fault: Fault{FaultHost, q, eeq(kind, rcx&7, uint64(level), modelState(p, tab), p != nil)}}
}

func (m *model) accept(rcx uint64) Result {
	if badOperand(rcx, 0, 1) {
		return Result{Status: tdx.STATUS_OPERAND_INVALID | 1}
	}
	p, tab, level := m.look(rcx>>12, int(rcx&7))
	switch {
	case p != nil && !p.pending && !p.blocked:
		return Result{Status: tdx.STATUS_PAGE_ALREADY_ACCEPTED | uint64(level)}
	case level != int(rcx&7):
		return modelExit(rcx, p, tab, level, 1)
	case tab != nil:
		return Result{Status: tdx.STATUS_PAGE_SIZE_MISMATCH | uint64(level)}
	case p == nil || p.blocked:
		return modelExit(rcx, p, tab, level, 1)
	}
	p.pending = false
	return Result{}
}

func (m *model) write(rcx, rdx, r8 uint64) Result {
	for vm := range 4 {
		a, mask := uint16(rdx>>(16*vm)), uint16(r8>>(16*vm))
		if no := vm == 0 || vm > modelVMs; no && a != 0 || a != 0 && a>>15 == 0 {
			return Result{Status: tdx.STATUS_OPERAND_INVALID | 2}
		} else if no && mask != 0 {
			return Result{Status: tdx.STATUS_OPERAND_INVALID | 8}
		}
	}
	if badOperand(rcx, 0, 2) {
		return Result{Status: tdx.STATUS_OPERAND_INVALID | 1}
	}
	p, tab, level := m.look(rcx>>12, int(rcx&7))
	switch {
	case level != int(rcx&7):
		return modelExit(rcx, p, tab, level, 5)
	case tab != nil:
		return Result{Status: tdx.STATUS_PAGE_SIZE_MISMATCH | uint64(level)}
	case p == nil || p.blocked:
		return modelExit(rcx, p, tab, level, 5)
	}
	next, bad := p.attributes, false
	var out [4]uint16
	for vm := 1; vm <= modelVMs; vm++ {
		a, mask := uint16(rdx>>(16*vm)), uint16(r8>>(16*vm))&0x7fff
		out[vm] = a
		if a == 0 {
			continue
		}
		a = a&mask | p.attributes[vm]&^mask
		has := func(bits uint16) bool { return a&bits != 0 }
		switch {
		case !has(0xf):
			next[vm] = 0
			if p.attributes[vm] != 0 {
				out[vm] = 0x8000
			}
		case has(0x7f80), !has(1) && has(2|0x20):
			bad = true
			out[vm] = p.attributes[vm]
			if out[vm] != 0 {
				out[vm] |= 0x8000
			}
		default:
			next[vm], out[vm] = a, a|0x8000
		}
	}
	word := uint64(out[1])<<16 | uint64(out[2])<<32
	if bad {
		return Result{Status: tdx.STATUS_PAGE_ATTR_INVALID, RDX: word}
	}
	p.attributes = next
	r := Result{RCX: rcx, RDX: word}
	if p.pending {
		r.RCX |= 1 << 62
	}
	return r
}

// host functions, by number.
const (
	hostAug = iota
	hostAdd
	hostBlock
	hostUnblock
	hostRemove
	hostDemote
	hostPromote
	hostSEPTAdd
	hostSEPTRemove
	hostFunctions
)

var modelLevels = [hostFunctions][2]int{
	hostAug: {0, 1}, hostAdd: {0, 0}, hostBlock: {0, 2}, hostUnblock: {0, 2}, hostRemove: {0, 2}, hostDemote: {1, 2},
	hostPromote: {1, 2}, hostSEPTAdd: {1, 2}, hostSEPTRemove: {1, 2},
}

func (m *model) host(function int, rcx uint64) uint64 {
	n, level := rcx>>12, int(rcx&7)
	if badOperand(rcx, modelLevels[function][0], modelLevels[function][1]) {
		return tdx.STATUS_OPERAND_INVALID | 1
	}
	p, tab, at := m.look(n, level)
	if rcx>>12 >= modelMemory>>12 || at != level {
		return tdx.STATUS_EPT_WALK_FAILED | 1
	}
	wantsTable := function == hostPromote || function == hostSEPTRemove
	wantsPage := function == hostRemove || function == hostDemote
	wantsFree := function == hostAug || function == hostAdd || function == hostSEPTAdd
	blocked := p != nil && p.blocked || tab != nil && *tab
	free := p == nil && tab == nil
	switch {
	case wantsFree != free, wantsTable && tab == nil, wantsPage && p == nil, function == hostUnblock && !blocked:
		return tdx.STATUS_EPT_ENTRY_STATE_INCORRECT | 1
	case function == hostBlock && blocked:
		return tdx.STATUS_GPA_RANGE_ALREADY_BLOCKED | 1
	case (wantsTable || wantsPage) && !blocked:
		return tdx.STATUS_GPA_RANGE_NOT_BLOCKED | 1
	}
	switch function {
	case hostAug, hostAdd:
		m.pages[n] = &modelPage{mapped: true, pending: function == hostAug, level: level}
	case hostBlock, hostUnblock:
		if p != nil {
			p.blocked = function == hostBlock
		} else {
			*tab = function == hostBlock
		}
	case hostRemove:
		delete(m.pages, n)
	case hostDemote:
		m.demote(n, level, p)
	case hostPromote, hostSEPTRemove:
		return m.join(n, level, function == hostPromote)
	case hostSEPTAdd:
		m.setTable(n, level, new(bool))
	}
	return tdx.STATUS_SUCCESS
}

func (m *model) demote(n uint64, level int, p *modelPage) {
	delete(m.pages, n)
	m.setTable(n, level, new(bool))
	for i := range uint64(512) {
		q := *p
		q.blocked, q.level = false, level-1
		m.pages[n+i<<(9*(level-1))] = &q
	}
}

func (m *model) join(n uint64, level int, promote bool) uint64 {
	step := uint64(1) << (9 * (level - 1))
	first := m.pages[n]
	for i := range uint64(512) {
		at := n + i*step
		p := m.pages[at]
		if p != nil && p.level != level-1 {
			p = nil
		}
		switch {
		case promote && (p == nil || p.blocked || *p != *first):
			return tdx.STATUS_EPT_INVALID_PROMOTE | 1
		case !promote && at < modelMemory>>12 && (p != nil || level == 2 && m.table[at>>9] != nil):
			return tdx.STATUS_EPT_PAGE_NOT_FREE | 1
		}
	}
	m.setTable(n, level, nil)
	if promote {
		q := *first
		q.level = level
		for i := range uint64(512) {
			delete(m.pages, n+i*step)
		}
		m.pages[n] = &q
	}
	return tdx.STATUS_SUCCESS
}

// access is a data access.
func (m *model) access(n uint64, write bool, vm int) FaultKind {
	p, tab, _ := m.look(n, 0)
	switch s := modelState(p, tab); {
	case s == tdx.SEPT_PENDING && vm == 0:
		return FaultVE
	case s == tdx.SEPT_PENDING:
		return FaultL1
	case s != tdx.SEPT_MAPPED:
		return FaultHost
	case vm == 0 || p.attributes[vm]&1 != 0 && (!write || p.attributes[vm]&2 != 0):
		return FaultNone
	}
	return FaultL1
}

// stepSize is how many bytes of input make one operation.
const stepSize = 8

// modelPageOf picks a page: of the first region, of the last of the first GiB, of the
// second GiB, or beyond.
func modelPageOf(a, b byte) uint64 {
	first := [...]uint64{0, 0, 0, 0, 1<<18 - 512, 1 << 18, 1 << 18, 1<<18 + 512}[a&7]
	return first + uint64(b&3)
}

// step does one operation on both, compares the outcomes, and then an access.
func modelStep(t *testing.T, td *TD, m *model, b []byte) {
	t.Helper()
	n, level := modelPageOf(b[1], b[2]), uint64(b[3]&3)
	if b[3]&0xf0 != 0xf0 {
		level = min(level, 2)
		n = n >> (9 * level) << (9 * level)
	}
	rcx := n<<12 | level
	if b[3]&0xf8 == 0xf8 {
		rcx |= 1 << (3 + b[2]&7)
	}
	var got, want any
	switch op := int(b[0]) % (hostFunctions + 6); {
	case op < hostFunctions:
		do := [...]func(uint64) uint64{
			td.PageAug, td.PageAdd, td.RangeBlock, td.RangeUnblock, td.PageRemove, td.PageDemote, td.PagePromote, td.SEPTAdd, td.SEPTRemove,
		}[op]
		got, want = do(rcx), m.host(op, rcx)
	case op < hostFunctions+3:
		r, err := td.Accept(rcx, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, want = r, m.accept(rcx)
	default:
		word := uint64(binary.LittleEndian.Uint32(b[4:]))
		rdx, r8 := (word&0xff|0x8000)<<16, word>>8&0xff<<16
		if word>>16&1 != 0 {
			rdx |= (word>>17&0xff | 0x8000) << 32
			r8 |= word >> 24 << 32
		}
		if word>>27 == 0x1f {
			rdx ^= 1 << (word & 63)
		}
		got, want = td.WriteAttributes(rcx, rdx, r8), m.write(rcx, rdx, r8)
	}
	if got != want {
		t.Fatalf("operation %d at %#x: %+v, the model says %+v", b[0]%(hostFunctions+6), rcx, got, want)
	}
	vm, write := int(b[7]&3)%(modelVMs+1), b[7]&4 != 0
	a := Access(0)
	if write {
		a = Write
	}
	if f := td.Check(x86.GPA(n<<12), a, vm); f.Kind != m.access(n, write, vm) {
		t.Fatalf("access of VM %d to %#x: %+v, the model says %d", vm, n<<12, f, m.access(n, write, vm))
	}
}

// compare compares every page that an operation can have named, and its neighbours.
func modelCompare(t *testing.T, td *TD, m *model) {
	t.Helper()
	for _, first := range []uint64{0, 512, 1<<18 - 512, 1 << 18} {
		for n := first; n < first+512; n++ {
			p, tab, level := m.look(n, 0)
			want := Page{Level: Level(level), State: modelState(p, tab)}
			if p != nil {
				want.Attributes = p.attributes
			}
			if got := td.Page(x86.GPA(n << 12)); got != want {
				t.Fatalf("page %d is %+v, the model says %+v", n, got, want)
			}
		}
	}
}

func modelTD(tb testing.TB) *TD {
	tb.Helper()
	return newTD(tb, func(c *Config) { c.Memory, c.VMs = modelMemory, modelVMs })
}

// TestModel runs random operations on the TD and on the model. Some seeds start from
// memory that is there already, so that pages of all sizes are met.
func TestModel(t *testing.T) {
	for seed := range uint64(24) {
		random := rand.New(rand.NewPCG(seed, 1))
		td, m := modelTD(t), newModel()
		run := func(ops ...byte) {
			for i := 0; i+2 < len(ops); i += 3 {
				modelStep(t, td, m, []byte{ops[i], ops[i+1], 0, ops[i+2], 0, 0, 0, 0})
			}
		}
		if seed%2 == 1 {
			run(hostSEPTAdd, 0, 2, hostSEPTAdd, 0, 1, hostSEPTAdd, 4, 1, hostSEPTAdd, 5, 2, hostAug, 5, 1)
		}
		if seed%4 == 3 { // a whole region of 4 KiB pages, which can be joined
			for n := range uint64(512) {
				if got, want := td.PageAdd(n<<12), m.host(hostAdd, n<<12); got != want {
					t.Fatal(got, want)
				}
			}
		}
		for range 4000 {
			var b [stepSize]byte
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			modelStep(t, td, m, b[:])
		}
		modelCompare(t, td, m)
	}
}
