package vmsa

import (
	"bytes"
	"testing"

	"keel/hcl/abi/snp"
)

// FuzzVMSA decodes any page: what is read must be written as it was, where
// Decode promises it, nothing else may change, and whatever exit the page
// holds must be described within bounds.
func FuzzVMSA(f *testing.F) {
	f.Add([]byte{}, uint64(snp.EXIT_IOIO), uint64(0x3f8<<16|1<<4))
	f.Add(bytes.Repeat([]byte{0xff}, snp.VMSA_SIZE), uint64(snp.EXIT_MSR), uint64(1))
	f.Add(bytes.Repeat([]byte{0x80, 0x5a}, snp.VMSA_SIZE/2), uint64(snp.EXIT_NPF), uint64(6))
	f.Fuzz(func(t *testing.T, b []byte, code, info uint64) {
		page := make([]byte, snp.VMSA_SIZE)
		copy(page, b)
		first := decode(t, page)
		written := bytes.Clone(page)
		if err := first.Encode(written); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(written[snp.VMSA_X87:], page[snp.VMSA_X87:]) {
			t.Error("Encode changed what it does not know")
		}
		second := decode(t, written)
		first.SVME = true // Encode sets it
		if first != second {
			t.Errorf("read back %+v, want %+v", second, first)
		}
		again := bytes.Clone(written)
		if err := second.Encode(again); err != nil || !bytes.Equal(again, written) {
			t.Error("writing twice gives two results")
		}

		if v := first.Violation(^uint64(0)); v >= violations || v.String() == "" {
			t.Errorf("violation %d", v)
		}
		first.Exit = ExitInfo{Code: code, Info1: info, Info2: info}
		var buffer [4]byte
		e, ok := first.HCLExit(&buffer)
		if len(e.Data) > len(buffer) || ok && int(e.Size) != len(e.Data) {
			t.Errorf("exit %+v", e)
		}
		if ok && first.SetExit(&e, 0) {
			if kind, same := first.HCLExit(&buffer); !same || kind.Kind != e.Kind {
				t.Errorf("exit %+v became %+v", e, kind)
			}
		}
	})
}

// decode reads a save area, over one that held something else.
func decode(tb testing.TB, page []byte) SaveArea {
	tb.Helper()
	s := SaveArea{VMPL: 9, CPL: 9, SVME: true, XCR0: 9, MXCSR: 9}
	if err := s.Decode(page); err != nil {
		tb.Fatal(err)
	}
	return s
}
