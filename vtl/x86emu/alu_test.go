package x86emu

import (
	"testing"

	"keel/hcl/abi/x86"
)

const arith = flagsArithmetic

// aluVectors follow the instructions' pages of SDM vol. 2 and the flag
// cross-reference of vol. 1 appendix A.
var aluVectors = []vector{
	{name: "add [rbx],al carries", mode: mode64, code: "00 03", set: with(gpr(3, dev, 0, 1), bytesAt(dev, "FF")), mem: map[int]string{dev: "00"}, log: "r1 feb00000, w1 feb00000=0", mask: arith, set1: flagCF | flagZF | flagAF | flagPF},
	{name: "add overflow", mode: mode64, code: "01 03", set: with(gpr(3, dev, 0, 1), bytesAt(dev, "FFFFFF7F")), mem: map[int]string{dev: "00000080"}, log: "r4 feb00000, w4 feb00000=80000000", mask: arith, set1: flagSF | flagAF | flagPF | flagOF},
	{name: "adc with carry in", mode: mode64, code: "48 11 03", set: with(gpr(3, dev, 0, ^uint64(0)), flags(flagCF), bytesAt(dev, "0500000000000000")), mem: map[int]string{dev: "0500000000000000"}, log: "r8 feb00000, w8 feb00000=5", mask: arith, set1: flagCF | flagAF | flagPF},
	{name: "sub [rbx],imm8", mode: mode64, code: "83 2B 01", set: with(gpr(3, dev), bytesAt(dev, "00000000")), mem: map[int]string{dev: "FFFFFFFF"}, log: "r4 feb00000, w4 feb00000=ffffffff", mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "sbb borrow of equals", mode: mode64, code: "66 19 03", set: with(gpr(3, dev, 0, 0x8000), flags(flagCF), bytesAt(dev, "0080")), mem: map[int]string{dev: "FFFF"}, log: "r2 feb00000, w2 feb00000=ffff", mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "sub overflow", mode: mode64, code: "80 2B 01", set: with(gpr(3, dev), bytesAt(dev, "80")), mem: map[int]string{dev: "7F"}, log: "r1 feb00000, w1 feb00000=7f", mask: arith, set1: flagOF | flagAF},
	{name: "and clears CF and OF", mode: mode64, code: "81 23 00 FF 00 00", set: with(gpr(3, dev), flags(arith), bytesAt(dev, "12340000")), mem: map[int]string{dev: "00340000"}, log: "r4 feb00000, w4 feb00000=3400", mask: arith, set1: flagPF},
	{name: "or rax,[rbx]", mode: mode64, code: "48 0B 03", set: with(gpr(3, dev, 0, 1<<63), bytesAt(dev, "01")), regs: map[int]uint64{0: 1<<63 | 1}, log: "r8 feb00000", mask: arith, set1: flagSF},
	{name: "xor eax,[rbx]", mode: mode64, code: "33 03", set: with(gpr(3, dev, 0, 0xFFFFFFFF00000001), bytesAt(dev, "01")), regs: map[int]uint64{0: 0}, log: "r4 feb00000", mask: arith, set1: flagZF | flagPF},
	{name: "cmp [rbx],imm writes nothing", mode: mode64, code: "83 3B FF", set: with(gpr(3, dev), bytesAt(dev, "FFFFFFFF")), log: "r4 feb00000", mask: arith, set1: flagZF | flagPF},
	{name: "cmp al,[rbx]", mode: mode64, code: "3A 03", set: with(gpr(3, dev, 0, 1), bytesAt(dev, "02")), log: "r1 feb00000", mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "cmp ax,imm", mode: mode16, code: "3D 34 12", set: gpr(0, 0xF1234), mask: arith, set1: flagZF | flagPF},
	{name: "test [rbx],al", mode: mode64, code: "84 03", set: with(gpr(3, dev, 0, 0x80), bytesAt(dev, "C0")), log: "r1 feb00000", mask: arith, set1: flagSF},
	{name: "test dword [rbx],imm", mode: mode64, code: "F7 03 00 00 00 80", set: with(gpr(3, dev), flags(flagCF|flagOF), bytesAt(dev, "00000080")), log: "r4 feb00000", mask: arith, set1: flagSF | flagPF},
	{name: "inc keeps CF", mode: mode64, code: "FF 03", set: with(gpr(3, dev), flags(flagCF), bytesAt(dev, "FFFFFFFF")), mem: map[int]string{dev: "00000000"}, log: "r4 feb00000, w4 feb00000=0", mask: arith, set1: flagCF | flagZF | flagAF | flagPF},
	{name: "dec to overflow", mode: mode64, code: "FE 0B", set: with(gpr(3, dev), bytesAt(dev, "80")), mem: map[int]string{dev: "7F"}, log: "r1 feb00000, w1 feb00000=7f", mask: arith, set1: flagOF | flagAF},
	{name: "not keeps flags", mode: mode64, code: "F6 13", set: with(gpr(3, dev), flags(arith), bytesAt(dev, "0F")), mem: map[int]string{dev: "F0"}, log: "r1 feb00000, w1 feb00000=f0"},
	{name: "neg zero", mode: mode64, code: "F7 1B", set: with(gpr(3, dev), flags(flagCF)), log: "r4 feb00000, w4 feb00000=0", mask: arith, set1: flagZF | flagPF},
	{name: "neg minimum", mode: mode64, code: "F6 1B", set: with(gpr(3, dev), bytesAt(dev, "80")), log: "r1 feb00000, w1 feb00000=80", mask: arith, set1: flagCF | flagSF | flagOF},
	{name: "xchg device", mode: mode64, code: "87 03", set: with(gpr(3, dev, 0, 0xFFFFFFFF00000007), bytesAt(dev, "09")), regs: map[int]uint64{0: 9}, mem: map[int]string{dev: "07"}, log: "r4 feb00000, w4 feb00000=7"},
	{name: "xchg [rbx],bh", mode: mode64, code: "86 3B", set: with(gpr(3, dataAt), bytesAt(dataAt, "99")), regs: map[int]uint64{3: 0x9900}, mem: map[int]string{dataAt: "50"}},
	{name: "lock xadd", mode: mode64, code: "F0 0F C1 03", set: with(gpr(3, dataAt, 0, 2), bytesAt(dataAt, "05")), regs: map[int]uint64{0: 5}, mem: map[int]string{dataAt: "07"}, mask: arith},
	{name: "xadd of one register", mode: mode64, code: "0F C1 C0", set: gpr(0, 3), regs: map[int]uint64{0: 6}, mask: arith, set1: flagPF},
	{name: "xchg r8,rax", mode: mode64, code: "4C 87 C0", set: gpr(0, 1, 8, 2), regs: map[int]uint64{0: 2, 8: 1}},
	{name: "lock add retries", mode: mode64, code: "F0 01 03", set: with(gpr(3, dataAt+4, 0, 1), bytesAt(dataAt, "0000000010"), func(_ *State, m *machine) {
		m.race = func(m *machine) { m.race = nil; m.ram[dataAt+5] = 1 }
	}), mem: map[int]string{dataAt + 4: "1101"}, mask: arith, set1: flagPF},
	{name: "xchg locks without prefix", mode: mode64, code: "87 03", set: with(gpr(3, dataAt, 0, 7), func(_ *State, m *machine) {
		m.race = func(m *machine) { m.race = nil; m.ram[dataAt] = 9 }
	}), regs: map[int]uint64{0: 9}, mem: map[int]string{dataAt: "07"}},
	{name: "lock add sees a late change", mode: mode64, code: "F0 01 03", set: with(gpr(3, dataAt, 0, 1), func(_ *State, m *machine) {
		reads := 0
		m.onRead = func(m *machine, gpa x86.GPA) {
			if gpa == dataAt {
				if reads++; reads == 2 {
					m.ram[dataAt] = 0x20
				}
			}
		}
	}), mem: map[int]string{dataAt: "21"}, mask: arith, set1: flagPF},
	{name: "lock add gives up", mode: mode64, code: "F0 01 03", want: Continue, set: with(gpr(3, dataAt, 0, 1), func(_ *State, m *machine) {
		m.race = func(m *machine) { m.ram[dataAt] ^= 1 }
	})},
	{name: "lock in 16 bytes", mode: mode64, code: "F0 01 03", set: with(gpr(3, dataAt+6, 0, 1)), mem: map[int]string{dataAt + 6: "01"}, mask: arith},
	{name: "split lock", mode: mode64, code: "F0 01 03", set: with(gpr(3, dataAt+14, 0, 1)), want: Unsupported, r: ReasonSplitLock},
	{name: "cmpxchg equal", mode: mode64, code: "0F B1 0B", set: with(gpr(3, dev, 0, 0xFF00000005, 1, 9), bytesAt(dev, "05")), mem: map[int]string{dev: "09"}, log: "r4 feb00000, w4 feb00000=9", mask: arith, set1: flagZF | flagPF},
	{name: "cmpxchg unequal writes back", mode: mode64, code: "0F B0 0B", set: with(gpr(3, dev, 0, 0x104, 1, 9), bytesAt(dev, "05")), regs: map[int]uint64{0: 0x105}, log: "r1 feb00000, w1 feb00000=5", mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "cmpxchg register unequal", mode: mode64, code: "0F B1 D1", set: gpr(0, 1, 1, 1<<40|2), regs: map[int]uint64{0: 2}, mask: arith, set1: flagCF | flagSF | flagAF | flagPF},
	{name: "lock cmpxchg8b equal", mode: mode64, code: "F0 0F C7 0B", set: with(gpr(0, 1, 2, 2, 3, dataAt, 1, 4), bytesAt(dataAt, "0100000002000000")), mem: map[int]string{dataAt: "0050000004000000"}, mask: arith, set1: flagZF},
	{name: "cmpxchg8b unequal", mode: mode32, code: "0F C7 0E", set: with(gpr(6, dataAt, 0, 1), flags(arith), bytesAt(dataAt, "0100000002000000")), regs: map[int]uint64{2: 2}, mask: arith, set1: arith &^ flagZF},
	{name: "lock cmpxchg16b equal", mode: mode64, code: "F0 48 0F C7 0E", set: with(gpr(6, dataAt, 3, 7, 1, 8)), mem: map[int]string{dataAt: "07000000000000000800000000000000"}, mask: arith, set1: flagZF},
	{name: "cmpxchg16b device", mode: mode64, code: "48 0F C7 0E", set: with(gpr(6, dev, 3, 7, 1, 8)), mem: map[int]string{dev: "07000000000000000800000000000000"}, log: "r8 feb00000, r8 feb00008, w8 feb00000=7, w8 feb00008=8", mask: arith, set1: flagZF},
	{name: "cmpxchg16b alignment before page fault", mode: mode64, code: "48 0F C7 0E", set: with(gpr(6, 0x6008), bytesAt(pte(0x6000), "0000000000000000")), want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}},
	{name: "cmpxchg16b misaligned", mode: mode64, code: "48 0F C7 0E", set: with(gpr(6, dataAt+8)), want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}},
}

