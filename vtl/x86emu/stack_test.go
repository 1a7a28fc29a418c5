package x86emu

import (
	"testing"

	"keel/hcl"
)

// stackVectors follow SDM vol. 2, "PUSH", "POP", "CALL", "JMP".
var stackVectors = []vector{
	{name: "push [rbx]", mode: mode64, code: "FF 33", set: with(gpr(3, dev), bytesAt(dev, "0102030405060708")), regs: map[int]uint64{4: stackAt - 8}, mem: map[int]string{stackAt - 8: "0102030405060708"}, log: "r8 feb00000"},
	{name: "push word [rbx]", mode: mode64, code: "66 FF 33", set: with(gpr(3, dev), bytesAt(dev, "0102")), regs: map[int]uint64{4: stackAt - 2}, mem: map[int]string{stackAt - 2: "0102"}, log: "r2 feb00000"},
	{name: "push [rsp]", mode: mode64, code: "FF 34 24", set: bytesAt(stackAt, "11"), regs: map[int]uint64{4: stackAt - 8}, mem: map[int]string{stackAt - 8: "11"}},
	{name: "push rsp", mode: mode64, code: "54", regs: map[int]uint64{4: stackAt - 8}, mem: map[int]string{stackAt - 8: "0090"}},
	{name: "push r12", mode: mode64, code: "41 54", set: gpr(12, 0x55), regs: map[int]uint64{4: stackAt - 8}, mem: map[int]string{stackAt - 8: "55"}},
	{name: "push imm8", mode: mode32, code: "6A FE", regs: map[int]uint64{4: stackAt - 4}, mem: map[int]string{stackAt - 4: "FEFFFFFF"}},
	{name: "push imm", mode: mode16, code: "68 34 12", regs: map[int]uint64{4: stackAt - 2}, mem: map[int]string{stackAt - 2: "3412"}},
	{name: "16-bit stack wraps", mode: mode16, code: "50", set: gpr(4, 0x10000, 0, 0x1234), regs: map[int]uint64{4: 0x1FFFE}, mem: map[int]string{0xFFFE: "3412"}},
	{name: "pop [rbx]", mode: mode64, code: "8F 03", set: with(gpr(3, dev), bytesAt(stackAt, "0102030405060708")), regs: map[int]uint64{4: stackAt + 8}, mem: map[int]string{dev: "0102030405060708"}, log: "w8 feb00000=807060504030201"},
	{name: "pop [rsp] uses the new RSP", mode: mode64, code: "8F 04 24", set: bytesAt(stackAt, "11"), regs: map[int]uint64{4: stackAt + 8}, mem: map[int]string{stackAt + 8: "11"}},
	{name: "pop rsp", mode: mode64, code: "5C", set: bytesAt(stackAt, "00200000"), regs: map[int]uint64{4: 0x2000}},
	{name: "pop ax", mode: mode64, code: "66 58", set: with(gpr(0, 0x10000), bytesAt(stackAt, "2211")), regs: map[int]uint64{0: 0x11122, 4: stackAt + 2}},
	{name: "call [rbx]", mode: mode64, code: "FF 13", set: with(gpr(3, dev), bytesAt(dev, "0030")), regs: map[int]uint64{4: stackAt - 8}, mem: map[int]string{stackAt - 8: "F21F"}, log: "r8 feb00000", rip: 0x3000},
	{name: "call [ebx]", mode: mode32, code: "FF 13", set: with(gpr(3, dataAt), bytesAt(dataAt, "0030")), regs: map[int]uint64{4: stackAt - 4}, mem: map[int]string{stackAt - 4: "F21F"}, rip: 0x3000},
	{name: "jmp [rip]", mode: mode64, code: "FF 25 0A 30 00 00", set: bytesAt(codeAt+6+0x300A, "00300000"), rip: 0x3000},
	{name: "jmp [bx]", mode: mode16, code: "FF 27", set: with(gpr(3, dataAt), bytesAt(dataAt, "00300000")), rip: 0x3000},
	{name: "call to nowhere", mode: mode64, code: "FF 13", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), bytesAt(dataAt, "0000000000000080"))},
	{name: "bad target before stack fault", mode: mode64, code: "FF 13", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt, 4, 0x6008), bytesAt(dataAt, "0000000000000080"), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "stack fault before the device is read", mode: mode64, code: "FF 33", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(3, dev, 4, 0x6008), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "jmp beyond CS", mode: mode32, code: "FF 23", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, dataAt), bytesAt(dataAt, "01FF0000"), func(s *State, _ *machine) { s.Segments[segCS].Limit = 0xFF00 })},
	{name: "push outside of canonical space", mode: mode64, code: "50", want: Faulted, f: Fault{Vector: vectorSS, HasCode: true}, set: gpr(4, 1<<63)},
	{name: "push beyond SS", mode: mode32, code: "50", want: Faulted, f: Fault{Vector: vectorSS, HasCode: true}, set: func(s *State, _ *machine) { s.Segments[segSS].Limit = 0xFFF }},
	{name: "call with shadow stacks", mode: mode64, code: "FF 13", want: Unsupported, r: ReasonOpcode, set: with(gpr(3, dataAt), func(s *State, _ *machine) { s.CR4 |= cr4CET })},
}

func TestStack(t *testing.T) { runAll(t, stackVectors) }

func TestStateRoundTrip(t *testing.T) {
	want := hcl.Registers{
		RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RSP: 7, RBP: 8,
		R8: 9, R9: 10, R10: 11, R11: 12, R12: 13, R13: 14, R14: 15, R15: 16, RIP: 17, RFLAGS: 18,
	}
	var s State
	s.Load(&want, &hcl.SpecialRegisters{})
	if s.GPR[regRSP] != 7 || s.GPR[regRBX] != 2 || s.GPR[regRDI] != 6 {
		t.Errorf("registers in the wrong order: %v", s.GPR)
	}
	var got hcl.Registers
	s.Store(&got)
	if got != want {
		t.Errorf("got %+v", got)
	}
}
