package vtl

import (
	"strings"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
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

// TestOracleStrings: the shadow VP gets what Keel has read from a port, in one exit or in
// several, and no more of it.
func TestOracleStrings(t *testing.T) {
	ins := func(elements int, data []byte) hcl.Exit {
		return hcl.Exit{Kind: hcl.ExitPIO, Port: 0x40, Size: 1, Data: data[:elements]}
	}
	for name, tt := range map[string]struct {
		elements []int // of the exits of the shadow VP
		write    bool
		want     string
	}{
		"at once":     {[]int{3}, false, ""},
		"one by one":  {[]int{1, 1, 1}, false, ""},
		"too many":    {[]int{4}, false, "access 1"},
		"none":        {[]int{0}, false, "access 1"},
		"too few":     {[]int{2}, false, "access 3"},
		"a write":     {[]int{3}, true, "access 1"},
		"another one": {[]int{3, 1}, false, "follows 3 accesses"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			var last []byte
			shadow := &fakePartition{vps: map[int]*fakeVP{}, scripts: map[int]script{0: func(vp *fakeVP, turn int) (hcl.Exit, error) {
				got = append(got, last...)
				last = nil
				if turn < len(tt.elements) {
					last = make([]byte, tt.elements[turn])
					e := ins(tt.elements[turn], last)
					e.Write = tt.write
					return e, nil
				}
				vp.regs.RIP, vp.regs.RDI, vp.regs.RCX = 0x1002, 0x3003, 0
				return hcl.Exit{Kind: hcl.ExitKick}, nil
			}}}
			var g *Guest
			g = rawGuestWith(t, []byte{0xf3, 0x6c}, shadow, func(vp *fakeVP, turn int) (hcl.Exit, error) { // rep insb
				if turn == 0 {
					vp.regs.RDX, vp.regs.RDI, vp.regs.RCX = 0x40, 0x3000, 3
					return hcl.Exit{Kind: hcl.ExitMemoryFault, Port: 0x40, Size: 1, RIP: 0x1000}, nil
				}
				if vp.regs.RIP != 0x1002 || vp.regs.RDI != 0x3003 || vp.regs.RCX != 0 {
					t.Errorf("%+v", vp.regs)
				}
				g.Stop(End{Kind: EndStopped})
				return hcl.Exit{Kind: hcl.ExitKick}, nil
			})
			if err := g.config.Ports.Map("counter", 0x40, 1, &counter{}); err != nil {
				t.Fatal(err)
			}
			run(t, g)
			memory := make([]byte, 4)
			if err := g.config.RAM.ReadAt(0x3000, memory); err != nil || string(memory) != "\x01\x02\x03\x00" {
				t.Errorf("memory holds %x, %v", memory, err)
			}
			s := g.Oracle()
			if s.Compared != 1 || (s.Different == 0) != (tt.want == "") || !strings.Contains(s.First, tt.want) {
				t.Errorf("%+v", s)
			}
			if tt.want == "" && string(got) != "\x01\x02\x03" {
				t.Errorf("the shadow VP read %x", got)
			}
		})
	}
}

// TestOracleRepeats: a shadow VP that has yet to find that a repeated instruction is at its
// end agrees, one with elements left does not.
func TestOracleRepeats(t *testing.T) {
	for name, tt := range map[string]struct {
		left, rip, flags uint64
		different        uint64
	}{
		"stepped over":    {0, 0x1002, 0, 0},
		"at its end":      {0, 0x1000, x86.RFLAGS_RF, 0},
		"an element left": {1, 0x1000, x86.RFLAGS_RF, 1},
		"not under way":   {0, 0x1000, 0, 1},
		"elsewhere":       {0, 0x1001, x86.RFLAGS_RF, 1},
	} {
		data := make([]byte, 1)
		shadow := &fakePartition{vps: map[int]*fakeVP{}, scripts: map[int]script{0: func(vp *fakeVP, turn int) (hcl.Exit, error) {
			if turn < 2 {
				return hcl.Exit{Kind: hcl.ExitMMIO, GPA: latchAt + 0x10 + x86.GPA(turn), Data: data}, nil
			}
			vp.regs.RAX, vp.regs.RSI, vp.regs.RCX, vp.regs.RIP = load(data), 0x12, tt.left, tt.rip
			vp.regs.RFLAGS |= tt.flags
			return hcl.Exit{Kind: hcl.ExitKick}, nil
		}}}
		var g *Guest
		g = rawGuestWith(t, []byte{0xf3, 0xac}, shadow, func(vp *fakeVP, turn int) (hcl.Exit, error) { // rep lodsb
			if turn == 0 {
				vp.regs.RSI, vp.regs.RCX = 0x10, 2
				return fault, nil
			}
			g.Stop(End{Kind: EndStopped})
			return hcl.Exit{Kind: hcl.ExitKick}, nil
		})
		run(t, g)
		if s := g.Oracle(); s.Compared != 1 || s.Different != tt.different {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// counter is a port that counts its reads.
type counter struct{ n uint32 }

func (c *counter) ReadPIO(uint16, int) uint32 { c.n++; return c.n }
func (*counter) WritePIO(uint16, int, uint32) {}

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
