package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
)

// TestTPMFlags goes through what is asked of a TPM: what it becomes, or how it is
// refused, with the state disk as it was.
func TestTPMFlags(t *testing.T) {
	used, key := stateDisk(t)
	before, err := os.ReadFile(used)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	public := strings.Repeat("7a", config.KeySize)
	wrong := file(t, "wrong", strings.Repeat("11", gueststate.KeyBytes))
	short := file(t, "short", "12ab")
	empty, small := filepath.Join(dir, "empty"), filepath.Join(dir, "small")
	for path, size := range map[string]int{empty: gueststate.MinDisk, small: 1 << 20} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		flags     tpmFlags
		want      handoff.Outcome // empty: it works
		off       bool
		isolation config.Isolation
		hidden    int // disks that it adds
	}{
		"none":                    {flags: tpmFlags{}, off: true},
		"off":                     {flags: tpmFlags{front: "off"}, off: true},
		"CRB":                     {flags: tpmFlags{front: "crb"}},
		"TIS":                     {flags: tpmFlags{front: "tis"}},
		"auto":                    {flags: tpmFlags{front: "auto"}},
		"unknown":                 {flags: tpmFlags{front: "lpc"}, want: handoff.OutcomeUsage},
		"off with state":          {flags: tpmFlags{front: "off", state: used}, want: handoff.OutcomeUsage},
		"key alone":               {flags: tpmFlags{front: "crb", key: key}, want: handoff.OutcomeUsage},
		"reset alone":             {flags: tpmFlags{front: "crb", reset: true}, want: handoff.OutcomeUsage},
		"state":                   {flags: tpmFlags{state: used, key: key}, hidden: 1},
		"state with wrong key":    {flags: tpmFlags{state: used, key: wrong}, want: handoff.OutcomeBadState},
		"state with short key":    {flags: tpmFlags{state: used, key: short}, want: handoff.OutcomeBadState},
		"state without its key":   {flags: tpmFlags{state: used}, want: handoff.OutcomeBadState},
		"state too small":         {flags: tpmFlags{state: small, key: key}, want: handoff.OutcomeBadState},
		"state missing":           {flags: tpmFlags{state: filepath.Join(dir, "absent")}, want: handoff.OutcomeBadState},
		"missing, to be made":     {flags: tpmFlags{state: filepath.Join(dir, "made"), reset: true}, hidden: 1},
		"empty":                   {flags: tpmFlags{state: empty}, hidden: 1},
		"seal unknown":            {flags: tpmFlags{state: used, key: key, seal: "wax"}, want: handoff.OutcomeUsage},
		"sealed by the TEE":       {flags: tpmFlags{state: used, seal: sealHardware}, isolation: config.IsolationSNP, hidden: 1},
		"by a TEE and a key":      {flags: tpmFlags{state: used, key: key, seal: sealHardware}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"by a TEE, no state":      {flags: tpmFlags{front: "crb", seal: sealHardware}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"by a TEE, there is none": {flags: tpmFlags{state: used, seal: sealHardware}, want: handoff.OutcomeUsage},
		"TDX derives no key":      {flags: tpmFlags{state: used, seal: sealHardware}, isolation: config.IsolationTDX, want: handoff.OutcomeUsage},
		"released":                {flags: tpmFlags{state: used, seal: sealReleased, server: "host:1", serverKey: public}, isolation: config.IsolationSNP, hidden: 1},
		"released, key in file":   {flags: tpmFlags{state: used, seal: sealReleased, server: "/run/keys", serverKey: file(t, "public", public+"\n")}, isolation: config.IsolationTDX, hidden: 1},
		"released, no TEE":        {flags: tpmFlags{state: used, seal: sealReleased, server: "host:1", serverKey: public}, want: handoff.OutcomeUsage},
		"released, no state":      {flags: tpmFlags{front: "crb", seal: sealReleased, server: "host:1", serverKey: public}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, own key":       {flags: tpmFlags{state: used, key: key, seal: sealReleased, server: "host:1", serverKey: public}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, no server":     {flags: tpmFlags{state: used, seal: sealReleased, serverKey: public}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, no server key": {flags: tpmFlags{state: used, seal: sealReleased, server: "host:1"}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, bad address":   {flags: tpmFlags{state: used, seal: sealReleased, server: "host", serverKey: public}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, short key":     {flags: tpmFlags{state: used, seal: sealReleased, server: "host:1", serverKey: short}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, no such file":  {flags: tpmFlags{state: used, seal: sealReleased, server: "host:1", serverKey: filepath.Join(dir, "absent")}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
		"released, small state":   {flags: tpmFlags{state: small, seal: sealReleased, server: "host:1", serverKey: public}, isolation: config.IsolationSNP, want: handoff.OutcomeBadState},
		"server, not asked":       {flags: tpmFlags{state: used, key: key, server: "host:1"}, isolation: config.IsolationSNP, want: handoff.OutcomeUsage},
	} {
		t.Run(name, func(t *testing.T) {
			f := runFlags{tpm: tt.flags}
			c, err := f.loadTPM(tt.isolation)
			if tt.want != "" {
				if qemu.OutcomeOf(err) != tt.want || err == nil {
					t.Errorf("%v, want %s", err, tt.want)
				}
				return
			}
			if err != nil || (c == nil) != tt.off || f.TPM == tt.off || len(f.Disks) != tt.hidden {
				t.Fatalf("%+v, TPM %t, %d disks, %v", c, f.TPM, len(f.Disks), err)
			}
			if tt.hidden > 0 && (!f.Disks[0].Hidden || (len(c.Key) == gueststate.KeyBytes) != (c.Seal == config.SealHostKey) || (len(c.KeyServer) == config.KeySize) != (c.Seal == config.SealReleased) || f.KeyServer != tt.flags.server || len(configDisks(f.Disks)) != 0) {
				t.Errorf("%+v with a key of %d bytes", f.Disks[0], len(c.Key))
			}
		})
	}
	if after, err := os.ReadFile(used); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the state was changed (%v)", err)
	}
	// The key that was made is used again, and nobody else reads it.
	if info, err := os.Stat(empty + keySuffix); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	first := runFlags{tpm: tpmFlags{state: empty}}
	second := runFlags{tpm: tpmFlags{state: empty}}
	a, errA := first.loadTPM(config.IsolationNone)
	b, errB := second.loadTPM(config.IsolationNone)
	if errA != nil || errB != nil || !bytes.Equal(a.Key, b.Key) {
		t.Errorf("%v, %v: keys differ: %t", errA, errB, a != nil && b != nil && !bytes.Equal(a.Key, b.Key))
	}
}
