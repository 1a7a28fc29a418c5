package x86emu

import "testing"

const dev = deviceAt

// moveVectors follow SDM vol. 2, "MOV", "MOVZX", "MOVSX/MOVSXD", "MOVBE",
// "MOVNTI", "CMOVcc" and "SETcc".
var moveVectors = []vector{
	{name: "mov [rbx],eax", mode: mode64, code: "89 03", set: gpr(3, dev, 0, 0xFFFFFFFF11223344), mem: map[int]string{dev: "44332211"}, log: "w4 feb00000=11223344"},
	{name: "mov [rbx],rax", mode: mode64, code: "48 89 03", set: gpr(3, dev, 0, 0x8877665544332211), mem: map[int]string{dev: "1122334455667788"}, log: "w8 feb00000=8877665544332211"},
	{name: "mov [rbx],ax", mode: mode64, code: "66 89 03", set: gpr(3, dev, 0, 0x11223344), mem: map[int]string{dev: "4433"}, log: "w2 feb00000=3344"},
	{name: "mov [rbx],ah", mode: mode64, code: "88 23", set: gpr(3, dev, 0, 0x3344), mem: map[int]string{dev: "33"}, log: "w1 feb00000=33"},
	{name: "mov [rbx],spl", mode: mode64, code: "40 88 23", set: gpr(3, dev, 4, 0x3344), mem: map[int]string{dev: "44"}, log: "w1 feb00000=44"},
	{name: "mov eax,[rbx]", mode: mode64, code: "8B 03", set: with(gpr(3, dev, 0, ^uint64(0)), bytesAt(dev, "11223384")), regs: map[int]uint64{0: 0x84332211}, log: "r4 feb00000"},
	{name: "mov ax,[rbx]", mode: mode64, code: "66 8B 03", set: with(gpr(3, dev, 0, ^uint64(0)), bytesAt(dev, "1122")), regs: map[int]uint64{0: 0xFFFFFFFFFFFF2211}, log: "r2 feb00000"},
	{name: "mov ch,[rbx]", mode: mode64, code: "8A 2B", set: with(gpr(3, dev, 1, 0x1111), bytesAt(dev, "99")), regs: map[int]uint64{1: 0x9911}, log: "r1 feb00000"},
	{name: "mov r13,[r12+r9*8-16]", mode: mode64, code: "4F 8B 6C CC F0", set: with(gpr(12, dev, 9, 3), bytesAt(dev+8, "0102030405060708")), regs: map[int]uint64{13: 0x0807060504030201}, log: "r8 feb00008"},
	{name: "mov eax,[rip+disp]", mode: mode64, code: "8B 05 0A 30 00 00", set: bytesAt(codeAt+6+0x300A, "78563412"), regs: map[int]uint64{0: 0x12345678}},
	{name: "mov dword [rip+disp],imm", mode: mode64, code: "C7 05 06 30 00 00 01 02 03 04", mem: map[int]string{codeAt + 10 + 0x3006: "01020304"}},
	{name: "mov qword [rbx],imm", mode: mode64, code: "48 C7 43 08 FE FF FF FF", set: gpr(3, dev), mem: map[int]string{dev + 8: "FEFFFFFFFFFFFFFF"}, log: "w8 feb00008=fffffffffffffffe"},
	{name: "mov word [rbx],imm", mode: mode64, code: "66 C7 03 34 12", set: gpr(3, dev), mem: map[int]string{dev: "3412"}, log: "w2 feb00000=1234"},
	{name: "mov byte [ebx],imm", mode: mode64, code: "67 C6 03 7F", set: gpr(3, 1<<32|dev), mem: map[int]string{dev: "7F"}, log: "w1 feb00000=7f"},
	{name: "mov eax,moffs64", mode: mode64, code: "A1 10 00 B0 FE 00 00 00 00", set: bytesAt(dev+16, "01000000"), regs: map[int]uint64{0: 1}, log: "r4 feb00010"},
	{name: "mov moffs32,al", mode: mode32, code: "A2 10 00 B0 FE", set: gpr(0, 0x55), mem: map[int]string{dev + 16: "55"}, log: "w1 feb00010=55"},
	{name: "mov ax,moffs16", mode: mode16, code: "A1 00 50", set: bytesAt(dataAt, "3412"), regs: map[int]uint64{0: 0x1234}},
	{name: "mov gs:[rbx],eax", mode: mode64, code: "65 89 03", set: with(gpr(3, 0x10, 0, 7), func(s *State, _ *machine) { s.Segments[segGS].Base = dev }), mem: map[int]string{dev + 16: "07000000"}, log: "w4 feb00010=7"},
	{name: "ds override ignored", mode: mode64, code: "64 3E 89 03", set: with(gpr(3, 0x10, 0, 7), func(s *State, _ *machine) { s.Segments[segFS].Base = dev }), mem: map[int]string{dev + 16: "07000000"}, log: "w4 feb00010=7"},
	{name: "rex before prefix ignored", mode: mode64, code: "48 66 89 03", set: gpr(3, dev, 0, 0x11223344), mem: map[int]string{dev: "4433"}, log: "w2 feb00000=3344"},
	{name: "mov [ebx+esi*4+disp32],eax", mode: mode32, code: "89 84 B3 00 01 00 00", set: gpr(3, dev, 6, 2, 0, 9), mem: map[int]string{dev + 0x108: "09000000"}, log: "w4 feb00108=9"},
	{name: "mov [bx],ax", mode: mode32, code: "67 66 89 07", set: gpr(3, 0xFFFF5000, 0, 0x1234), mem: map[int]string{dataAt: "3412"}},
	{name: "mov [bp+si],al", mode: mode16, code: "88 02", set: gpr(5, 0x4FFF, 6, 1, 0, 0x42), mem: map[int]string{dataAt: "42"}},
	{name: "bp means ss", mode: mode16, code: "88 46 00", set: with(gpr(5, 0x10, 0, 1), func(s *State, _ *machine) { s.Segments[segSS].Base = 0x5000 }), mem: map[int]string{dataAt + 16: "01"}},
	{name: "ebp means ss", mode: mode32, code: "88 45 00", set: with(gpr(5, 0x10, 0, 1), func(s *State, _ *machine) { s.Segments[segSS].Base = 0x5000 }), mem: map[int]string{dataAt + 16: "01"}},
	{name: "sib without base is absolute", mode: mode64, code: "8B 04 35 00 50 00 00", set: with(gpr(6, 4), bytesAt(dataAt+4, "07")), regs: map[int]uint64{0: 7}},
	{name: "mov [bx+di-1],eax", mode: mode16, code: "66 89 41 FF", set: gpr(3, 0x5001, 7, 0, 0, 0x42), mem: map[int]string{dataAt: "42000000"}},
	{name: "mov [ebx],ax", mode: mode16, code: "67 89 03", set: gpr(3, 0x5000, 0, 0x1234), mem: map[int]string{dataAt: "3412"}},
	{name: "16-bit address wraps", mode: mode16, code: "88 07", set: with(gpr(3, 0x15000, 0, 1)), mem: map[int]string{dataAt: "01"}},
	{name: "es base", mode: mode16, code: "26 88 07", set: with(gpr(3, 0x10, 0, 1), func(s *State, _ *machine) { s.Segments[segES].Base = 0x5000 }), mem: map[int]string{dataAt + 16: "01"}},
	{name: "mov [rbx],ds", mode: mode64, code: "48 8C 1B", set: with(gpr(3, dev), func(s *State, _ *machine) { s.Segments[segDS].Selector = 0x2B }), mem: map[int]string{dev: "2B00"}, log: "w2 feb00000=2b"},
	{name: "mov eax,ds", mode: mode64, code: "8C D8", set: with(gpr(0, ^uint64(0)), func(s *State, _ *machine) { s.Segments[segDS].Selector = 0x2B }), regs: map[int]uint64{0: 0x2B}},
	{name: "movzx eax,byte", mode: mode64, code: "0F B6 03", set: with(gpr(3, dev, 0, ^uint64(0)), bytesAt(dev, "80")), regs: map[int]uint64{0: 0x80}, log: "r1 feb00000"},
	{name: "movzx rax,word", mode: mode64, code: "48 0F B7 03", set: with(gpr(3, dev, 0, ^uint64(0)), bytesAt(dev, "0180")), regs: map[int]uint64{0: 0x8001}, log: "r2 feb00000"},
	{name: "movsx eax,byte", mode: mode64, code: "0F BE 03", set: with(gpr(3, dev), bytesAt(dev, "80")), regs: map[int]uint64{0: 0xFFFFFF80}, log: "r1 feb00000"},
	{name: "movsx ax,byte", mode: mode64, code: "66 0F BE 03", set: with(gpr(3, dev, 0, 0x10000), bytesAt(dev, "80")), regs: map[int]uint64{0: 0x1FF80}, log: "r1 feb00000"},
	{name: "movsx rax,word", mode: mode64, code: "48 0F BF 03", set: with(gpr(3, dev), bytesAt(dev, "0080")), regs: map[int]uint64{0: 0xFFFFFFFFFFFF8000}, log: "r2 feb00000"},
	{name: "movsxd rax,dword", mode: mode64, code: "48 63 03", set: with(gpr(3, dev), bytesAt(dev, "00000080")), regs: map[int]uint64{0: 0xFFFFFFFF80000000}, log: "r4 feb00000"},
	{name: "movbe eax,[rbx]", mode: mode64, code: "0F 38 F0 03", set: with(gpr(3, dev), bytesAt(dev, "11223344")), regs: map[int]uint64{0: 0x11223344}, log: "r4 feb00000"},
	{name: "movbe [rbx],ax", mode: mode64, code: "66 0F 38 F1 03", set: gpr(3, dev, 0, 0x1122), mem: map[int]string{dev: "1122"}, log: "w2 feb00000=2211"},
	{name: "movnti [rbx],rax", mode: mode64, code: "48 0F C3 03", set: gpr(3, dev, 0, 1), mem: map[int]string{dev: "0100000000000000"}, log: "w8 feb00000=1"},
	{name: "movnti [bx],eax", mode: mode16, code: "0F C3 07", set: gpr(3, dataAt, 0, 0x12345678), mem: map[int]string{dataAt: "78563412"}},
	{name: "cmovz taken", mode: mode64, code: "0F 44 03", set: with(gpr(3, dev, 0, ^uint64(0)), flags(flagZF), bytesAt(dev, "05")), regs: map[int]uint64{0: 5}, log: "r4 feb00000"},
	{name: "cmovz not taken clears the upper half", mode: mode64, code: "0F 44 03", set: gpr(3, dev, 0, ^uint64(0)), regs: map[int]uint64{0: 0xFFFFFFFF}, log: "r4 feb00000"},
	{name: "setg", mode: mode64, code: "0F 9F 03", set: with(gpr(3, dev), flags(flagSF|flagOF)), mem: map[int]string{dev: "01"}, log: "w1 feb00000=1"},
	{name: "setle not", mode: mode64, code: "0F 9E 03", set: with(gpr(3, dev), flags(flagSF|flagOF), bytesAt(dev, "09")), mem: map[int]string{dev: "00"}, log: "w1 feb00000=0"},
	{name: "across RAM pages", mode: mode64, code: "48 89 03", set: gpr(3, 0x5FFD, 0, 0x0807060504030201), mem: map[int]string{0x5FFD: "0102030405060708"}},
	{name: "across device pages", mode: mode64, code: "48 8B 03", set: with(gpr(3, dev+0xFFD), bytesAt(dev+0xFFD, "0102030405060708")), regs: map[int]uint64{0: 0x0807060504030201}, log: "r3 feb00ffd, r5 feb01000"},
	{name: "code across pages", mode: mode64, code: "90", set: func(s *State, m *machine) {
		s.RIP = 0x1FFE
		copy(m.ram[0x1FFE:], []byte{0xC7, 0x03, 1, 2, 3, 4})
		s.GPR[3] = dev
	}, mem: map[int]string{dev: "01020304"}, log: "w4 feb00000=4030201", rip: 0x2004},
	{name: "15 bytes", mode: mode64, code: "66 66 66 66 66 66 66 66 66 66 66 66 66 89 03", set: gpr(3, dev, 0, 0x1234), mem: map[int]string{dev: "3412"}, log: "w2 feb00000=1234"},
}

func TestMoves(t *testing.T) { runAll(t, moveVectors) }
