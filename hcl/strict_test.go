package hcl

import (
	"errors"
	"testing"

	"keel/diag/inspect"
)

// TestGate: every row of the list, before the guest runs, while it does, and between.
func TestGate(t *testing.T) {
	running := map[HostRequest]bool{
		HostAccept: true, HostRegisters: true, HostConsole: true, HostControl: true, HostDiagnostics: true, HostEnd: true,
		HostReport: true,
		HostMemory: false, HostDevice: false, HostFile: false, HostKeyServer: false, HostNMI: false,
	}
	names := map[string]bool{}
	for r := range HostRequests {
		row := HostTable[r]
		want, known := running[r]
		if !known || row.Name == "" || row.Reason == "" || names[row.Name] || row.Running != want || !row.Running && !row.Asked {
			t.Errorf("row %d is %+v", r, row)
		}
		names[row.Name] = true
		var killed []HostRequest
		for _, g := range []*Gate{nil, NewGate(nil), NewGate(func(r HostRequest) { killed = append(killed, r) })} {
			for turn, on := range []bool{false, true, true, false} {
				g.Running(on)
				if err := g.Ask(r); (err == nil) != (g == nil || want || !on) || err != nil && !errors.Is(err, ErrStrict) {
					t.Errorf("%s, turn %d: %v", row.Name, turn, err)
				}
			}
			refused := uint64(2)
			if g == nil || want {
				refused = 0
			}
			if g.Refused(r) != refused {
				t.Errorf("%s: %d refusals counted", row.Name, g.Refused(r))
			}
			if fatal, ok := g.Fatal(); ok != (g != nil && g.kill != nil && !want) || ok && fatal != r {
				t.Errorf("%s: fatal %v, %v", row.Name, fatal, ok)
			}
		}
		if (len(killed) == 1) == want || len(killed) > 1 {
			t.Errorf("%s: killed %d times", row.Name, len(killed))
		}
	}
}

func TestGateInspect(t *testing.T) {
	g := NewGate(nil)
	g.Running(true)
	_ = g.Ask(HostDevice)
	_ = g.Ask(HostAccept)
	root, err := inspect.Look(g, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := root.Plain(inspect.Public)
	fields, _ := all.(map[string]any)
	if fields["mode"] != "count" || fields["refused_device"] != uint64(1) || fields["allowed_accept"] != uint64(1) || fields["refused_file"] != uint64(0) {
		t.Errorf("%v", fields)
	}
}
