package boot

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/server"
	"keel/tests/harness"
)

// errSeen ends a stream of which enough was seen.
var errSeen = errors.New("enough")

// diagLogs follows a VM, and sets what it says.
func diagLogs(t *testing.T, vm *diagVM) {
	t.Helper()
	diagWatch(t, vm)
	diagLog(t, vm)
	diagKmsg(t, vm)
	diagMetrics(t, vm)
	diagUpdate(t, vm)
	diagTop(t, vm)
}

// diagWatch looks at figures that move.
func diagWatch(t *testing.T, vm *diagVM) {
	t.Helper()
	c := vm.dial(t)
	last, n := uint64(0), 0
	err := c.Watch(t.Context(), "uptime", 0, server.MinInterval, func(tree *client.Tree) error {
		up, _ := tree.Value.(uint64)
		if up <= last || tree.Confidential != vm.Confidential {
			t.Errorf("%+v after %d", tree, last)
		}
		if last, n = up, n+1; n == 3 {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("%v", err)
	}
	if err := c.Watch(t.Context(), "exits/none", 0, server.MinInterval, func(*client.Tree) error { return nil }); !errors.Is(err, client.ErrPath) {
		t.Errorf("%v", err)
	}
	out := keelTool(t, handoff.OutcomePoweroff, "diag", "watch", vm.Name, "--depth", "0", "--interval", "100ms", "--count", "2")
	if strings.Count(out, "uptime ") != 2 || strings.Count(out, "version ") != 1 || !strings.Contains(out, "/s\n") {
		t.Errorf("%s", out)
	}
}

// diagLog reads the paravisor's log and follows it. What goes to the host's file has the
// same marks.
func diagLog(t *testing.T, vm *diagVM) {
	t.Helper()
	c := vm.dial(t)
	var last *client.LogLine
	private, withheld := 0, 0
	read := func(l *client.LogLine) error {
		if last != nil && l.Seq <= last.Seq || l.Message == "" {
			t.Errorf("%+v after %+v", l, last)
		}
		last = l
		for _, a := range l.Attrs {
			if a.Sensitivity == 0 {
				private++
			}
			if a.Withheld {
				withheld++
			}
			if vm.Confidential && a.Sensitivity == 0 && a.Value != "" {
				t.Errorf("%+v came out", a)
			}
		}
		return nil
	}
	if err := c.Logs(t.Context(), slog.LevelDebug, 0, false, read); err != nil {
		t.Fatal(err)
	}
	if (withheld > 0) != (vm.Confidential && private > 0) {
		t.Errorf("%d private values, %d withheld", private, withheld)
	}
	// The log goes on while somebody follows it: a reset says why.
	before := uint64(0)
	if last != nil {
		before = last.Seq
	}
	ended := make(chan error, 1)
	go func() {
		ended <- c.Logs(t.Context(), slog.LevelInfo, before, true, func(l *client.LogLine) error {
			if err := read(l); err != nil || l.Message != "the guest resets" {
				return err
			}
			if len(l.Attrs) != 1 || l.Attrs[0].Withheld != vm.Confidential {
				t.Errorf("%+v", l)
			}
			return errSeen
		})
	}()
	vm.Send(t, "reboot\r")
	select {
	case err := <-ended:
		if !errors.Is(err, errSeen) {
			t.Errorf("%v", err)
		}
	case <-time.After(harness.Patience):
		t.Error("nobody hears of a reset")
	}
	vm.Expect(t, "keel-guest:/# ")
	want := "by=(private)"
	if !vm.Confidential {
		want = "by="
	}
	vm.Until(t, "line of the host's log", func() bool {
		_, line, found := strings.Cut(vm.Log(), "the guest resets")
		return found && strings.Contains(line, want) && (vm.Confidential || !strings.Contains(line, "(private)"))
	})
	for line := range strings.Lines(keelTool(t, handoff.OutcomePoweroff, "diag", "logs", vm.Name, "--json")) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s", line)
		}
	}
	if out := keelTool(t, handoff.OutcomePoweroff, "diag", "logs", vm.Name, "--level", "error"); strings.Contains(out, "the guest resets") {
		t.Errorf("%s", out)
	}
	vm.failed(t, handoff.OutcomeUsage, "--level", "diag", "logs", vm.Name, "--level", "loud")
}

// diagKmsg reads the kernel's log, which a confidential guest keeps inside.
func diagKmsg(t *testing.T, vm *diagVM) {
	t.Helper()
	c := vm.dial(t)
	if vm.Confidential {
		if err := c.Kmsg(t.Context(), true, func(*client.KernelMessage) error { return nil }); !errors.Is(err, client.ErrRefused) {
			t.Errorf("%v", err)
		}
		vm.failed(t, handoff.OutcomeBadConfig, "rule kernel-log refuses", "diag", "kmsg", vm.Name)
		return
	}
	if out := keelTool(t, handoff.OutcomePoweroff, "diag", "kmsg", vm.Name); strings.Count(out, "] ") < 10 {
		t.Errorf("%s", out)
	}
	n := 0
	if err := c.Kmsg(t.Context(), true, func(*client.KernelMessage) error {
		if n++; n == 10 {
			return errSeen
		}
		return nil
	}); !errors.Is(err, errSeen) {
		t.Errorf("%v", err)
	}
}

