package x86emu

import "testing"

// stringVectors follow SDM vol. 2, "REP" and the string instructions.
var stringVectors = []vector{
	{name: "movsb from device", mode: mode64, code: "A4", set: with(gpr(6, dev, 7, dataAt), bytesAt(dev, "77")), regs: map[int]uint64{6: dev + 1, 7: dataAt + 1}, mem: map[int]string{dataAt: "77"}, log: "r1 feb00000"},
	{name: "rep movsd to device", mode: mode64, code: "F3 A5", set: with(gpr(6, dataAt, 7, dev, 1, 2), bytesAt(dataAt, "0100000002000000")), regs: map[int]uint64{6: dataAt + 8, 7: dev + 8, 1: 0}, mem: map[int]string{dev: "0100000002000000"}, log: "w4 feb00000=1, w4 feb00004=2"},
	{name: "rep count zero", mode: mode64, code: "F3 A5", set: gpr(6, 1<<63, 7, 1<<63)},
	{name: "rep movsb backwards", mode: mode64, code: "F3 A4", set: with(gpr(6, dataAt+1, 7, dataAt+0x11, 1, 2), flags(flagDF), bytesAt(dataAt, "0102")), regs: map[int]uint64{6: dataAt - 1, 7: dataAt + 0xF, 1: 0}, mem: map[int]string{dataAt + 0x10: "0102"}},
	{name: "rep stosb is bounded", mode: mode64, code: "F3 AA", want: Continue, set: gpr(7, dataAt, 1, 1000), regs: map[int]uint64{7: dataAt + burst, 1: 1000 - burst}},
	{name: "rep stosq 32-bit address", mode: mode64, code: "67 F3 48 AB", set: gpr(7, 0xF00000000|dataAt, 1, 0xF00000001, 0, 5), regs: map[int]uint64{7: dataAt + 8, 1: 0}, mem: map[int]string{dataAt: "05"}},
	{name: "stosw 16 bits", mode: mode16, code: "AB", set: gpr(7, 0x15000, 0, 0x1234), regs: map[int]uint64{7: 0x15002}, mem: map[int]string{dataAt: "3412"}},
	{name: "lodsb with override", mode: mode64, code: "65 AC", set: with(gpr(6, 1, 0, 0xFFFF), bytesAt(dev+1, "12"), func(s *State, _ *machine) { s.Segments[segGS].Base = dev }), regs: map[int]uint64{0: 0xFF12, 6: 2}, log: "r1 feb00001"},
	{name: "repe cmpsb stops", mode: mode64, code: "F3 A6", set: with(gpr(6, dataAt, 7, dataAt+16, 1, 9), bytesAt(dataAt, "010203"), bytesAt(dataAt+16, "010204")), regs: map[int]uint64{6: dataAt + 3, 7: dataAt + 19, 1: 6}, mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "repne scasb finds", mode: mode64, code: "F2 AE", set: with(gpr(7, dev, 1, 9, 0, 2), bytesAt(dev, "0102")), regs: map[int]uint64{7: dev + 2, 1: 7}, log: "r1 feb00000, r1 feb00001", mask: arith, set1: flagZF | flagPF},
	{name: "trap flag stops", mode: mode64, code: "F3 AA", want: Continue, set: with(gpr(7, dataAt, 1, 3, 0, 1), flags(flagTF)), regs: map[int]uint64{7: dataAt + 1, 1: 2}, mem: map[int]string{dataAt: "01"}},
	{name: "rep fault after an element", mode: mode64, code: "F3 AA", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(7, 0x5FFF, 1, 3, 0, 1), bytesAt(pte(0x6000), "0000000000000000")), regs: map[int]uint64{7: 0x6000, 1: 2}, mem: map[int]string{0x5FFF: "01"}},
	{name: "scas fault restores flags", mode: mode64, code: "F3 AE", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Address: 0x6000}, set: with(gpr(7, 0x5FFF, 1, 3), flags(flagCF|flagSF), bytesAt(pte(0x6000), "0000000000000000")), regs: map[int]uint64{7: 0x6000, 1: 2}},
	{name: "movs destination fault comes before the device is read", mode: mode64, code: "A4", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(6, dev, 7, 0x6000), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "insd", mode: mode64, code: "6D", set: gpr(7, dataAt, 2, 0x1F0), regs: map[int]uint64{7: dataAt + 4}, mem: map[int]string{dataAt: "01000000"}, log: "in4 1f0"},
	{name: "rep insw", mode: mode32, code: "F3 66 6D", set: gpr(7, dataAt, 1, 2, 2, 0x1F0), regs: map[int]uint64{7: dataAt + 4, 1: 0}, mem: map[int]string{dataAt: "01000200"}, log: "in2 1f0, in2 1f0"},
	{name: "rep outsb", mode: mode64, code: "F3 6E", set: with(gpr(6, dataAt, 1, 2, 2, 0x80), bytesAt(dataAt, "0A0B")), regs: map[int]uint64{6: dataAt + 2, 1: 0}, log: "out1 80=a, out1 80=b"},
	{name: "outs with REX.W", mode: mode64, code: "48 6F", set: with(gpr(6, dataAt, 2, 0x80), bytesAt(dataAt, "0A0B0C0D")), regs: map[int]uint64{6: dataAt + 4}, log: "out4 80=d0c0b0a"},
	{name: "ins fault before the port", mode: mode64, code: "6C", want: Faulted, f: Fault{Vector: vectorPF, HasCode: true, Code: pfWrite, Address: 0x6000}, set: with(gpr(7, 0x6000), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "outs at CPL 3, no bitmap", mode: mode32, code: "6E", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(6, dataAt), user)},
	{name: "outs at CPL 3, IOPL 3", mode: mode32, code: "6E", set: with(gpr(6, dataAt, 2, 1), user, flags(3<<flagIOPL)), regs: map[int]uint64{6: dataAt + 1}, log: "out1 1=0"},
	{name: "outs at CPL 3, bitmap allows", mode: mode32, code: "6E", set: with(gpr(6, dataAt, 2, 9), user, bitmap("FFFD")), regs: map[int]uint64{6: dataAt + 1}, log: "out1 9=0"},
	{name: "outs at CPL 3, beyond the TSS", mode: mode32, code: "6E", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(6, dataAt, 2, 24), user, bitmap(""))},
	{name: "outs at CPL 3, bitmap denies the second byte", mode: mode32, code: "66 6F", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(6, dataAt, 2, 9), user, bitmap("FFFD"))},
}

