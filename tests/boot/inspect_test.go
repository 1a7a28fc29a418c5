package boot

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/tests/harness"
)

// keelTool runs a command of the tool, wants it to end as it should, and returns what it
// printed: on stdout, or on stderr when it is to fail.
func keelTool(t *testing.T, want handoff.Outcome, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, tool.Path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the status is in ProcessState
	if got := cmd.ProcessState.ExitCode(); got != want.ExitCode() {
		t.Errorf("keel %q: exit status %d, want %s: %s", args, got, want, errs.String())
	}
	if want == handoff.OutcomePoweroff {
		return out.String()
	}
	if said := errs.String(); strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "keel: ") {
		t.Errorf("keel %q: stderr is not one line: %q", args, said)
	}
	return errs.String()
}

// running returns what "keel ps" says of a VM, nil when it does not list it.
func running(t *testing.T, name string) *qemu.VM {
	t.Helper()
	var vms []qemu.VM
	if err := json.Unmarshal([]byte(keelTool(t, handoff.OutcomePoweroff, "ps", "--json")), &vms); err != nil {
		t.Fatal(err)
	}
	for i := range vms {
		if vms[i].Name == name {
			return &vms[i]
		}
	}
	return nil
}

// field is what "keel inspect --json" prints of a field.
type field struct {
	Name     string  `json:"name"`
	Value    any     `json:"value"`
	Withheld bool    `json:"withheld"`
	Fields   []field `json:"fields"`
}

// look reads a part of a VM's tree.
func look(t *testing.T, name, path string) field {
	t.Helper()
	var f field
	if err := json.Unmarshal([]byte(keelTool(t, handoff.OutcomePoweroff, "inspect", "--json", name, path)), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// sum adds up the numbers beneath a field.
func (f field) sum() float64 {
	n, _ := f.Value.(float64)
	for _, below := range f.Fields {
		n += below.sum()
	}
	return n
}

// shell starts a guest that ends at a shell.
func shell(t *testing.T, flags ...string) *harness.Session {
	t.Helper()
	s := tool.StartSession(t, append([]string{
		"--kernel", payload.kernels["6.1"], "--initrd", payload.shell, "--append", "console=ttyS0 quiet",
	}, flags...)...)
	s.Expect(t, "keel-guest:/# ")
	return s
}

// TestInspect looks into guests that run, from their start to their end.
func TestInspect(t *testing.T) {
	t.Parallel()
	one := shell(t)
	if vm := running(t, one.Name); vm == nil || vm.PID != one.Cmd.Process.Pid || vm.VPs != 1 || time.Since(vm.Since) > harness.Patience {
		t.Errorf("keel ps: %+v", vm)
	}
	if table := keelTool(t, handoff.OutcomePoweroff, "ps"); !strings.Contains(table, one.Name) {
		t.Errorf("%s", table)
	}
	before := look(t, one.Name, "")
	table := keelTool(t, handoff.OutcomePoweroff, "inspect", one.Name)
	t.Logf("\n%s", table)
	for _, want := range []string{"exits/", "memory/vtl2_peak ", "diag/requests "} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	exits := look(t, one.Name, "exits").sum()
	one.Send(t, "echo $((6*7))\r")
	one.Expect(t, "42\r\n")
	if after := look(t, one.Name, "exits").sum(); exits == 0 || after <= exits {
		t.Errorf("%v exits, then %v", exits, after)
	}
	if n := look(t, one.Name, "diag/requests").sum(); n < 4 {
		t.Errorf("%v requests", n)
	}
	if before.Withheld {
		t.Errorf("%+v", before)
	}
	keelTool(t, handoff.OutcomeUsage, "inspect", one.Name, "exits/none")
	keelTool(t, handoff.OutcomeUsage, "inspect", "no-such-vm")

	// With another one beside it, which dies under a client's hands.
	two := shell(t, "--mem", "256M")
	if a, b := look(t, one.Name, "memory/guest").sum(), look(t, two.Name, "memory/guest").sum(); a != 512<<20 || b != 256<<20 {
		t.Errorf("%v and %v bytes of memory", a, b)
	}
	c, err := client.Dial(t.Context(), two.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	const looks = 20
	for range looks {
		if _, err := c.Inspect(t.Context(), "", 16); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the whole tree takes %v", (time.Since(began) / looks).Round(10*time.Microsecond))
	two.KillVM(t)
	two.Wait(t, handoff.OutcomeVMLost)
	if _, err := c.Inspect(t.Context(), "", 1); !errors.Is(err, client.ErrNoVM) && !errors.Is(err, client.ErrLost) {
		t.Errorf("a dead VM: %v", err)
	}
	keelTool(t, handoff.OutcomeUsage, "inspect", two.Name)
	if running(t, two.Name) != nil || running(t, one.Name) == nil {
		t.Error("keel ps lists the dead, or not the living")
	}
	one.Send(t, "poweroff\r")
	report := one.Wait(t, handoff.OutcomePoweroff)
	t.Logf("VTL2 needed %d bytes", report.VTL2MemoryPeakBytes)
	if report.VTL2MemoryPeakBytes > maxVTL2Memory {
		t.Errorf("VTL2 needed %d bytes, more than %d", report.VTL2MemoryPeakBytes, maxVTL2Memory)
	}
	keelTool(t, handoff.OutcomeUsage, "inspect", one.Name)
}

// TestInspectIsolated looks into a confidential guest: nothing private comes out.
func TestInspectIsolated(t *testing.T) {
	t.Parallel()
	s := shell(t, "--isolation", "snp")
	c, err := client.Dial(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tree, err := c.Inspect(t.Context(), "", 16)
	if err != nil || !tree.Confidential {
		t.Fatalf("%+v, %v", tree, err)
	}
	public := 0
	var check func(f *inspect.Field)
	check = func(f *inspect.Field) {
		if f.Sensitivity != inspect.Public {
			t.Errorf("%+v came out", f)
		}
		if f.Value != nil {
			public++
		}
		for i := range f.Fields {
			check(&f.Fields[i])
		}
	}
	check(&tree.Field)
	if public == 0 {
		t.Error("nothing came out")
	}
	for _, path := range []string{"exits/pio", "exits/none"} {
		if _, err := c.Inspect(t.Context(), path, 0); !errors.Is(err, client.ErrPath) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if exits, err := c.Inspect(t.Context(), "exits", 1); err != nil || !exits.Withheld || len(exits.Fields) > 0 {
		t.Errorf("%+v, %v", exits, err)
	}
	s.Send(t, "poweroff\r")
	s.Wait(t, handoff.OutcomePoweroff)
}
