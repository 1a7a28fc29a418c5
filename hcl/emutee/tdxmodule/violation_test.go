package tdxmodule

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// TestViolations: SDM vol. 3, "Checks on the Guest State Area", row by row. Each row
// breaks one thing in a state that VM entry accepts.
func TestViolations(t *testing.T) {
	type change = func(s *hcl.SpecialRegisters, e *l2.EnterState, set func(code uint32, value uint64))
	special := func(f func(*hcl.SpecialRegisters)) change {
		return func(s *hcl.SpecialRegisters, _ *l2.EnterState, _ func(uint32, uint64)) { f(s) }
	}
	state := func(f func(*l2.EnterState)) change {
		return func(_ *hcl.SpecialRegisters, e *l2.EnterState, _ func(uint32, uint64)) { f(e) }
	}
	field := func(code uint32, value uint64) change {
		return func(_ *hcl.SpecialRegisters, _ *l2.EnterState, set func(uint32, uint64)) { set(code, value) }
	}
	realMode := func(s *hcl.SpecialRegisters) {
		data := hcl.Segment{Limit: 0xffff, Attributes: 0x93}
		s.CR0, s.CR4, s.EFER = 0x20, 0x2040, 0x801
		s.CS, s.SS, s.DS, s.ES, s.FS, s.GS = data, data, data, data, data, data
		s.CS.Attributes = 0x9b
	}
	v8086 := func(s *hcl.SpecialRegisters, e *l2.EnterState, _ func(uint32, uint64)) {
		seg := hcl.Segment{Base: 0x12340, Limit: 0xffff, Selector: 0x1234, Attributes: 0xf3}
		s.CS, s.SS, s.DS, s.ES, s.FS, s.GS = seg, seg, seg, seg, seg, seg
		s.EFER = 0x801
		e.Registers.RFLAGS |= rflagsVM
	}
	for _, c := range []struct {
		what   string
		change change
		want   Violation
	}{
		{"64-bit mode", special(func(*hcl.SpecialRegisters) {}), ViolationNone},
		{"real mode", special(realMode), ViolationNone},
		{"virtual-8086 mode", v8086, ViolationNone},
		{"an external interrupt", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000031), ViolationNone},
		{"an NMI", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000202), ViolationNone},
		{"#PF with its error code", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000b0e), ViolationNone},
		{"#PF without", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x8000030e), ViolationEvent},
		{"#UD with an error code", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000b06), ViolationEvent},
		{"exception 32", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000320), ViolationEvent},
		{"an NMI of vector 3", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000203), ViolationEvent},
		{"a reserved type", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000131), ViolationEvent},
		{"another event", field(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000700), ViolationEvent},

		{"CR4.PCIDE outside of IA-32e mode", special(func(s *hcl.SpecialRegisters) { realMode(s); s.CR4 |= cr4PCIDE }), ViolationCR4},
		{"IA-32e mode without PAE", special(func(s *hcl.SpecialRegisters) { s.CR4 = 0x2040 }), ViolationIA32e},
		{"IA-32e mode without paging", special(func(s *hcl.SpecialRegisters) { s.CR0 = 0x21 }), ViolationIA32e},
		{"paging without protection", special(func(s *hcl.SpecialRegisters) { s.CR0 = 0x80000020 }), ViolationCR0},
		{"CR3 of 53 bits", special(func(s *hcl.SpecialRegisters) { s.CR3 = 1 << 52 }), ViolationCR3},
		{"DR7 of 33 bits", field(tdx.VMCS_GUEST_DR7, 1<<32), ViolationDR7},
		{"SYSENTER_ESP", field(tdx.VMCS_SYSENTER_ESP, 1<<47), ViolationSysenter},
		{"SYSENTER_EIP", field(tdx.VMCS_SYSENTER_EIP, 1<<63), ViolationSysenter},
		{"PAT with type 2", field(tdx.VMCS_GUEST_PAT, 2<<56), ViolationPAT},
		{"PAT with type 8", field(tdx.VMCS_GUEST_PAT, 8), ViolationPAT},
		{"LMA without the entry control", field(tdx.VMCS_ENTRY_CONTROLS, tdx.L2_ENTRY_INIT), ViolationEFER},
		{"LMA without LME", field(tdx.VMCS_GUEST_EFER, 0xc01), ViolationEFER},
		{"EFER.SVME", field(tdx.VMCS_GUEST_EFER, 0x1d01), ViolationEFER},

		{"TR not busy", special(func(s *hcl.SpecialRegisters) { s.TR.Attributes = 0x89 }), ViolationTR},
		{"TR of 16 bits in IA-32e mode", special(func(s *hcl.SpecialRegisters) { s.TR.Attributes = 0x83 }), ViolationTR},
		{"TR unusable", special(func(s *hcl.SpecialRegisters) { s.TR.Attributes |= 1 << 16 }), ViolationTR},
		{"TR in the LDT", special(func(s *hcl.SpecialRegisters) { s.TR.Selector = 0x2c }), ViolationTR},
		{"TR not canonical", special(func(s *hcl.SpecialRegisters) { s.TR.Base = 1 << 50 }), ViolationTR},
		{"TR, granular with a small limit", special(func(s *hcl.SpecialRegisters) { s.TR.Limit, s.TR.Attributes = 0x67, 0x808b }), ViolationTR},
		{"LDTR usable and wrong", special(func(s *hcl.SpecialRegisters) { s.LDT.Attributes = 0x8b }), ViolationLDTR},
		{"LDTR usable", special(func(s *hcl.SpecialRegisters) { s.LDT = hcl.Segment{Limit: 0xff, Attributes: 0x82} }), ViolationNone},
		{"CS not present", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes &^= 0x80 }), ViolationCS},
		{"CS with L and D", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes |= 1 << 14 }), ViolationCS},
		{"CS not accessed", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes = 0xa09a }), ViolationCS},
		{"CS of another DPL than SS", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes |= 3 << 5 }), ViolationCS},
		{"conforming CS of a lower DPL", special(func(s *hcl.SpecialRegisters) {
			s.CS.Attributes, s.SS.Attributes = 0xa09f, 0xc0f3
		}), ViolationNone},
		{"conforming CS of a higher DPL", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes = 0xa0ff }), ViolationCS},
		{"CS of type 3", special(func(s *hcl.SpecialRegisters) { realMode(s); s.CS.Attributes = 0x93 }), ViolationNone},
		{"CS of type 3 with DPL 3", special(func(s *hcl.SpecialRegisters) { realMode(s); s.CS.Attributes = 0xf3 }), ViolationCS},
		{"CS base of 33 bits", special(func(s *hcl.SpecialRegisters) { s.CS.Base = 1 << 32 }), ViolationCS},
		{"CS with reserved rights", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes |= 1 << 8 }), ViolationCS},
		{"CS, limit too large for bytes", special(func(s *hcl.SpecialRegisters) { s.CS.Attributes &^= 1 << 15 }), ViolationCS},
		{"SS read-only", special(func(s *hcl.SpecialRegisters) { s.SS.Attributes = 0xc091 }), ViolationSS},
		{"SS with DPL 3 in real mode", special(func(s *hcl.SpecialRegisters) { realMode(s); s.SS.Attributes = 0xf3; s.CS.Attributes = 0xfb }), ViolationSS},
		{"SS unusable", special(func(s *hcl.SpecialRegisters) { s.SS.Attributes = 1 << 16 }), ViolationNone},
		{"DS not accessed", special(func(s *hcl.SpecialRegisters) { s.DS.Attributes = 0xc092 }), ViolationData},
		{"ES, code that cannot be read", special(func(s *hcl.SpecialRegisters) { s.ES.Attributes = 0xc099 }), ViolationData},
		{"ES unusable", special(func(s *hcl.SpecialRegisters) { s.ES.Attributes = 1 << 16 }), ViolationNone},
		{"FS not canonical", special(func(s *hcl.SpecialRegisters) { s.FS.Base = 1 << 48 }), ViolationData},
		{"GS high", special(func(s *hcl.SpecialRegisters) { s.GS.Base = 0xffff888000000000 }), ViolationNone},
		{"virtual-8086 mode with another limit", func(s *hcl.SpecialRegisters, e *l2.EnterState, set func(uint32, uint64)) {
			v8086(s, e, set)
			s.DS.Limit = 0xfffff
		}, ViolationV8086},
		{"GDTR not canonical", special(func(s *hcl.SpecialRegisters) { s.GDT.Base = 1 << 47 }), ViolationTables},
		{"IDTR limit of 17 bits", field(tdx.VMCS_GUEST_IDTR_LIMIT, 0x10000), ViolationTables},
		{"RIP not canonical", state(func(e *l2.EnterState) { e.Registers.RIP = 1 << 47 }), ViolationRIP},
		{"RIP of 33 bits in real mode", func(s *hcl.SpecialRegisters, e *l2.EnterState, _ func(uint32, uint64)) {
			realMode(s)
			e.Registers.RIP = 1 << 32
		}, ViolationRIP},
		{"RFLAGS without bit 1", state(func(e *l2.EnterState) { e.Registers.RFLAGS = 0x200 }), ViolationRFLAGS},
		{"RFLAGS with bit 3", state(func(e *l2.EnterState) { e.Registers.RFLAGS |= 8 }), ViolationRFLAGS},
		{"RFLAGS with bit 22", state(func(e *l2.EnterState) { e.Registers.RFLAGS |= 1 << 22 }), ViolationRFLAGS},
		{"an interrupt with IF clear", func(_ *hcl.SpecialRegisters, e *l2.EnterState, set func(uint32, uint64)) {
			set(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000031)
			e.Registers.RFLAGS = 2
		}, ViolationRFLAGS},
		{"blocking by STI", field(tdx.VMCS_INTERRUPTIBILITY, 1), ViolationNone},
		{"blocking by STI with IF clear", func(_ *hcl.SpecialRegisters, e *l2.EnterState, set func(uint32, uint64)) {
			set(tdx.VMCS_INTERRUPTIBILITY, 1)
			e.Registers.RFLAGS = 2
		}, ViolationBlocking},
		{"blocking by STI and MOV SS", field(tdx.VMCS_INTERRUPTIBILITY, 3), ViolationBlocking},
		{"blocking by SMI", field(tdx.VMCS_INTERRUPTIBILITY, 4), ViolationBlocking},
		{"a reserved bit", field(tdx.VMCS_INTERRUPTIBILITY, 1<<5), ViolationBlocking},
		{"an interrupt while blocked", func(_ *hcl.SpecialRegisters, _ *l2.EnterState, set func(uint32, uint64)) {
			set(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000031)
			set(tdx.VMCS_INTERRUPTIBILITY, 1)
		}, ViolationBlocking},
		{"an NMI after MOV SS", func(_ *hcl.SpecialRegisters, _ *l2.EnterState, set func(uint32, uint64)) {
			set(tdx.VMCS_ENTRY_INTERRUPTION, 0x80000202)
			set(tdx.VMCS_INTERRUPTIBILITY, 2)
		}, ViolationBlocking},
	} {
		t.Run(c.what, func(t *testing.T) {
			v := newVP(t, nil)
			s, e := runnable(), l2.EnterState{Registers: hcl.Registers{RIP: 0x1000, RFLAGS: 0x202}}
			var late [][2]uint64 // after SetSpecial, which derives the entry control
			c.change(&s, &e, func(code uint32, value uint64) { late = append(late, [2]uint64{uint64(code), value}) })
			v.SetSpecial(1, &s)
			for _, l := range late {
				v.set(1, uint32(l[0]), l[1])
			}
			v.Load(1, &e)
			if got := v.Violation(1); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if refused := v.td.Stats().EntryFailed == 1; refused != (c.want != ViolationNone) {
				t.Error("not counted, or too often")
			}
		})
	}
}

// TestEvents: an event as L1 writes it is what is delivered.
func TestEvents(t *testing.T) {
	v := newVP(t, nil)
	if _, ok := v.Event(1); ok {
		t.Error("an event from nowhere")
	}
	for _, want := range []l2.Event{
		{Type: tdx.INTERRUPTION_EXTERNAL, Vector: 0x31},
		{Type: tdx.INTERRUPTION_NMI, Vector: 2},
		{Type: tdx.INTERRUPTION_EXCEPTION, Vector: 14, HasError: true, Error: 7},
		{Type: tdx.INTERRUPTION_SOFTWARE, Vector: 0x80, Length: 2},
	} {
		v.Write(0, l2.VMCSField(1, tdx.VMCS_ENTRY_INTERRUPTION), want.Info(), all)
		v.Write(0, l2.VMCSField(1, tdx.VMCS_ENTRY_ERROR_CODE), uint64(want.Error), all)
		v.Write(0, l2.VMCSField(1, tdx.VMCS_ENTRY_LENGTH), uint64(want.Length), all)
		if got, ok := v.Event(1); !ok || got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
