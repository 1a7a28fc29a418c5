package vtl

import (
	"strings"
	"testing"

	"keel/hcl"
)

// TestOracle: a shadow VP that does the same is right, one that does not is named.
func TestOracle(t *testing.T) {
	read := hcl.Exit{Kind: hcl.ExitMMIO, GPA: latchAt + 0x10, Size: 2}
	tests := map[string]struct {
		shadow func(vp *fakeVP, data []byte) hcl.Exit
		want   string
	}{
		"agrees": {func(vp *fakeVP, data []byte) hcl.Exit {
			vp.regs.RAX, vp.regs.RIP = load(data), 0x1003
			return hcl.Exit{Kind: hcl.ExitKick}
		}, ""},
		"other result": {func(vp *fakeVP, data []byte) hcl.Exit {
			vp.regs.RAX, vp.regs.RIP = load(data)+1, 0x1003
			return hcl.Exit{Kind: hcl.ExitKick}
		}, "registers are"},
		"one access more": {func(*fakeVP, []byte) hcl.Exit { return read }, "follows 1 accesses"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, 2)
			shadow := &fakePartition{vps: map[int]*fakeVP{}, scripts: map[int]script{0: func(vp *fakeVP, turn int) (hcl.Exit, error) {
				switch turn {
				case 0:
					return hcl.Exit{Kind: hcl.ExitKick}, nil // somebody else's
				case 1:
					e := read
					e.Data = data
					return e, nil
				}
				return tt.shadow(vp, data), nil
			}}}
			var g *Guest
			g = rawGuestWith(t, []byte{0xa1, 0x10, 0x00}, shadow, func(_ *fakeVP, turn int) (hcl.Exit, error) { // mov ax,[10h]
				if turn == 0 {
					return fault, nil
				}
				g.Stop(End{Kind: EndStopped})
				return hcl.Exit{Kind: hcl.ExitKick}, nil
			})
			run(t, g)
			s := g.Oracle()
			if s.Compared != 1 || s.Different > 1 || (s.Different == 0) != (tt.want == "") || !strings.Contains(s.First, tt.want) {
				t.Errorf("%+v", s)
			}
			if tt.want != "" && (!strings.Contains(s.First, "0x1000") || shadow.vps[0].resets == 0) {
				t.Errorf("%q, %d resets", s.First, shadow.vps[0].resets)
			}
		})
	}
}

// TestOracleOtherAccess: an access elsewhere, or of another size, differs.
func TestOracleOtherAccess(t *testing.T) {
	for _, e := range []hcl.Exit{
		{Kind: hcl.ExitMMIO, GPA: latchAt + 0x12, Data: make([]byte, 2)},
		{Kind: hcl.ExitMMIO, GPA: latchAt + 0x10, Data: make([]byte, 4)},
		{Kind: hcl.ExitMMIO, GPA: latchAt + 0x10, Data: make([]byte, 2), Write: true},
		{Kind: hcl.ExitShutdown},
	} {
		shadow := &fakePartition{vps: map[int]*fakeVP{}, scripts: map[int]script{0: func(*fakeVP, int) (hcl.Exit, error) { return e, nil }}}
		var g *Guest
		g = rawGuestWith(t, []byte{0xa1, 0x10, 0x00}, shadow, func(_ *fakeVP, turn int) (hcl.Exit, error) {
			if turn == 0 {
				return fault, nil
			}
			g.Stop(End{Kind: EndStopped})
			return hcl.Exit{Kind: hcl.ExitKick}, nil
		})
		run(t, g)
		if s := g.Oracle(); s.Different != 1 || !strings.Contains(s.First, "access 1") {
			t.Errorf("%+v: %+v", e, s)
		}
	}
}
