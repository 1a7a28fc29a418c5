package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/diag/vsock"
)

// diagControl acts on the guest of a VM. Confidential guests are left alone.
func diagControl(t *testing.T, vm *diagVM) {
	t.Helper()
	if vm.Confidential {
		core := filepath.Join(t.TempDir(), "core")
		for rule, commands := range map[string][]string{
			"guest-state":    {"pause", "resume", "reset", "nmi", "nmi --vp 0", "shutdown", "shutdown --force"},
			"guest-exits":    {"exits"},
			"guest-memory":   {"dump -o " + core},
			"guest-debugger": {"gdb"},
		} {
			for _, command := range commands {
				vm.failed(t, handoff.OutcomeBadConfig, "rule "+rule+" refuses", append([]string{"diag"}, append(strings.Fields(command), vm.Name)...)...)
			}
		}
		if _, err := os.Stat(core); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file of a dump that was refused: %v", err)
		}
		if _, err := vsock.Dial(t.Context(), handoff.VsockSocket(os.Getuid(), vm.Name), handoff.VsockDebug); !errors.Is(err, vsock.ErrNoPort) {
			t.Errorf("the port of debuggers: %v", err)
		}
		return
	}
	t.Run("pause", vm.pauses)
	t.Run("nmi", vm.interrupted)
	t.Run("exits", vm.exits)
	t.Run("dump", vm.dumps)
	t.Run("gdb", vm.debugged)
	t.Run("shutdown", vm.pressed)
	t.Run("reset", vm.resets)
}

// diag runs a command of "keel diag" on the VM, which must go well, and returns what it
// printed.
func (vm *diagVM) diag(t *testing.T, command string, args ...string) string {
	t.Helper()
	return keelTool(t, handoff.OutcomePoweroff, append([]string{"diag", command, vm.Name}, args...)...)
}

// prompt ends a loop that the shell runs. A shell with job control goes on when Ctrl-C has
// ended a command in the body of a loop: loops here end with their conditions.
func (vm *diagVM) prompt(t *testing.T) {
	t.Helper()
	vm.Interrupt(t, "keel-guest:/# ")
}

// pauses: a paused guest does nothing, not even its clock ticks, until it is resumed.
func (vm *diagVM) pauses(t *testing.T) {
	vm.Send(t, "i=0; while sleep 0.1; do i=$((i+1)); echo tick $i.; done\r")
	vm.Expect(t, "tick 3.\r\n")
	if said := vm.diag(t, "pause"); said != "paused\n" {
		t.Errorf("%q", said)
	}
	before := look(t, vm.Name, "exits").sum()
	time.Sleep(300 * time.Millisecond)
	if after := look(t, vm.Name, "exits").sum(); after != before {
		t.Errorf("a paused guest had %v exits", after-before)
	}
	if paused := look(t, vm.Name, "paused").Value; paused != true {
		t.Errorf("the tree says paused %v", paused)
	}
	if said := vm.diag(t, "pause", "--json"); !strings.Contains(said, `"was_paused": true`) {
		t.Errorf("%q", said)
	}
	if said := vm.diag(t, "resume"); said != "runs\n" {
		t.Errorf("%q", said)
	}
	if said := vm.diag(t, "resume"); said != "was not paused\n" {
		t.Errorf("%q", said)
	}
	last, err := strconv.Atoi(vm.Match(t, `tick (\d+)\.\r\n`)[0])
	if err != nil {
		t.Error(err)
	}
	vm.Expect(t, fmt.Sprintf("tick %d.\r\n", last+5))
	vm.prompt(t)
}

// nmis is how many NMIs the guest's kernel has counted.
func (vm *diagVM) nmis(t *testing.T) (sum int) {
	t.Helper()
	vm.Send(t, "echo; grep NMI: /proc/interrupts\r")
	for field := range strings.FieldsSeq(vm.Match(t, `\n *NMI:([ \d]+) N`)[0]) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	vm.Expect(t, "keel-guest:/# ")
	return sum
}