// user lowers the privileges to CPL 3.
func user(s *State, _ *machine) {
	for i := range s.Segments {
		s.Segments[i].Attributes |= 3 << 5
	}
}

// bitmap makes a TSS at 7000h whose I/O bitmap begins with some bytes.
func bitmap(text string) func(*State, *machine) {
	return func(s *State, m *machine) {
		s.TR.Base, s.TR.Limit = 0x7000, 0x6B
		m.ram[0x7000+tssBitmapOffset] = 0x68
		bytesAt(0x7068, text)(s, m)
	}
}

func TestStrings(t *testing.T) { runAll(t, stringVectors) }

// TestStringResumes runs a long copy to its end through Continue.
func TestStringResumes(t *testing.T) {
	m := &machine{}
	s := newState(m, mode64)
	copy(m.ram[codeAt:], []byte{0xF3, 0xA4})
	gpr(6, 0x5F80, 7, 0xA010, 1, 300)(s, m)
	for i := range 300 {
		m.ram[0x5F80+i] = byte(i*7 + 1)
	}
	e := New(m, m, m)
	steps := 0
	for e.Step(s).Outcome == Continue {
		if steps++; steps > 300/burst {
			t.Fatal("does not end")
		}
	}
	if s.GPR[1] != 0 || s.RIP != codeAt+2 {
		t.Fatalf("RCX %d, RIP %#x", s.GPR[1], s.RIP)
	}
	diff(t, "copy", m.ram[0xA010:0xA010+300], m.ram[0x5F80:0x5F80+300])
	if got := e.Stats(); got.Done != 1 || got.Continue != uint64(steps) {
		t.Errorf("counted %+v for %d continues", got, steps)
	}
}

// TestSingleStep checks that TF asks for a debug exception.
func TestSingleStep(t *testing.T) {
	m := &machine{}
	s := newState(m, mode64)
	copy(m.ram[codeAt:], []byte{0x89, 0x03})
	s.GPR[3] = deviceAt
	s.RFLAGS |= flagTF | flagRF
	if r := New(m, m, m).Step(s); !r.SingleStep || r.Outcome != Done || r.Op != OpMOV || r.Length != 2 {
		t.Errorf("result %+v", r)
	}
	if s.RFLAGS&flagRF != 0 {
		t.Error("RF survives the instruction")
	}
}