func TestArithmetic(t *testing.T) { runAll(t, aluVectors) }

// bitVectors follow SDM vol. 2, "BT", "BTS", "BTR", "BTC".
var bitVectors = []vector{
	{name: "bt imm", mode: mode64, code: "0F BA 23 05", set: with(gpr(3, dev), bytesAt(dev, "20")), log: "r4 feb00000", mask: arith, set1: flagCF},
	{name: "bt imm wraps", mode: mode64, code: "0F BA 23 25", set: with(gpr(3, dev), flags(arith), bytesAt(dev, "00")), log: "r4 feb00000", mask: arith, set1: arith &^ flagCF},
	{name: "bts register reaches out", mode: mode64, code: "0F AB 03", set: gpr(3, dev, 0, 100), mem: map[int]string{dev + 12: "10"}, log: "r4 feb0000c, w4 feb0000c=10", mask: arith},
	{name: "btr negative offset", mode: mode64, code: "0F B3 03", set: with(gpr(3, dev+8, 0, 0xFFFFFFFF), bytesAt(dev+4, "FFFFFFFF")), mem: map[int]string{dev + 4: "FFFFFF7F"}, log: "r4 feb00004, w4 feb00004=7fffffff", mask: arith, set1: flagCF},
	{name: "btc 64 bits", mode: mode64, code: "48 0F BB 03", set: with(gpr(3, dev, 0, 65)), mem: map[int]string{dev + 8: "02"}, log: "r8 feb00008, w8 feb00008=2", mask: arith},
	{name: "bts 16 bits, negative", mode: mode16, code: "0F AB 07", set: gpr(3, dataAt+2, 0, 0xFFFF), mem: map[int]string{dataAt: "0080"}, mask: arith},
	{name: "lock bts imm", mode: mode64, code: "F0 0F BA 2B 1F", set: gpr(3, dataAt), mem: map[int]string{dataAt: "00000080"}, mask: arith},
	{name: "btc register", mode: mode64, code: "0F BB C1", set: gpr(0, 33, 1, 3), regs: map[int]uint64{1: 1}, mask: arith, set1: flagCF},
}

func TestBits(t *testing.T) { runAll(t, bitVectors) }