// interrupted: NMIs reach the VPs that they are sent to, those of a paused guest when it
// goes on.
func (vm *diagVM) interrupted(t *testing.T) {
	before := vm.nmis(t)
	vm.diag(t, "nmi")
	if after := vm.nmis(t); after != before+vm.VPs {
		t.Errorf("%d NMIs of %d VPs", after-before, vm.VPs)
	}
	vm.diag(t, "pause")
	if said := vm.diag(t, "nmi", "--vp", strconv.Itoa(vm.VPs-1)); !strings.Contains(said, "paused") {
		t.Errorf("%q", said)
	}
	vm.diag(t, "resume")
	if after := vm.nmis(t); after != before+vm.VPs+1 {
		t.Errorf("%d NMIs, one of a VP", after-before)
	}
	vm.failed(t, handoff.OutcomeUsage, "there is no VP", "diag", "nmi", vm.Name, "--vp", strconv.Itoa(vm.VPs))
}

// exits: what the guest prints is among its exits.
func (vm *diagVM) exits(t *testing.T) {
	vm.Send(t, "while sleep 0.1; do echo; done\r")
	type exit struct {
		TimeNS int64 `json:"time_ns"`
		VP     int
		Kind   string
		Write  bool
		Size   int
		RIP    uint64
		Where  uint64
		Value  uint64
	}
	lines, before := 0, make([]int64, vm.VPs)
	for line := range strings.Lines(vm.diag(t, "exits", "--for", "4s", "--kind", "pio", "--json")) {
		var e exit
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.VP >= vm.VPs || e.TimeNS < before[e.VP] || e.Kind != "pio" || e.RIP < 1<<63 {
			t.Fatalf("%s", line)
		}
		if before[e.VP] = e.TimeNS; e.Where == 0x3f8 && e.Write && e.Size == 1 && e.Value == '\n' {
			lines++
		}
	}
	if lines == 0 {
		t.Error("the guest printed nothing, as its exits say")
	}
	last := vm.VPs - 1 // which may have none
	for line := range strings.Lines(vm.diag(t, "exits", "--for", "500ms", "--vp", strconv.Itoa(last), "--json")) {
		if !strings.Contains(line, fmt.Sprintf(`"vp":%d,`, last)) {
			t.Errorf("of VP %d: %s", last, line)
		}
	}
	if table := vm.diag(t, "exits", "--for", "3s", "--kind", "pio"); !strings.Contains(table, "SECONDS") || !strings.Contains(table, "write 0x3f8/1") {
		t.Errorf("%s", table)
	}
	vm.prompt(t)
	for _, args := range [][]string{{"--for", "2h"}, {"--for", "-1s"}, {"--kind", "vmcall"}, {"--vp", "99"}} {
		keelTool(t, handoff.OutcomeUsage, append([]string{"diag", "exits", vm.Name}, args...)...)
	}
}

// pressed: the guest has no driver for the power button, and is not ended by it.
func (vm *diagVM) pressed(t *testing.T) {
	if said := vm.diag(t, "shutdown"); !strings.Contains(said, "does not listen") {
		t.Errorf("%q", said)
	}
}

// resets: a reset starts the guest over, and a paused one stays paused before its first
// instruction.
func (vm *diagVM) resets(t *testing.T) {
	before := look(t, vm.Name, "resets").sum()
	vm.diag(t, "reset")
	vm.Expect(t, "keel-guest:/# ")
	vm.diag(t, "pause")
	if said := vm.diag(t, "reset"); !strings.Contains(said, "paused") {
		t.Errorf("%q", said)
	}
	vm.diag(t, "pause") // waits until it stands again
	exits := look(t, vm.Name, "exits").sum()
	if after := look(t, vm.Name, "exits").sum(); after != exits {
		t.Errorf("the guest had %v exits after its reset", after-exits)
	}
	vm.diag(t, "resume")
	vm.Expect(t, "keel-guest:/# ")
	if n := look(t, vm.Name, "resets").sum(); n != before+2 {
		t.Errorf("%v resets", n-before)
	}
}
