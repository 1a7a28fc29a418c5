package x86emu

import (
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// widths are the modes as x86asm names them.
var widths = [...]int{mode16: 16, mode32: 32, mode64: 64}

// class returns the operation that x86asm found, in our words.
func class(op x86asm.Op) string {
	name := op.String()
	switch {
	case strings.HasPrefix(name, "CMOV"):
		return "CMOVcc"
	case strings.HasPrefix(name, "SET"):
		return "SETcc"
	}
	switch name {
	case "MOVSXD", "MOVSX":
		return "MOVSX"
	case "MOVNTI":
		return "MOV"
	case "MOVSD_XMM":
		return "MOVSD"
	case "CMPXCHG8B", "CMPXCHG16B":
		return "CMPXCHG8B/16B"
	case "MOVUPS", "MOVUPD", "MOVDQU", "LDDQU":
		return "MOVU"
	case "MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ", "MOVNTDQA":
		return "MOVA"
	case "MOVLPS", "MOVLPD":
		return "MOVLP"
	case "MOVHPS", "MOVHPD":
		return "MOVHP"
	}
	for _, s := range []string{"MOVS", "CMPS", "STOS", "LODS", "SCAS", "INS", "OUTS"} {
		if len(name) == len(s)+1 && strings.HasPrefix(name, s) && strings.ContainsAny(name[len(s):], "BWDQ") {
			return s
		}
	}
	return name
}

// compareDecode decodes with both decoders and compares length and operation
// where both know the instruction.
func compareDecode(t *testing.T, code []byte, m mode) {
	t.Helper()
	var in instruction
	in.have = copy(in.code[:], code)
	st := in.decode(m)
	if in.pos > in.have || in.pos > maxLength {
		t.Fatalf("% x: consumed %d of %d bytes", code, in.pos, in.have)
	}
	if st == statusShort && in.have == maxLength {
		t.Fatalf("% x: asks for more than 15 bytes", code)
	}
	if st != statusOK {
		return
	}
	again := in
	again.have = in.pos // the length is all that it needs
	clear(again.code[in.pos:])
	if again.decode(m) != statusOK || again.pos != in.pos || again.op != in.op {
		t.Fatalf("% x: decodes otherwise without the bytes that follow", code[:in.pos])
	}
	if in.pos > 0 {
		again.have--
		if st := again.decode(m); st != statusShort {
			t.Fatalf("% x: status %d with a byte missing", code[:in.pos], st)
		}
	}
	ref, err := x86asm.Decode(code, widths[m])
	if err != nil || in.vex || differs(&in, &ref) {
		return
	}
	name := class(ref.Op)
	same := name == in.op.String() || in.op == OpMOVSEG && name == "MOV"
	if !same || ref.Len != in.pos {
		t.Errorf("mode %d: % x: %v, %d bytes; x86asm: %v, %d bytes", widths[m], code, in.op, in.pos, ref, ref.Len)
	}
}

// differs tells where x86asm does not decode, or names by another rule: a REX
// prefix that does not precede the opcode stops it, and so does opcode 82h.
func differs(in *instruction, ref *x86asm.Inst) bool {
	return ref.Op == 0 || in.op == OpMOVD && ref.Op == x86asm.MOVQ
}

func FuzzDecode(f *testing.F) {
	for _, table := range [][]vector{moveVectors, aluVectors, bitVectors, stringVectors, stackVectors, vectorVectors, faultVectors} {
		for _, v := range table {
			if code, err := hex.DecodeString(strings.ReplaceAll(v.code, " ", "")); err == nil {
				f.Add(code, uint8(v.mode))
			}
		}
	}
	f.Fuzz(func(t *testing.T, code []byte, width uint8) {
		compareDecode(t, code, mode(width%3))
	})
}

// TestDecodeEveryOpcode compares all opcodes of both maps under the prefixes
// that change them, with operands in registers and in memory.
func TestDecodeEveryOpcode(t *testing.T) {
	prefixes := []string{"", "66", "f2", "f3", "67", "6667", "48", "6648", "f348", "f248", "4c", "41", "64", "2e", "f0", "f066", "f3f2", "4866"}
	modRMs := []string{"00", "05", "04ba", "44e411", "8411", "c1", "d8", "38", "06", "46fe", "9c25", "f8", "18", "10", "30"}
	tail := "1122334455667788"
	known := 0
	for m := mode16; m <= mode64; m++ {
		for _, p := range prefixes {
			for _, escape := range []string{"", "0f", "0f38"} {
				for op := range 256 {
					for _, mod := range modRMs {
						text := p + escape + hex.EncodeToString([]byte{byte(op)}) + mod + tail
						code, err := hex.DecodeString(text)
						if err != nil {
							t.Fatal(err)
						}
						compareDecode(t, code, m)
						known++
					}
				}
			}
		}
	}
	if known < 500_000 {
		t.Errorf("compared %d instructions", known)
	}
}
