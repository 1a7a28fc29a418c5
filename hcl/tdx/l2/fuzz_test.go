package l2

import (
	"bytes"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// FuzzState decodes any state: what was read is written as it was, and nothing behind it
// changes.
func FuzzState(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x80, 0x5a}, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s EnterState
		if err := s.Decode(b); err != nil {
			if len(b) >= tdx.L2_STATE_SIZE {
				t.Error(err)
			}
			return
		}
		written := bytes.Clone(b)
		clear(written[:tdx.L2_STATE_SIZE])
		if err := s.Encode(written); err != nil || !bytes.Equal(written, b) {
			t.Errorf("written back: % x, %v", written, err)
		}
	})
}

// FuzzExit reads any exit out of L1's registers: what is made of it is within bounds, and
// comes back as the same kind.
func FuzzExit(f *testing.F) {
	f.Add(uint64(tdx.EXIT_IO_INSTRUCTION), uint64(0x3f8<<16), uint64(2)<<32, uint64(0))
	f.Add(uint64(tdx.EXIT_MSR_WRITE), uint64(1), uint64(0), uint64(0x1b))
	f.Add(uint64(tdx.EXIT_EPT_VIOLATION), uint64(0x182), uint64(0), uint64(0xfee00000))
	f.Fuzz(func(t *testing.T, rax, rcx, r11, word uint64) {
		o := Outputs{RAX: rax, RCX: rcx, RDX: word, R8: word, R9: word, R10: word, R11: r11, R13: word}
		x := o.Exit()
		if x.GPA != x86.GPA(word) || uint64(x.Reason)|x.Status != rax {
			t.Errorf("%+v of %+v", x, o)
		}
		if e, ok := EventOf(uint64(x.IDTVectoring), uint64(x.IDTError), uint64(x.Length)); ok {
			if again, _ := EventOf(e.Info(), uint64(e.Error), uint64(e.Length)); again != e {
				t.Errorf("%+v became %+v", e, again)
			}
		}
		r := hcl.Registers{RAX: word, RCX: rcx, RDX: r11}
		var buffer [4]byte
		e, ok := x.HCLExit(&r, &buffer)
		if len(e.Data) > len(buffer) || ok && e.Kind == hcl.ExitPIO && int(e.Size) != len(e.Data) {
			t.Errorf("exit %+v", e)
		}
		if back, is := FromHCL(&e, x.Length); ok && is {
			if kind, same := back.HCLExit(&r, &buffer); !same || kind.Kind != e.Kind {
				t.Errorf("exit %+v became %+v", e, kind)
			}
		}
	})
}
