package l2

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// TestEnterState: ABI, "L2_ENTER_GUEST_STATE": where each register lies.
func TestEnterState(t *testing.T) {
	b := make([]byte, tdx.L2_STATE_SIZE)
	for i := range 19 {
		b[8*i] = byte(i + 1)
	}
	b[tdx.L2_STATE_INTERRUPT_STATUS], b[tdx.L2_STATE_INTERRUPT_STATUS+1] = 0x31, 0x20
	var s EnterState
	if err := s.Decode(b); err != nil {
		t.Fatal(err)
	}
	want := EnterState{Registers: hcl.Registers{
		RAX: 1, RCX: 2, RDX: 3, RBX: 4, RSP: 5, RBP: 6, RSI: 7, RDI: 8, R8: 9, R9: 10, R10: 11, R11: 12, R12: 13, R13: 14,
		R14: 15, R15: 16, RFLAGS: 17, RIP: 18,
	}, SSP: 19, InterruptStatus: 0x2031}
	if s != want {
		t.Errorf("%+v", s)
	}
	if s.Decode(b[1:]) == nil || s.Encode(b[1:]) == nil {
		t.Error("a state too short")
	}
}
