package tpm

import (
	"bytes"
	"maps"
	"os/exec"
	"path"
	"slices"
	"testing"

	"keel/tests/harness"
)

func TestRead(t *testing.T) {
	const console = "KEEL-GUEST userspace\r\nKEEL-GUEST note file ek QUJD\r\nKEEL-GUEST note pcr sha256 12 0xab\r\n" +
		"KEEL-GUEST note found 7\r\nKEEL-GUEST note ack 8\r\nKEEL-GUEST note ack 9\r\nKEEL-GUEST note ack 1"
	s, err := Read(console)
	if err != nil || string(s.Files["ek"]) != "ABC" || s.Found != 7 || s.Ack != 9 {
		t.Errorf("%+v, %v", s, err)
	}
	if want := map[PCR]string{{"sha256", 12}: "0xab"}; !maps.Equal(s.PCRs, want) {
		t.Errorf("PCRs %v", s.PCRs)
	}
	if s, err := Read(""); err != nil || s.Found != -1 || s.Ack != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"file ek !", "pcr sha256 x 0", "found x", "ack 5\nKEEL-GUEST note ack 5", "surprise"} {
		if _, err := Read("KEEL-GUEST note " + bad + "\n"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestScriptsAreShell(t *testing.T) {
	files, err := harness.Scripts(scripts)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, path.Base(f.Name))
		cmd := exec.Command("dash", "-n")
		cmd.Stdin = bytes.NewReader(f.Data)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", f.Name, err, out)
		}
		shared := f.Name == "scripts/common.sh" || f.Name == "scripts/lib.sh"
		if !shared && !bytes.Contains(f.Data, []byte("\nset -eu\n. /scripts/lib.sh\n")) {
			t.Errorf("%s goes on after errors", f.Name)
		}
	}
	if want := []string{"common.sh", ScriptConfidential, "lib.sh", ScriptLUKS, ScriptSelftest, ScriptState, ScriptTools, ScriptWrites}; !slices.Equal(names, want) {
		t.Errorf("scripts %q, want %q", names, want)
	}
}

func TestFlags(t *testing.T) {
	g := Guest{Kernel: "k", Initrd: "i"}
	want := []string{"--kernel", "k", "--initrd", "i", "--append", "console=ttyS0 quiet panic=-1 keel.script=state keel.boot=1"}
	if got := g.Flags(ScriptState, "boot=1"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMachines(t *testing.T) {
	t.Setenv("KEEL_SOAK", "1")
	if all := machines(); len(all) != 8 || !slices.Contains(all, machine{crbNewOne}) || !slices.Contains(all, machine{tisOldFour}) {
		t.Errorf("%v", all)
	}
	t.Setenv("KEEL_SOAK", "")
	if some := machines(tisOldFour); !slices.Equal(some, []machine{{tisOldFour}}) {
		t.Errorf("%v", some)
	}
}
