package x86emu

import (
	"bytes"
	"testing"
)

// ramp fills a vector register with 1, 2, 3 and so on.
func ramp(n int) func(*State, *machine) {
	return func(_ *State, m *machine) {
		for i := range m.ymm[n] {
			m.ymm[n][i] = byte(i + 1)
		}
	}
}

// holds checks the first bytes of a vector register, and that the rest is zero
// or, for legacy forms, kept from ramp.
func holds(n int, low []byte, kept bool) func(*testing.T, *State, *machine) {
	return func(t *testing.T, _ *State, m *machine) {
		t.Helper()
		var want [32]byte
		if kept {
			for i := 16; i < 32; i++ {
				want[i] = byte(i + 1)
			}
		}
		copy(want[:], low)
		if !bytes.Equal(m.ymm[n][:], want[:]) {
			t.Errorf("register % x, want % x", m.ymm[n], want)
		}
	}
}

const sixteen = "0102030405060708090A0B0C0D0E0F10"

var sixteenBytes = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// vectorVectors follow SDM vol. 2, the pages of the MOV instructions of SSE.
var vectorVectors = []vector{
	{name: "movups [rbx],xmm9", mode: mode64, code: "44 0F 11 0B", set: with(gpr(3, dev), ramp(9)), mem: map[int]string{dev: sixteen}, log: "w8 feb00000=807060504030201, w8 feb00008=100f0e0d0c0b0a09"},
	{name: "movups xmm1,[rbx]", mode: mode64, code: "0F 10 0B", set: with(gpr(3, dataAt+1), ramp(1), bytesAt(dataAt+1, sixteen)), then: holds(1, sixteenBytes, true)},
	{name: "movaps aligned", mode: mode64, code: "0F 29 0B", set: with(gpr(3, dataAt), ramp(1)), mem: map[int]string{dataAt: sixteen}},
	{name: "movaps misaligned", mode: mode64, code: "0F 29 0B", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: gpr(3, dataAt+8)},
	{name: "alignment before page fault", mode: mode64, code: "66 0F 6F 0B", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: with(gpr(3, 0x6008), bytesAt(pte(0x6000), "0000000000000000"))},
	{name: "movdqu across pages", mode: mode64, code: "F3 0F 7F 0B", set: with(gpr(3, 0x5FF8), ramp(1)), mem: map[int]string{0x5FF8: sixteen}},
	{name: "movntdq", mode: mode32, code: "66 0F E7 0B", set: with(gpr(3, dataAt), ramp(1)), mem: map[int]string{dataAt: sixteen}},
	{name: "movntdqa", mode: mode64, code: "66 0F 38 2A 0B", set: with(gpr(3, dataAt), ramp(1), bytesAt(dataAt, sixteen)), then: holds(1, sixteenBytes, true)},
	{name: "movd [rbx],xmm1", mode: mode64, code: "66 0F 7E 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "01020304"}, log: "w4 feb00000=4030201"},
	{name: "movq [rbx],xmm1", mode: mode64, code: "66 48 0F 7E 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "0102030405060708"}, log: "w8 feb00000=807060504030201"},
	{name: "movd xmm1,[rbx]", mode: mode64, code: "66 0F 6E 0B", set: with(gpr(3, dev), ramp(1), bytesAt(dev, "09080706")), log: "r4 feb00000", then: holds(1, append([]byte{9, 8, 7, 6}, make([]byte, 12)...), true)},
	{name: "movq xmm1,[rbx]", mode: mode64, code: "F3 0F 7E 0B", set: with(gpr(3, dev), ramp(1), bytesAt(dev, "09")), log: "r8 feb00000", then: holds(1, append([]byte{9}, make([]byte, 15)...), true)},
	{name: "movq rbx,xmm1", mode: mode64, code: "66 48 0F 7E CB", set: ramp(1), regs: map[int]uint64{3: 0x0807060504030201}},
	{name: "movss load clears", mode: mode64, code: "F3 0F 10 0B", set: with(gpr(3, dev), ramp(1), bytesAt(dev, "09")), log: "r4 feb00000", then: holds(1, append([]byte{9}, make([]byte, 15)...), true)},
	{name: "movsd store", mode: mode64, code: "F2 0F 11 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "0102030405060708"}, log: "w8 feb00000=807060504030201"},
	{name: "movhps store", mode: mode64, code: "0F 17 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "090A0B0C0D0E0F10"}, log: "w8 feb00000=100f0e0d0c0b0a09"},
	{name: "movlps load keeps", mode: mode64, code: "0F 12 0B", set: with(gpr(3, dev), ramp(1)), log: "r8 feb00000", then: holds(1, append(make([]byte, 8), sixteenBytes[8:]...), true)},
	{name: "vmovups [rbx],ymm1", mode: mode64, code: "C5 FC 11 0B", set: with(gpr(3, dataAt), ramp(1)), mem: map[int]string{dataAt: sixteen + "1112131415161718191A1B1C1D1E1F20"}},
	{name: "vmovdqu xmm1 clears", mode: mode64, code: "C5 FA 6F 0B", set: with(gpr(3, dataAt), ramp(1), bytesAt(dataAt, sixteen)), then: holds(1, sixteenBytes, false)},
	{name: "vmovdqa ymm9,[r11]", mode: mode64, code: "C4 41 7D 6F 0B", set: with(gpr(11, dataAt), bytesAt(dataAt, sixteen)), then: holds(9, sixteenBytes, false)},
	{name: "vmovdqa misaligned", mode: mode64, code: "C5 FD 6F 0B", want: Faulted, f: Fault{Vector: vectorGP, HasCode: true}, set: gpr(3, dataAt+16)},
	{name: "vmovd [rbx],xmm1", mode: mode64, code: "C5 F9 7E 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "01020304"}, log: "w4 feb00000=4030201"},
	{name: "vmovq [rbx],xmm1", mode: mode64, code: "C4 E1 F9 7E 0B", set: with(gpr(3, dev), ramp(1)), mem: map[int]string{dev: "0102030405060708"}, log: "w8 feb00000=807060504030201"},
	{name: "vvvv used", mode: mode64, code: "C5 F4 10 0B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "vmovd with L", mode: mode64, code: "C5 FD 7E 0B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "66 before VEX", mode: mode64, code: "66 C5 F8 10 0B", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "VEX without OSXSAVE", mode: mode64, code: "C5 F8 10 0B", want: Faulted, f: Fault{Vector: vectorUD}, set: func(s *State, _ *machine) { s.CR4 &^= cr4OSXSAVE }},
	{name: "VEX without AVX state", mode: mode64, code: "C5 F8 10 0B", want: Faulted, f: Fault{Vector: vectorUD}, set: func(s *State, _ *machine) { s.XCR0 = 3 }},
	{name: "VEX in real mode", mode: mode16, code: "C5 F8 10 C1", want: Faulted, f: Fault{Vector: vectorUD}},
	{name: "LES is not VEX", mode: mode32, code: "C4 03", want: Unsupported, r: ReasonOpcode},
	{name: "SSE without OSFXSR", mode: mode64, code: "0F 10 0B", want: Faulted, f: Fault{Vector: vectorUD}, set: func(s *State, _ *machine) { s.CR4 &^= cr4OSFXSR }},
	{name: "SSE with EM", mode: mode64, code: "0F 10 0B", want: Faulted, f: Fault{Vector: vectorUD}, set: func(s *State, _ *machine) { s.CR0 |= cr0EM | cr0TS }},
	{name: "SSE with TS", mode: mode64, code: "0F 10 0B", want: Faulted, f: Fault{Vector: vectorNM}, set: func(s *State, _ *machine) { s.CR0 |= cr0TS }},
}

func TestVectors(t *testing.T) { runAll(t, vectorVectors) }
