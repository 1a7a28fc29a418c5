package gdb

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"keel/hcl"
)

// state is the registers of a VP.
type state struct {
	general hcl.Registers
	special hcl.SpecialRegisters
}

// register is one that the client sees; its number is its place in the table.
type register struct {
	name string
	bits int
	kind string // of gdb's types
	// field is where a register of 64 or 32 bits is kept, nil where it is not to be had.
	field func(s *state) *uint64
	// selector is that of a segment register.
	selector func(s *state) uint16
	// fixed registers are not to be changed.
	fixed bool
}

// feature is a group of registers that gdb knows by name (GDB manual, "i386 Features").
type feature struct {
	name      string
	types     string
	registers []register
}

// features lists all registers, in the order of their numbers. gdb wants those of the FPU,
// which are not to be had.
var features = []feature{
	{name: "org.gnu.gdb.i386.core", types: flagsType, registers: core()},
	{name: "org.gnu.gdb.i386.segments", registers: []register{
		{name: "fs_base", bits: 64, kind: "int", field: func(s *state) *uint64 { return &s.special.FS.Base }},
		{name: "gs_base", bits: 64, kind: "int", field: func(s *state) *uint64 { return &s.special.GS.Base }},
	}},
	{name: "org.keel.control", registers: []register{
		{name: "cr0", bits: 64, kind: "int", fixed: true, field: func(s *state) *uint64 { return &s.special.CR0 }},
		{name: "cr2", bits: 64, kind: "int", fixed: true, field: func(s *state) *uint64 { return &s.special.CR2 }},
		{name: "cr3", bits: 64, kind: "int", fixed: true, field: func(s *state) *uint64 { return &s.special.CR3 }},
		{name: "cr4", bits: 64, kind: "int", fixed: true, field: func(s *state) *uint64 { return &s.special.CR4 }},
		{name: "efer", bits: 64, kind: "int", fixed: true, field: func(s *state) *uint64 { return &s.special.EFER }},
	}},
}

// registers is all of them.
var registers = func() (all []register) {
	for _, f := range features {
		all = append(all, f.registers...)
	}
	return all
}()

// core lists the registers that every x86-64 target has.
func core() []register {
	var list []register
	general := func(name, kind string, field func(r *hcl.Registers) *uint64) {
		list = append(list, register{name: name, bits: 64, kind: kind, field: func(s *state) *uint64 { return field(&s.general) }})
	}
	general("rax", "int", func(r *hcl.Registers) *uint64 { return &r.RAX })
	general("rbx", "int", func(r *hcl.Registers) *uint64 { return &r.RBX })
	general("rcx", "int", func(r *hcl.Registers) *uint64 { return &r.RCX })
	general("rdx", "int", func(r *hcl.Registers) *uint64 { return &r.RDX })
	general("rsi", "int", func(r *hcl.Registers) *uint64 { return &r.RSI })
	general("rdi", "int", func(r *hcl.Registers) *uint64 { return &r.RDI })
	general("rbp", "data_ptr", func(r *hcl.Registers) *uint64 { return &r.RBP })
	general("rsp", "data_ptr", func(r *hcl.Registers) *uint64 { return &r.RSP })
	general("r8", "int", func(r *hcl.Registers) *uint64 { return &r.R8 })
	general("r9", "int", func(r *hcl.Registers) *uint64 { return &r.R9 })
	general("r10", "int", func(r *hcl.Registers) *uint64 { return &r.R10 })
	general("r11", "int", func(r *hcl.Registers) *uint64 { return &r.R11 })
	general("r12", "int", func(r *hcl.Registers) *uint64 { return &r.R12 })
	general("r13", "int", func(r *hcl.Registers) *uint64 { return &r.R13 })
	general("r14", "int", func(r *hcl.Registers) *uint64 { return &r.R14 })
	general("r15", "int", func(r *hcl.Registers) *uint64 { return &r.R15 })
	general("rip", "code_ptr", func(r *hcl.Registers) *uint64 { return &r.RIP })
	list = append(list, register{name: "eflags", bits: 32, kind: "x86_eflags", field: func(s *state) *uint64 { return &s.general.RFLAGS }})
	segment := func(name string, of func(s *hcl.SpecialRegisters) *hcl.Segment) {
		list = append(list, register{name: name, bits: 32, kind: "int", fixed: true, selector: func(s *state) uint16 { return of(&s.special).Selector }})
	}
	segment("cs", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.CS })
	segment("ss", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.SS })
	segment("ds", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.DS })
	segment("es", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.ES })
	segment("fs", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.FS })
	segment("gs", func(s *hcl.SpecialRegisters) *hcl.Segment { return &s.GS })
	for i := range 8 {
		list = append(list, register{name: fmt.Sprintf("st%d", i), bits: 80, kind: "i387_ext", fixed: true})
	}
	for _, name := range []string{"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"} {
		list = append(list, register{name: name, bits: 32, kind: "int", fixed: true})
	}
	return list
}

// flagsType says what the bits of RFLAGS are called.
var flagsType = func() string {
	var b strings.Builder
	b.WriteString(`<flags id="x86_eflags" size="4">`)
	for i, name := range []string{
		0: "CF", 1: "", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF",
		14: "NT", 16: "RF", 17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID",
	} {
		if name != "" || i == 1 { // the bit that is always set
			fmt.Fprintf(&b, `<field name="%s" start="%d" end="%d"/>`, name, i, i)
		}
	}
	b.WriteString("</flags>")
	return b.String()
}()

// description is the target description (GDB manual, "Target Description Format").
var description = func() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">` +
		`<target version="1.0"><architecture>i386:x86-64</architecture>`)
	for _, f := range features {
		fmt.Fprintf(&b, `<feature name="%s">%s`, f.name, f.types)
		for _, r := range f.registers {
			kind := r.kind
			if kind == "int" {
				kind = fmt.Sprintf("int%d", r.bits)
			}
			fmt.Fprintf(&b, `<reg name="%s" bitsize="%d" type="%s"/>`, r.name, r.bits, kind)
		}
		b.WriteString("</feature>")
	}
	b.WriteString("</target>")
	return b.String()
}()

// digits is how many there are of a register.
func (r *register) digits() int { return r.bits / 4 }

// text is a register's value as the protocol has it: little-endian, in hexadecimal, x where
// it is not to be had.
func (r *register) text(s *state) string {
	var v uint64
	switch {
	case r.field != nil:
		v = *r.field(s)
	case r.selector != nil:
		v = uint64(r.selector(s))
	default:
		return strings.Repeat("x", r.digits())
	}
	return hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, v)[:r.bits/8])
}

// set gives a register a value, and returns false where it cannot have it.
func (r *register) set(s *state, text string) bool {
	if r.fixed || r.field == nil || len(text) != r.digits() {
		return false
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return false
	}
	var word [8]byte
	copy(word[:], b)
	*r.field(s) = binary.LittleEndian.Uint64(word[:])
	return true
}
