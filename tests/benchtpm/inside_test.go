package main

import (
	"encoding/json"
	"strings"
	"testing"

	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/tests/bench/peer"
)

// TestOptions: sides differ in image and configuration, and each has its TPM.
func TestOptions(t *testing.T) {
	g := &guests{kernel: []byte("k"), initrd: []byte("i"), work: t.TempDir(), accel: qemu.AccelTCG}
	g.keel.PVH, g.peer.PVH = []byte("keel"), []byte("peer")
	for _, side := range insides {
		o, err := g.options(side)
		if err != nil {
			t.Fatal(err)
		}
		if side.Monitor == "keel" {
			c, err := config.Parse(o.Config, config.Release())
			if err != nil {
				t.Fatal(err)
			}
			got := "off"
			if c.TPM != nil {
				got = c.TPM.Interface.String()
			}
			if got != side.Interface || string(o.Image) != "keel" || strings.Contains(c.CommandLine, "keel.tpm=off") != (got == "off") {
				t.Errorf("%s: TPM %s, %q", side, got, c.CommandLine)
			}
			continue
		}
		var c peer.Config
		if err := json.Unmarshal(o.Config, &c); err != nil {
			t.Fatal(err)
		}
		if args := strings.Join(c.Args, " "); !c.SWTPM || string(o.Image) != "peer" ||
			!strings.Contains(args, "-device tpm-"+side.Interface+",") || !strings.Contains(args, peer.TPMSocket) {
			t.Errorf("%s: %v", side, c)
		}
	}
}

func TestInsideTable(t *testing.T) {
	r := &results{InsideCommand: []string{"swtpm", "socket"}}
	for round := range 3 {
		for i, side := range insides {
			s := insideSample{inside: side, Round: round, Figures: map[string]float64{}}
			if side.Interface != "off" {
				s.Figures["GetRandom"] = float64(100*i + 10*round)
			}
			if side.Monitor == "keel" {
				s.EntryMS = float64(1000*(i+1) + round)
			}
			r.Inside = append(r.Inside, s)
		}
	}
	var b strings.Builder
	r.insideTable(&b)
	for _, want := range []string{
		"Medians of 3 boots", "| GetRandom | 0.52 | 110 | 210 | 0.76 | 310 | 410 |", "after 2001 ms (CRB) and 4001 ms (TIS), without a TPM after 1001 ms", "`swtpm socket`",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "PCR_Read") {
		t.Error("a row without figures")
	}
}
