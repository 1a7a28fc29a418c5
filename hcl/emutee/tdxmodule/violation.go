package tdxmodule

import (
	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// Violation says why VM entry refuses an L2's state. L1 then sees
// EXIT_INVALID_GUEST_STATE with EXIT_ENTRY_FAILED.
type Violation uint8

// What VM entry refuses, in the order in which this machine looks (SDM vol. 3, "Checks on
// the Guest State Area"; real processors choose their own). The checks on page-directory
// pointers, on performance counters and on CET state are missing. An event that cannot be
// injected is a failure of another kind, which the module has no way to report: here it
// is one of these.
const (
	ViolationNone     Violation = iota
	ViolationEvent              // the event to inject
	ViolationCR0                // paging without protection
	ViolationCR4                // CET without CR0.WP; PCIDE outside of IA-32e mode
	ViolationIA32e              // the entry control, CR0.PG and CR4.PAE
	ViolationCR3                // bits above the physical address
	ViolationDR7                // bits 63:32
	ViolationSysenter           // an address that is not canonical
	ViolationPAT                // a memory type that does not exist
	ViolationEFER               // LMA against the entry control and LME; reserved bits
	ViolationV8086              // segments in virtual-8086 mode
	ViolationTR                 // the task register
	ViolationLDTR               // the local descriptor table
	ViolationCS                 // the code segment
	ViolationSS                 // the stack segment
	ViolationData               // DS, ES, FS or GS
	ViolationTables             // GDTR or IDTR
	ViolationRIP                // reserved bits, or an address that is not canonical
	ViolationRFLAGS             // reserved bits, VM, or IF against the event
	ViolationBlocking           // interruptibility
	violations
)

var violationNames = [violations]string{
	"none", "event", "CR0", "CR4", "IA-32e mode", "CR3", "DR7", "SYSENTER", "PAT", "EFER", "virtual-8086 mode", "TR", "LDTR",
	"CS", "SS", "data segment", "GDTR or IDTR", "RIP", "RFLAGS", "interruptibility",
}

// String names what is wrong.
func (v Violation) String() string {
	if v < violations {
		return violationNames[v]
	}
	return "unknown"
}

// More bits of control registers and of RFLAGS (SDM vol. 3 §2.3, §2.5).
const (
	cr0PE = 1 << 0
	cr0WP = 1 << 16

	cr4PAE   = 1 << 5
	cr4PCIDE = 1 << 17

	rflagsFixed    = 1 << 1
	rflagsIF       = 1 << 9
	rflagsVM       = 1 << 17
	rflagsReserved = 0xFFFFFFFFFFC00000 | 1<<15 | 1<<5 | 1<<3
)

// guest is an L2's state with what the checks derive from it.
type guest struct {
	v       *VP
	vm      int
	seg     [tdx.VMCS_SEGMENTS]hcl.Segment
	cr0     uint64
	cr4     uint64
	efer    uint64
	rip     uint64
	rflags  uint64
	ia32e   bool // the entry control
	v8086   bool
	event   l2.Event
	pending bool
}

func (g *guest) get(code uint32) uint64 { return g.v.get(g.vm, code) }

// Indices of segments.
const (
	segES = iota
	segCS
	segSS
	segDS
	segFS
	segGS
	segLDTR
	segTR
)

// entryChecks lists the checks, in the order of the constants.
var entryChecks = [...]struct {
	violation Violation
	broken    func(*guest) bool
}{
	{ViolationEvent, func(g *guest) bool { return g.pending && !injectable(&g.event, g.cr0&cr0PE != 0) }},
	{ViolationCR0, func(g *guest) bool { return g.cr0&(cr0PG|cr0PE) == cr0PG }},
	{ViolationCR4, func(g *guest) bool {
		return g.cr4&cr4CET != 0 && g.cr0&cr0WP == 0 || g.cr4&cr4PCIDE != 0 && !g.ia32e
	}},
	{ViolationIA32e, func(g *guest) bool { return g.ia32e && (g.cr0&cr0PG == 0 || g.cr4&cr4PAE == 0) }},
	{ViolationCR3, func(g *guest) bool { return g.get(tdx.VMCS_GUEST_CR3)>>tdx.GPA_WIDTH_52 != 0 }},
	{ViolationDR7, func(g *guest) bool { return g.get(tdx.VMCS_GUEST_DR7)>>32 != 0 }},
	{ViolationSysenter, func(g *guest) bool {
		return !canonical(g.get(tdx.VMCS_SYSENTER_ESP)) || !canonical(g.get(tdx.VMCS_SYSENTER_EIP))
	}},
	{ViolationPAT, badPAT},
	{ViolationEFER, badEFER},
	{ViolationV8086, func(g *guest) bool { return g.v8086 && badV8086(g) }},
	{ViolationTR, badTR},
	{ViolationLDTR, badLDTR},
	{ViolationCS, func(g *guest) bool { return !g.v8086 && badCS(g) }},
	{ViolationSS, func(g *guest) bool { return !g.v8086 && badSS(g) }},
	{ViolationData, badData},
	{ViolationTables, badTables},
	{ViolationRIP, badRIP},
	{ViolationRFLAGS, badRFLAGS},
	{ViolationBlocking, badBlocking},
}

// Violation checks an L2's state as VM entry does. Preconditions: the VM exists, and
// Load has been called.
func (v *VP) Violation(vm int) Violation {
	g := guest{
		v: v, vm: vm, cr0: v.get(vm, tdx.VMCS_GUEST_CR0), cr4: v.get(vm, tdx.VMCS_GUEST_CR4),
		efer: v.get(vm, tdx.VMCS_GUEST_EFER), rip: v.get(vm, tdx.VMCS_GUEST_RIP), rflags: v.get(vm, tdx.VMCS_GUEST_RFLAGS),
		ia32e: v.get(vm, tdx.VMCS_ENTRY_CONTROLS)&tdx.ENTRY_IA32E != 0,
	}
	g.v8086 = g.rflags&rflagsVM != 0
	g.event, g.pending = v.Event(vm)
	for i := range g.seg {
		g.seg[i] = v.segment(vm, uint32(i))
	}
	v.buffers.guest = g // the checks take its address
	for i := range entryChecks {
		if entryChecks[i].broken(&v.buffers.guest) {
			v.td.stats[countEntry].Add(1)
			return entryChecks[i].violation
		}
	}
	return ViolationNone
}

func badPAT(g *guest) bool {
	for pat := g.get(tdx.VMCS_GUEST_PAT); pat != 0; pat >>= 8 {
		if t := pat & 0xFF; t == 2 || t == 3 || t > 7 {
			return true
		}
	}
	return false
}

func badEFER(g *guest) bool {
	const known = 1 | eferLME | eferLMA | eferNXE
	lma := g.efer&eferLMA != 0
	return g.efer&^known != 0 || lma != g.ia32e || g.cr0&cr0PG != 0 && lma != (g.efer&eferLME != 0)
}

func badV8086(g *guest) bool {
	for i := segES; i <= segGS; i++ {
		s := &g.seg[i]
		if s.Base != uint64(s.Selector)<<4 || s.Limit != 0xFFFF || s.Attributes != 0xF3 {
			return true
		}
	}
	return false
}

// badShape: reserved access rights, or a granularity that does not fit the limit.
func badShape(s *hcl.Segment) bool {
	granular := s.Attributes&hcl.SegGranularity != 0
	return s.Attributes&0xFFFE0F00 != 0 || granular && s.Limit&0xFFF != 0xFFF || !granular && s.Limit>>20 != 0
}

// badSystem: a system segment is present, and its type is one of a set.
func badSystem(s *hcl.Segment, types uint32) bool {
	return s.Selector&4 != 0 || s.Attributes&hcl.SegNonSystem != 0 || s.Attributes&hcl.SegPresent == 0 ||
		types>>(s.Attributes&hcl.SegTypeMask)&1 == 0 || badShape(s) || !canonical(s.Base)
}

func badTR(g *guest) bool {
	types := uint32(1<<3 | 1<<11) // busy, of 16 or 32 bits
	if g.ia32e {
		types = 1 << 11
	}
	return g.seg[segTR].Attributes&hcl.SegUnusable != 0 || badSystem(&g.seg[segTR], types)
}

func badLDTR(g *guest) bool {
	return g.seg[segLDTR].Attributes&hcl.SegUnusable == 0 && badSystem(&g.seg[segLDTR], 1<<2)
}

// badNormal: not a present code or data segment of a type in a set.
func badNormal(s *hcl.Segment, types uint32) bool {
	return s.Attributes&hcl.SegNonSystem == 0 || s.Attributes&hcl.SegPresent == 0 ||
		types>>(s.Attributes&hcl.SegTypeMask)&1 == 0 || badShape(s)
}

func dpl(s *hcl.Segment) uint32 { return s.Attributes >> hcl.SegDPLShift & 3 }

func badCS(g *guest) bool {
	const both = hcl.SegLong | hcl.SegDefaultBig
	s, ss := &g.seg[segCS], &g.seg[segSS]
	if badNormal(s, 1<<3|1<<9|1<<11|1<<13|1<<15) || s.Base>>32 != 0 || g.ia32e && s.Attributes&both == both {
		return true
	}
	switch s.Attributes & hcl.SegTypeMask {
	case 3: // data, as an unrestricted guest has it in real mode
		return dpl(s) != 0
	case 9, 11:
		return dpl(s) != dpl(ss)
	}
	return dpl(s) > dpl(ss)
}

func badSS(g *guest) bool {
	s := &g.seg[segSS]
	if (g.seg[segCS].Attributes&hcl.SegTypeMask == 3 || g.cr0&cr0PE == 0) && dpl(s) != 0 {
		return true
	}
	return s.Attributes&hcl.SegUnusable == 0 && (badNormal(s, 1<<3|1<<7) || s.Base>>32 != 0)
}

func badData(g *guest) bool {
	for _, i := range [...]int{segES, segDS, segFS, segGS} {
		s := &g.seg[i]
		if i >= segFS && !canonical(s.Base) {
			return true
		}
		if g.v8086 || s.Attributes&hcl.SegUnusable != 0 {
			continue
		}
		// Accessed, and readable if it is code.
		if badNormal(s, 1<<1|1<<3|1<<5|1<<7|1<<11|1<<15) || i < segFS && s.Base>>32 != 0 {
			return true
		}
	}
	return false
}

func badTables(g *guest) bool {
	return !canonical(g.get(tdx.VMCS_GUEST_GDTR_BASE)) || !canonical(g.get(tdx.VMCS_GUEST_IDTR_BASE)) ||
		g.get(tdx.VMCS_GUEST_GDTR_LIMIT)>>16 != 0 || g.get(tdx.VMCS_GUEST_IDTR_LIMIT)>>16 != 0
}

func badRIP(g *guest) bool {
	if g.ia32e && g.seg[segCS].Attributes&hcl.SegLong != 0 {
		return !canonical(g.rip)
	}
	return g.rip>>32 != 0
}

func badRFLAGS(g *guest) bool {
	external := g.pending && g.event.Type == tdx.INTERRUPTION_EXTERNAL
	return g.rflags&rflagsReserved != 0 || g.rflags&rflagsFixed == 0 ||
		g.v8086 && (g.ia32e || g.cr0&cr0PE == 0) || external && g.rflags&rflagsIF == 0
}

func badBlocking(g *guest) bool {
	const either = tdx.INTERRUPTIBILITY_STI | tdx.INTERRUPTIBILITY_MOV_SS
	b := g.get(tdx.VMCS_INTERRUPTIBILITY)
	switch {
	case b>>5 != 0 || b&either == either || b&tdx.INTERRUPTIBILITY_SMI != 0:
		return true
	case b&tdx.INTERRUPTIBILITY_STI != 0 && g.rflags&rflagsIF == 0:
		return true
	case !g.pending:
		return false
	case g.event.Type == tdx.INTERRUPTION_EXTERNAL:
		return b&either != 0
	}
	return g.event.Type == tdx.INTERRUPTION_NMI && b&tdx.INTERRUPTIBILITY_MOV_SS != 0
}

// EntryFailure is the exit of a VM entry that refuses the L2's state.
func EntryFailure() l2.Exit {
	return l2.Exit{Reason: tdx.EXIT_INVALID_GUEST_STATE | tdx.EXIT_ENTRY_FAILED}
}
