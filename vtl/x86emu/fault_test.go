package x86emu

import "testing"

// faultVectors follow SDM vol. 2 §2.3.11 and "LOCK", vol. 3 §5 and §6.
var faultVectors = []vector{
	{name: "ud2", mode: mode64, code: "0F 0B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock mov", mode: mode64, code: "F0 89 03", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock cmp", mode: mode64, code: "F0 39 03", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock cmp imm", mode: mode64, code: "F0 83 3B 01", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock add to a register", mode: mode64, code: "F0 01 C3", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock add from memory", mode: mode64, code: "F0 03 03", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock bt", mode: mode64, code: "F0 0F A3 03", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "lock movs", mode: mode64, code: "F0 A4", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "FF /7", mode: mode64, code: "FF 3B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "cmpxchg8b register", mode: mode64, code: "0F C7 C8", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "movbe register", mode: mode32, code: "0F 38 F0 C0", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "opcode 82h", mode: mode64, code: "82 03 01", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "push es", mode: mode64, code: "06", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "MOV from segment 7", mode: mode64, code: "8C 3B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "no error code in real mode", mode: mode16, code: "88 07", want: Faulted, f: Fault{Vector: vectorGP}, set: with(gpr(3, 0x100), func(s *State, _ *machine) { s.Segments[segDS].Limit = 0xFF })},
	{name: "16 bytes", mode: mode64, code: "66 66 66 66 66 66 66 66 66 66 66 66 66 66 89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}},
	{name: "out of scope", mode: mode64, code: "0F A2", want: Unsupported, r: ReasonOpcode},
	{name: "refused memory", mode: mode64, code: "89 03", want: Unsupported, r: ReasonMemory, set: gpr(3, 0xE0000000)},
	{name: "code in a device", mode: mode64, code: "89 03", want: Unsupported, r: ReasonFetch, set: func(s *State, _ *machine) { s.RIP = deviceAt }},
	{name: "non-canonical data", mode: mode64, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: gpr(3, 1<<47)},
	{name: "last byte non-canonical", mode: mode64, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: gpr(3, 1<<47-2)},
	{name: "non-canonical through RSP", mode: mode64, code: "89 04 24", want: Faulted, f: Fault{Vector: vectorSS, HasCode: true}, set: gpr(4, 1<<47)},
	{name: "non-canonical RIP", mode: mode64, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: func(s *State, _ *machine) { s.RIP = 1 << 47 }},
	{name: "RIP beyond CS", mode: mode32, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: func(s *State, _ *machine) { s.Segments[segCS].Limit = codeAt }},
	{name: "limit one short", mode: mode32, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), func(s *State, _ *machine) { s.Segments[segDS].Limit = dataAt + 2 })},
	{name: "limit just enough", mode: mode32, code: "89 03", mem: map[int]string{dataAt: "01"}, set: with(gpr(3, dataAt, 0, 1), func(s *State, _ *machine) { s.Segments[segDS].Limit = dataAt + 3 })},
	{name: "expand-down below", mode: mode32, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), func(s *State, _ *machine) {
		s.Segments[segDS].Limit = dataAt
		s.Segments[segDS].Attributes |= typeExpandDown
	})},
	{name: "expand-down above", mode: mode32, code: "89 03", mem: map[int]string{dataAt: "01"}, set: with(gpr(3, dataAt, 0, 1), func(s *State, _ *machine) {
		s.Segments[segDS].Limit = dataAt - 1
		s.Segments[segDS].Attributes |= typeExpandDown
	})},
	{name: "read-only segment", mode: mode32, code: "89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), func(s *State, _ *machine) { s.Segments[segDS].Attributes &^= typeWritable })},
	{name: "write through CS", mode: mode32, code: "2E 89 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: gpr(3, dataAt)},
	{name: "execute-only segment", mode: mode32, code: "2E 8B 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), func(s *State, _ *machine) { s.Segments[segCS].Attributes &^= typeReadable })},
	{name: "null segment", mode: mode32, code: "8B 03", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: func(s *State, _ *machine) { s.Segments[segDS].Attributes = 1 << 16 }},
	{name: "alignment check", mode: mode32, code: "8B 03", want: Faulted, f: Fault{Vector: vectorAC, HasCode: true}, set: with(gpr(3, dataAt+2), user, flags(flagAC), func(s *State, _ *machine) { s.CR0 |= cr0AM })},
	{name: "no alignment check for the system", mode: mode32, code: "8B 03", set: with(gpr(3, dataAt+2), flags(flagAC), func(s *State, _ *machine) { s.CR0 |= cr0AM }), regs: map[int]uint64{3: dataAt + 2}},
	{name: "second page missing writes nothing", mode: mode64, code: "48 89 03", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(3, 0x5FFD, 0, ^uint64(0)), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "read-modify-write faults as a write", mode: mode64, code: "01 03", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(3, 0x6000), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "fetch fault in the second page", mode: mode64, code: "90", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfFetch, Address: 0x2000}, set: func(s *State, m *machine) {
		s.RIP = 0x1FFF
		m.ram[0x1FFF] = 0x89
		putInt(m.ram[pte(0x2000):][:8], 0)
	}},
	{name: "second page not needed", mode: mode64, code: "90", rip: 0x2000, set: func(s *State, m *machine) {
		s.RIP = 0x1FFE
		copy(m.ram[0x1FFE:], []byte{0x89, 0x03})
		putInt(m.ram[pte(0x2000):][:8], 0)
		s.GPR[3] = dev
	}, log: "w4 feb00000=0"},
}

func TestFaults(t *testing.T) { runAll(t, faultVectors) }

// TestUnsupportedReportsBytes checks what a caller gets to report.
func TestUnsupportedReportsBytes(t *testing.T) {
	m := &machine{}
	s := newState(m, mode64)
	copy(m.ram[codeAt:], []byte{0x0F, 0xA2})
	e := New(m, m, m)
	r := e.Step(s)
	if r.Length != 15 || r.Bytes[0] != 0x0F || r.Bytes[1] != 0xA2 || r.Op != OpNone {
		t.Errorf("result %+v", r)
	}
	if n := e.Stats().Unsupported[ReasonOpcode]; n != 1 {
		t.Errorf("counted %d", n)
	}
}