// diagMetrics reads the metrics, which have no names that are the guest's.
func diagMetrics(t *testing.T, vm *diagVM) {
	t.Helper()
	text := keelTool(t, handoff.OutcomePoweroff, "diag", "metrics", vm.Name)
	if !strings.HasSuffix(text, "\n# EOF\n") || !strings.Contains(text, `keel_vp_run_seconds_total{vp="0"} `) || !strings.Contains(text, "# TYPE keel_memory_guest_bytes gauge\n") {
		t.Errorf("%s", text)
	}
	if strings.Contains(text, "keel_exits_total{kind=") == vm.Confidential {
		t.Errorf("%s", text)
	}
	families := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			if families[name] {
				t.Errorf("%s is there twice", name)
			}
			families[name] = true
		}
	}
}

// diagUpdate sets what may be set.
func diagUpdate(t *testing.T, vm *diagVM) {
	t.Helper()
	list := keelTool(t, handoff.OutcomePoweroff, "diag", "update", vm.Name, "--list")
	for _, want := range []string{"log_level ", "trace_exits ", "gc_percent ", "read-only"} {
		if !strings.Contains(list, want) {
			t.Errorf("%s", list)
		}
	}
	if vm.Confidential {
		vm.failed(t, handoff.OutcomeBadConfig, "rule settings refuses", "diag", "update", vm.Name, "log_level=error")
		return
	}
	if out := keelTool(t, handoff.OutcomePoweroff, "diag", "update", vm.Name, "gc_percent=40"); out != "gc_percent=40\n" {
		t.Errorf("%s", out)
	}
	if f := look(t, vm.Name, "settings/gc_percent"); f.Value != "40" {
		t.Errorf("%+v", f)
	}
	for _, tt := range []struct {
		set    string
		want   handoff.Outcome
		reason string
	}{
		{"gc_percent=lots", handoff.OutcomeUsage, "gc_percent is 5 to 200"},
		{"log_level=loud", handoff.OutcomeUsage, "log_level is debug, info, warn or error"},
		{"isolation=snp", handoff.OutcomeBadConfig, "can only be read"},
		{"memory/guest=1", handoff.OutcomeBadConfig, "can only be read"},
		{"none=1", handoff.OutcomeUsage, "no setting"},
	} {
		vm.failed(t, tt.want, tt.reason, "diag", "update", vm.Name, tt.set)
	}
	if !vm.Debug {
		vm.failed(t, handoff.OutcomeBadConfig, "policy", "diag", "update", vm.Name, "log_level=debug")
		vm.failed(t, handoff.OutcomeBadConfig, "policy", "diag", "update", vm.Name, "trace_exits=pio")
		return
	}
	vm.failed(t, handoff.OutcomeUsage, "no kind of exit", "diag", "update", vm.Name, "trace_exits=pio,none")
	keelTool(t, handoff.OutcomePoweroff, "diag", "update", vm.Name, "trace_exits=pio")
	vm.Send(t, "echo $((6*7))\r")
	vm.Expect(t, "42\r\n")
	keelTool(t, handoff.OutcomePoweroff, "diag", "update", vm.Name, "trace_exits=off")
	out := keelTool(t, handoff.OutcomePoweroff, "diag", "logs", vm.Name)
	if !strings.Contains(out, " kind=pio ") || strings.Contains(out, " kind=halt ") { // on any VP
		t.Errorf("%s", out)
	}
}

// diagTop shows what the VM does, on a terminal too.
func diagTop(t *testing.T, vm *diagVM) {
	t.Helper()
	out := keelTool(t, handoff.OutcomePoweroff, "diag", "top", vm.Name, "--interval", "200ms", "--count", "2")
	if strings.Count(out, vm.Name) != 2 || strings.Contains(out, "\x1b") || strings.Contains(out, "PER S") == vm.Confidential {
		t.Errorf("%s", out)
	}
	t.Logf("\n%s", out)
	for line := range strings.Lines(keelTool(t, handoff.OutcomePoweroff, "diag", "top", vm.Name, "--interval", "200ms", "--count", "1", "--json")) {
		var view struct {
			VPs []struct{ Busy float64 } `json:"vps"`
		}
		if err := json.Unmarshal([]byte(line), &view); err != nil || len(view.VPs) != vm.VPs {
			t.Errorf("%s: %v", line, err)
		}
	}
	user, tty := harness.Terminal(t)
	cmd := exec.CommandContext(t.Context(), tool.Path, "diag", "top", vm.Name, "--interval", "200ms", "--count", "2")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	drawn, _ := io.ReadAll(user) // ends with an error when the terminal closes
	if err := cmd.Wait(); err != nil || !strings.Contains(string(drawn), vm.Name) || !strings.HasSuffix(string(drawn), "\x1b[?1049l") {
		t.Errorf("%v: %q", err, drawn)
	}
}
