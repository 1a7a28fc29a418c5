package boot

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
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

// field is what "keel diag inspect --json" prints of a field.
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
	if err := json.Unmarshal([]byte(keelTool(t, handoff.OutcomePoweroff, "diag", "inspect", "--json", name, path)), &f); err != nil {
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

// diagInspect looks at the tree of a guest that runs.
func diagInspect(t *testing.T, vm *diagVM) {
	t.Helper()
	for _, list := range [][]string{{"ps"}, {"diag", "ls"}} {
		if table := keelTool(t, handoff.OutcomePoweroff, list...); !strings.Contains(table, vm.Name) {
			t.Errorf("%s", table)
		}
	}
	if r := running(t, vm.Name); r == nil || r.PID != vm.Cmd.Process.Pid || r.VPs != vm.VPs || time.Since(r.Since) > harness.Patience {
		t.Errorf("keel ps: %+v", r)
	}
	if names := keelTool(t, handoff.OutcomePoweroff, "__complete", "diag", "inspect", ""); !strings.Contains(names, vm.Name) {
		t.Errorf("completion: %s", names)
	}
	table := keelTool(t, handoff.OutcomePoweroff, "diag", "inspect", vm.Name)
	t.Logf("\n%s", table)
	for _, want := range []string{"exits/", "memory/vtl2_peak ", "diag/requests "} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	if got := look(t, vm.Name, "memory/guest").sum(); got != float64(vm.memory) {
		t.Errorf("%v bytes of memory, want %d", got, vm.memory)
	}
	if n := look(t, vm.Name, "diag/requests").sum(); n < 3 {
		t.Errorf("%v requests", n)
	}
	if vm.Confidential {
		withheld(t, vm)
	} else {
		if root := look(t, vm.Name, ""); root.Withheld {
			t.Errorf("%+v", root)
		}
		exits := look(t, vm.Name, "exits").sum()
		vm.Send(t, "echo $((6*7))\r")
		vm.Expect(t, "42\r\n")
		if after := look(t, vm.Name, "exits").sum(); exits == 0 || after <= exits {
			t.Errorf("%v exits, then %v", exits, after)
		}
		vm.failed(t, handoff.OutcomeBadConfig, "not confidential", "attest", vm.Name, "--any-image")
	}
	vm.failed(t, handoff.OutcomeUsage, "nothing to see", "diag", "inspect", vm.Name, "exits/none")
	vm.failed(t, handoff.OutcomeUsage, "no such VM", "diag", "inspect", "no-such-vm")
	vm.failed(t, handoff.OutcomeUsage, "no such VM", "attest", "no-such-vm", "--any-image")

	c := vm.dial(t)
	var took [20]time.Duration
	for i := range took {
		began := time.Now()
		if _, err := c.Inspect(t.Context(), "", 16); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took[:])
	t.Logf("the whole tree takes %v to %v, half of the times up to %v", took[0], took[len(took)-1], took[len(took)/2])
}

// withheld: nothing private comes out of a confidential guest.
func withheld(t *testing.T, vm *diagVM) {
	t.Helper()
	c := vm.dial(t)
	tree, err := c.Inspect(t.Context(), "", 16)
	if err != nil || !tree.Confidential {
		t.Fatalf("%+v, %v", tree, err)
	}
	if allPublic(t, &tree.Field) == 0 {
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
}

// allPublic wants every field to be public and returns how many values there are.
func allPublic(t *testing.T, f *inspect.Field) (values int) {
	t.Helper()
	if f.Sensitivity != inspect.Public {
		t.Errorf("%+v came out", f)
	}
	if f.Value != nil {
		values++
	}
	for i := range f.Fields {
		values += allPublic(t, &f.Fields[i])
	}
	return values
}
