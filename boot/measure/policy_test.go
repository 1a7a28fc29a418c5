package measure

import (
	"strings"
	"testing"
)

// The bits of SNP ABI 4.3, table "Guest Policy Structure".
func TestSNPPolicy(t *testing.T) {
	for _, tt := range []struct {
		word uint64
		text string
	}{
		{0x20000, "abi=0.0"},
		{0x30000, "abi=0.0,smt"},
		{0x30137, "abi=1.55,smt"},
		{0x60000, "abi=0.0,migrate-ma"},
		{0xa0000, "abi=0.0,debug"},
		{0x120000, "abi=0.0,single-socket"},
		{0x220000, "abi=0.0,cxl"},
		{0x420000, "abi=0.0,aes-256-xts"},
		{0x820000, "abi=0.0,rapl-disable"},
		{0x1020000, "abi=0.0,ciphertext-hiding"},
		{0x2020000, "abi=0.0,page-swap-disable"},
		{0x3ff0000, "abi=0.0,smt,migrate-ma,debug,single-socket,cxl,aes-256-xts,rapl-disable,ciphertext-hiding,page-swap-disable"},
	} {
		p, err := SNPPolicyOf(tt.word)
		if err != nil {
			t.Errorf("%#x: %v", tt.word, err)
			continue
		}
		if p.Word() != tt.word || p.String() != tt.text {
			t.Errorf("%#x: %#x, %q, want %q", tt.word, p.Word(), p, tt.text)
		}
		if back, err := ParseSNPPolicy(tt.text); err != nil || back != p {
			t.Errorf("%q: %+v, %v", tt.text, back, err)
		}
	}
	for _, word := range []uint64{0, 0x10000, 0x4020000, 1<<63 | 0x20000} {
		if _, err := SNPPolicyOf(word); err == nil {
			t.Errorf("%#x accepted", word)
		}
	}
	for text, want := range map[string]uint64{"0x30000": 0x30000, " smt , debug": 0xb0000, "debug,abi=1.51": 0xa0133, "none": 0x20000} {
		if p, err := ParseSNPPolicy(text); err != nil || p.Word() != want {
			t.Errorf("%q: %#x, %v", text, p.Word(), err)
		}
	}
	for _, text := range []string{"", "smt,", "sm", "abi=1", "abi=256.0", "abi=1.x", "abi", "0x10000", "SMT"} {
		if _, err := ParseSNPPolicy(text); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The bits of the TDX module ABI, "ATTRIBUTES".
func TestTDAttributes(t *testing.T) {
	for _, tt := range []struct {
		word  uint64
		text  string
		debug bool
	}{
		{0, "none", false},
		{1, "debug", true},
		{1 << 4, "hgs-plus-prof", true},
		{1 << 5, "perf-prof", true},
		{1 << 6, "pmt-prof", true},
		{1 << 16, "icssd", false},
		{1 << 27, "lass", false},
		{1 << 28, "sept-ve-disable", false},
		{1 << 29, "migratable", false},
		{1 << 30, "pks", false},
		{1 << 31, "key-locker", false},
		{1 << 62, "tpa", false},
		{1 << 63, "perfmon", false},
		{1<<63 | 1<<28 | 1, "debug,sept-ve-disable,perfmon", true},
	} {
		a, err := TDAttributesOf(tt.word)
		if err != nil || a.Word() != tt.word || a.String() != tt.text || a.UnderDebug() != tt.debug {
			t.Errorf("%#x: %#x, %q, debug %v, %v", tt.word, a.Word(), a, a.UnderDebug(), err)
		}
		if back, err := ParseTDAttributes(tt.text); err != nil || back != a {
			t.Errorf("%q: %+v, %v", tt.text, back, err)
		}
	}
	for _, word := range []uint64{1 << 1, 1 << 7, 1 << 26, 1 << 32, 1 << 61} {
		if _, err := TDAttributesOf(word); err == nil {
			t.Errorf("%#x accepted", word)
		}
	}
	if a, err := ParseTDAttributes("0x10000000"); err != nil || !a.SEPTVEDisable {
		t.Errorf("number: %+v, %v", a, err)
	}
	if _, err := ParseTDAttributes("none,debug"); err == nil {
		t.Error("none beside another accepted")
	}
}

// igvm_defs TdxPolicy: not the bits of ATTRIBUTES.
func TestTDXPolicy(t *testing.T) {
	for word, text := range map[uint64]string{0: "none", 1: "debug", 2: "sept-ve-disable", 4: "migratable", 7: "debug,sept-ve-disable,migratable"} {
		p, err := TDXPolicyOf(word)
		if err != nil || p.Word() != word || p.String() != text {
			t.Errorf("%#x: %#x, %q, %v", word, p.Word(), p, err)
		}
		if back, err := ParseTDXPolicy(text); err != nil || back != p {
			t.Errorf("%q: %+v, %v", text, back, err)
		}
		if p.Attributes().String() != text {
			t.Errorf("%#x: attributes %v", word, p.Attributes())
		}
	}
	if _, err := TDXPolicyOf(8); err == nil {
		t.Error("reserved bit accepted")
	}
	if p, err := ParseTDXPolicy("0x3"); err != nil || p.Attributes().Word() != 1<<28|1 {
		t.Errorf("attributes %#x, %v", p.Attributes().Word(), err)
	}
}

// The bits of XCR0 and IA32_XSS (SDM vol. 1, 13.3) and the rules of TDH.MNG.INIT.
func TestXFAM(t *testing.T) {
	for word, text := range map[uint64]string{
		3: "none", 7: "avx", 0xe7: "avx,avx512", 0x103: "pt", 0x203: "pkru", 0x1803: "cet", 0x4003: "uintr",
		0x8003: "lbr", 0x60003: "amx", 0x80003: "apx", 0x6dbe7: "avx,avx512,pt,pkru,cet,uintr,lbr,amx",
	} {
		x, err := XFAMOf(word)
		if err != nil || x.Word() != word || x.String() != text {
			t.Errorf("%#x: %#x, %q, %v", word, x.Word(), x, err)
		}
		if back, err := ParseXFAM(text); err != nil || back != x {
			t.Errorf("%q: %+v, %v", text, back, err)
		}
	}
	for name, word := range map[string]uint64{
		"no x87": 2, "no SSE": 1, "nothing": 0, "MPX": 0x1b, "PASID": 0x403, "HDC": 0x2003, "HWP": 0x10003,
		"half of CET": 0x803, "half of AMX": 0x20003, "a third of AVX-512": 0x27, "AVX-512 without AVX": 0xe3, "beyond": 1<<62 | 3,
	} {
		if _, err := XFAMOf(word); err == nil {
			t.Errorf("%s: %#x accepted", name, word)
		}
	}
	for _, text := range []string{"avx512", "sse4", "0x1", ""} {
		if _, err := ParseXFAM(text); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
}
