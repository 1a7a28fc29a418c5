package acpi

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Intel's interpreter runs the method as an operating system would.
func TestOSC(t *testing.T) {
	if _, err := exec.LookPath("acpiexec"); err != nil {
		t.Fatal("acpiexec is missing: apt-get install acpica-tools")
	}
	const (
		hostBridge = "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66"
		other      = "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 67"
	)
	table := filepath.Join(t.TempDir(), "dsdt.aml")
	if err := os.WriteFile(table, find(t, build(t, machine()), "DSDT"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, uuid, in, want string }{
		{"query for everything", hostBridge, "01 00 00 00 1F 01 00 00 1F 00 00 00", "11 00 00 00 1F 01 00 00 10 00 00 00"},
		{"request for what there is", hostBridge, "00 00 00 00 1F 01 00 00 10 00 00 00", "00 00 00 00 1F 01 00 00 10 00 00 00"},
		{"request for nothing", hostBridge, "00 00 00 00 00 00 00 00 00 00 00 00", "00 00 00 00 00 00 00 00 00 00 00 00"},
		{"unknown UUID", other, "00 00 00 00 00 00 00 00 1F 00 00 00", "04 00 00 00 00 00 00 00 1F 00 00 00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each takes a second, nearly all of it asleep
			call := `evaluate \_SB.PCI0._OSC (` + c.uuid + ") 1 3 (" + c.in + ")"
			out, err := exec.CommandContext(t.Context(), "acpiexec", "-b", call, table).CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "[Buffer] Length 0C") {
				t.Errorf("want %s: %v\n%s", c.want, err, out)
			}
		})
	}
}
