package paravisor

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"keel/hcl"
)

func TestLogExits(t *testing.T) {
	var out bytes.Buffer
	trace := exitTrace{log: slog.New(slog.NewTextHandler(&out, nil))}
	trace.kinds.Store(allKinds)
	for _, tt := range []struct {
		exit hcl.Exit
		want string
	}{
		{hcl.Exit{Kind: hcl.ExitPIO, Port: 0x3f8, Write: true, Data: []byte{0x41}, RIP: 0x10}, "vp=2 kind=pio rip=0x10 write=0x3f8 data=41"},
		{hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfee000b0, Data: []byte{1, 2}}, "kind=mmio rip=0x0 read=0xfee000b0 data=0102"},
		{hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x1b}, "kind=msr-read rip=0x0 msr=0x1b"},
		{hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0x6e0, Value: 7}, "msr=0x6e0 value=0x7"},
		{hcl.Exit{Kind: hcl.ExitHalt}, "kind=halt rip=0x0"},
	} {
		out.Reset()
		trace.observe(2, tt.exit)
		if line := out.String(); !strings.Contains(line, tt.want) || strings.Count(line, "\n") != 1 {
			t.Errorf("%v is logged as %q, want %q", tt.exit.Kind, line, tt.want)
		}
	}
}
