package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/diagpb"
	"keel/diag/server"
)

func TestDescribeExits(t *testing.T) {
	exits := []client.GuestExit{
		{Time: 2 * time.Second, VP: 0, Kind: "pio", Write: true, Size: 1, RIP: 0xffffffff81000000, Where: 0x3f8, Value: 0x41},
		{Time: 2*time.Second + 1500*time.Microsecond, VP: 11, Kind: "msr-read", RIP: 0x10, Where: 0x1b, Value: 0xfee00900},
		{Time: 3 * time.Second, Kind: "halt"},
	}
	var out, errs bytes.Buffer
	show := describeExits(&out, &errs)
	if err := errors.Join(show(nil, 0), show(exits[:2], 0), show(exits[2:], 5)); err != nil {
		t.Fatal(err)
	}
	want := `     SECONDS  VP  EXIT              RIP                 WHAT
    0.000000   0  pio               0xffffffff81000000  write 0x3f8/1 0x41
    0.001500  11  msr-read          0x10                0x1b 0xfee00900
    1.000000   0  halt              0x0                 
`
	if out.String() != want || !strings.Contains(errs.String(), "5 exits") {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	out.Reset()
	show = exitsJSON(&out)
	if err := errors.Join(show(exits[:1], 0), show(nil, 2), show(exits[2:], 3)); err != nil {
		t.Fatal(err)
	}
	want = `{"time_ns":2000000000,"vp":0,"kind":"pio","write":true,"size":1,"rip":18446744071578845184,"where":1016,"value":65}
{"time_ns":3000000000,"vp":0,"kind":"halt","write":false,"size":0,"rip":0,"where":0,"value":0,"lost":5}
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

// fakeGuest sends half a dump, and lets a debugger in where nobody listens.
type fakeGuest struct{ server.Control }

func (fakeGuest) Dump(_ context.Context, send func(*diagpb.FilePiece) error) error {
	return errors.Join(send(&diagpb.FilePiece{Data: []byte("head"), Zeros: 4096}), errors.New("broken"))
}

func (fakeGuest) Debug(bool) (uint32, error) { return handoff.VsockDebug, nil }

// TestControlRefusals checks the outcomes of what does not go well.
func TestControlRefusals(t *testing.T) {
	vm := serveDiag(t, server.Config{Root: tree{}, Control: fakeGuest{}})
	dir := t.TempDir()
	there, core := filepath.Join(dir, "there"), filepath.Join(dir, "core")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, tt := range []struct {
		args string
		want handoff.Outcome
		says string
	}{
		{"dump " + vm + " -o " + there, handoff.OutcomeUsage, "name one that does not exist"},
		{"dump " + vm + " -o " + filepath.Join(dir, "none", "core"), handoff.OutcomeUsage, "cannot be made"},
		{"dump " + vm + " -o " + core, handoff.OutcomeVMLost, "broken"},
		{"dump " + vm, handoff.OutcomeUsage, "output"},
		{"gdb " + vm + " --exec", handoff.OutcomeHostRefused, "apt-get install gdb"},
		{"gdb " + vm + " -- vmlinux", handoff.OutcomeUsage, "--exec"},
		{"gdb " + vm + " --listen 192.0.2.1:1234", handoff.OutcomeUsage, "loopback"},
		{"gdb " + vm + " --listen localhost", handoff.OutcomeUsage, "loopback"},
		{"exits " + vm + " --kind vmcall", handoff.OutcomeUsage, "msr-write"},
		{"exits " + vm + " --for 2h", handoff.OutcomeUsage, "1h"},
		{"pause " + vm + " --instance 00", handoff.OutcomeUsage, "--owner-key"},
	} {
		err := execute(t.Context(), append([]string{"diag"}, strings.Fields(tt.args)...))
		if qemu.OutcomeOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.args, err)
		}
	}
	if _, err := os.Stat(core); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a dump is left: %v", err)
	}
}

// TestDumpFile: a file that cannot be written says what to do about it.
func TestDumpFile(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &dumpFile{path: filepath.Join(t.TempDir(), "core"), file: full, told: time.Now()}
	_, err = d.Write(make([]byte, 4096))
	if err = d.close(err); qemu.OutcomeOf(err) != handoff.OutcomeInternal || !strings.Contains(err.Error(), "make room") {
		t.Errorf("%v", err)
	}
}
