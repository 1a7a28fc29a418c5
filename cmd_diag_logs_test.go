package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/kmsg"
	"keel/diag/server"
)

// busyVM is a tree as that of a VM at work, which works more with each look.
type busyVM struct{ looks *atomic.Uint64 }

func (v busyVM) Inspect(f *inspect.Fields) {
	n := v.looks.Add(1)
	const us, count, bytes = inspect.Microseconds, inspect.Count, inspect.Bytes
	f.Uint("uptime", inspect.Public, us, n*2_000_000, "time since power-on")
	f.Node("memory", fields(func(f *inspect.Fields) {
		f.Gauge("total", inspect.Public, bytes, 576<<20, "memory of the VM")
		f.Gauge("guest", inspect.Public, bytes, 512<<20, "memory of the guest")
		f.Gauge("vtl2", inspect.Public, bytes, 45<<20, "in use")
		f.Gauge("vtl2_peak", inspect.Public, bytes, 46<<20, "at most")
	}), "memory")
	exits := fields(func(f *inspect.Fields) {
		f.Uint("halt", inspect.Private, count, n*10, "exits")
		f.Uint("pio", inspect.Private, count, n*2000, "exits")
	})
	f.Each("vp", "vp", fields(func(f *inspect.Fields) {
		f.Node("0", fields(func(f *inspect.Fields) {
			f.Uint("run", inspect.Public, us, n*500_000, "time on a CPU")
			f.Each("exits", "kind", exits, "exits")
		}), "a VP")
	}), "VPs")
	f.Each("exits", "kind", exits, "exits")
	disk := func(factor uint64, s inspect.Sensitivity) inspect.Node {
		return fields(func(f *inspect.Fields) {
			f.Uint("reads", s, count, n*factor, "reads")
			f.Uint("writes", s, count, n*2*factor, "writes")
			f.Uint("read_bytes", s, bytes, n*factor<<20, "bytes")
			f.Uint("written_bytes", s, bytes, 0, "bytes")
			f.Gauge("depth", s, count, 3, "depth")
			f.Histogram("latency", s, us, inspect.Histogram{Bounds: []uint64{100, 1000}, Counts: []uint64{n * 90, n * 10, 0}}, "latency")
		})
	}
	f.Each("disks", "disk", fields(func(f *inspect.Fields) {
		f.Node("virtio-scsi.0", fields(func(f *inspect.Fields) {
			f.Node("guest", disk(100, inspect.Private), "the guest's")
			f.Node("members", fields(func(f *inspect.Fields) {
				f.Node("0", disk(20, inspect.Public), "a controller")
				f.Node("1", disk(30, inspect.Public), "a controller")
			}), "controllers")
		}), "a disk")
	}), "disks")
}

// fields is a node.
type fields func(*inspect.Fields)

func (n fields) Inspect(f *inspect.Fields) { n(f) }

// runDiag runs a command line and returns what it printed.
func runDiag(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := diagCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustDiag(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runDiag(t, args...)
	if err != nil {
		t.Errorf("%q: %v", args, err)
	}
	return out
}

// talker is a VM that says something of everything.
func talker(t *testing.T, confidential bool) string {
	t.Helper()
	var j journal.Journal
	log := slog.New(j.Handler(slog.NewTextHandler(io.Discard, nil), confidential))
	log.Info("first", inspect.PublicAttr("lun", 3), "value", "a secret")
	log.Warn("second")
	level := "info"
	return serveDiag(t, server.Config{Root: busyVM{&atomic.Uint64{}}, Confidential: confidential, Logs: server.LogsConfig{
		Journal: &j,
		Kmsg: func(_ context.Context, _ bool, each func(kmsg.Record) error) error {
			return each(kmsg.Record{Seq: 7, Time: 1500 * time.Millisecond, Level: 6, Text: "hello\x1b"})
		},
		Settings: server.Settings{{
			Name: "log_level", Doc: "the level", Values: "info or debug", Get: func() string { return level },
			Set: func(v string) error {
				if v != "info" && v != "debug" {
					return server.ErrValue
				}
				level = v
				return nil
			},
		}},
	}})
}

func TestLogsCommands(t *testing.T) {
	vm, secret := talker(t, false), talker(t, true)
	if out := mustDiag(t, "logs", vm); !strings.Contains(out, "Z INFO  first lun=3 value=\"a secret\"\n") || !strings.HasSuffix(out, "Z WARN  second\n") {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "logs", secret); !strings.Contains(out, "Z INFO  first lun=3 value=(private)\n") {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "logs", vm, "--level", "warn"); strings.Contains(out, "first") || !strings.Contains(out, "second") {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "logs", vm, "--after", "1"); strings.Contains(out, "first") || !strings.Contains(out, "second") {
		t.Errorf("%q", out)
	}
	out := mustDiag(t, "logs", secret, "--json")
	var line struct {
		Seq   uint64
		Level string
		Attrs []struct {
			Key, Value        string
			Private, Withheld bool
		}
	}
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &line); err != nil || line.Seq != 1 || line.Level != "info" || !line.Attrs[1].Withheld || line.Attrs[0].Value != "3" {
		t.Errorf("%s: %+v, %v", out, line, err)
	}
	if out := mustDiag(t, "kmsg", vm); out != "[    1.500000] hello?\n" {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "kmsg", vm, "--json"); out != `{"seq":7,"time_us":1500000,"level":6,"facility":0,"text":"hello?"}`+"\n" {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "metrics", vm); !strings.Contains(out, "keel_exits_total{kind=\"pio\"} ") || !strings.HasSuffix(out, "# EOF\n") {
		t.Errorf("%s", out)
	}
	if out := mustDiag(t, "metrics", secret); strings.Contains(out, "pio") || !strings.Contains(out, "keel_vp_run_seconds_total{vp=\"0\"} 0.5\n") {
		t.Errorf("%s", out)
	}
	if out := mustDiag(t, "metrics", vm, "--json"); !json.Valid([]byte(out)) {
		t.Errorf("%s", out)
	}
	if out := mustDiag(t, "update", vm, "--list"); !strings.Contains(out, "log_level  info   the level  info or debug\n") {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "update", vm, "log_level=debug"); out != "log_level=debug\n" {
		t.Errorf("%q", out)
	}
	if out := mustDiag(t, "update", vm, "--list", "--json"); !strings.Contains(out, `"value": "debug"`) {
		t.Errorf("%q", out)
	}
	for _, tt := range []struct {
		args []string
		want handoff.Outcome
		says string
	}{
		{[]string{"kmsg", secret}, handoff.OutcomeBadConfig, "rule kernel-log refuses"},
		{[]string{"update", secret, "log_level=debug"}, handoff.OutcomeBadConfig, "rule settings refuses"},
		{[]string{"update", vm, "log_level=lots"}, handoff.OutcomeUsage, "log_level is info or debug"},
		{[]string{"update", vm, "none=1"}, handoff.OutcomeUsage, "no setting"},
		{[]string{"update", vm, "uptime=1"}, handoff.OutcomeBadConfig, "only be read"},
		{[]string{"update", vm, "log_level"}, handoff.OutcomeUsage, "sets nothing"},
		{[]string{"update", vm}, handoff.OutcomeUsage, "nothing to set"},
		{[]string{"update", vm, "--list", "a=b"}, handoff.OutcomeUsage, "too much"},
		{[]string{"logs", vm, "--level", "lots"}, handoff.OutcomeUsage, "--level"},
		{[]string{"watch", vm, "none"}, handoff.OutcomeUsage, "nothing to see"},
		{[]string{"watch", vm, "--interval", "1ms"}, handoff.OutcomeUsage, "--interval"},
		{[]string{"watch", vm, "--count", "-1"}, handoff.OutcomeUsage, "--count"},
		{[]string{"watch", vm, "--depth", "99"}, handoff.OutcomeUsage, "--depth"},
		{[]string{"top", "no-such-vm"}, handoff.OutcomeUsage, "no such VM"},
	} {
		_, err := runDiag(t, tt.args...)
		if err == nil || qemu.OutcomeOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "; ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %s: %v", tt.args[0], qemu.OutcomeOf(err), err)
		}
	}
}

func TestWatchCommand(t *testing.T) {
	vm := talker(t, false)
	out := mustDiag(t, "watch", vm, "memory", "--interval", "100ms", "--count", "2")
	if strings.Count(out, "memory/guest") != 1 || strings.Count(out, "\n") != 6 {
		t.Errorf("what does not change is shown twice: %s", out)
	}
	out = mustDiag(t, "watch", vm, "exits", "--interval", "100ms", "--count", "3")
	if strings.Count(out, "exits/pio") != 3 || strings.Count(out, "/s\n") != 4 || !strings.Contains(out, "  +") {
		t.Errorf("%s", out)
	}
	out = mustDiag(t, "watch", vm, "exits", "--interval", "100ms", "--count", "2", "--json")
	for line := range strings.Lines(out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s", line)
		}
	}
	if strings.Count(out, "\n") != 2 {
		t.Errorf("%s", out)
	}
}

func TestTop(t *testing.T) {
	const plain = `VM  up 4s
memory  guest 512.0M  Keel 45.0M, at most 46.0M  of 576.0M

VP             BUSY    EXITS/S
0             25.0%       1005

EXIT                     PER S
pio                       1000
halt                         5

DISK               READS/S  WRITES/S      READ/S   WRITTEN/S  DEPTH  50% UNDER  99% UNDER
virtio-scsi.0           50       100       50.0M           0      3      100µs        1ms

`
	const confidential = `VM  up 4s  confidential: private figures are left out
memory  guest 512.0M  Keel 45.0M, at most 46.0M  of 576.0M

VP             BUSY    EXITS/S
0             25.0%          -

DISK               READS/S  WRITES/S      READ/S   WRITTEN/S  DEPTH  50% UNDER  99% UNDER
virtio-scsi.0           25        50       25.0M           0      6      100µs        1ms

`
	for want, vm := range map[string]string{plain: talker(t, false), confidential: talker(t, true)} {
		if out := mustDiag(t, "top", vm, "--interval", "100ms", "--count", "1"); strings.ReplaceAll(out, vm, "VM") != want {
			t.Errorf("%s\nwant\n%s", out, want)
		}
	}
	var view topView
	if out := mustDiag(t, "top", talker(t, false), "--interval", "100ms", "--count", "2", "--json"); strings.Count(out, "\n") != 2 {
		t.Errorf("%s", out)
	} else if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &view); err != nil || view.Seconds != 2 || len(view.VPs) != 1 || view.Exits[0].Kind != "pio" || *view.Disks[0].P99US != 1000 {
		t.Errorf("%s, %v", out, err)
	}
}

// TestTopNonsense: whatever a VM says is shown as something.
func TestTopNonsense(t *testing.T) {
	empty := &inspect.Field{}
	odd := &inspect.Field{Fields: []inspect.Field{
		{Name: "uptime", Value: "soon"},
		{Name: "memory", Value: uint64(1)},
		{Name: "vp", Fields: []inspect.Field{{Name: "x", Value: true}}},
		{Name: "disks", Fields: []inspect.Field{{Name: "d"}, {Name: "e", Fields: []inspect.Field{{Name: "guest", Fields: []inspect.Field{
			{Name: "latency", Value: inspect.Histogram{Bounds: []uint64{1}, Counts: []uint64{1, 2}}}, {Name: "reads", Value: ^uint64(0)},
		}}}}}},
		{Name: "exits", Fields: []inspect.Field{{Name: "pio", Value: ^uint64(0)}}},
	}}
	for _, before := range []*inspect.Field{empty, odd} {
		for _, after := range []*inspect.Field{empty, odd} {
			if text := topOf(&client.Tree{Field: *before}, &client.Tree{Field: *after}).String("x"); !strings.Contains(text, "up 0s") {
				t.Errorf("%s", text)
			}
		}
	}
}

// fullDisk takes a little and then no more.
type fullDisk struct{ err error }

func (d fullDisk) Write([]byte) (int, error) { return 0, d.err }

// TestOutput: a full disk is an error of its own, a reader that has gone is none.
func TestOutput(t *testing.T) {
	for err, want := range map[error]handoff.Outcome{syscall.ENOSPC: handoff.OutcomeUsage, syscall.EPIPE: handoff.OutcomePoweroff} {
		for _, args := range [][]string{{"logs"}, {"kmsg"}, {"metrics"}, {"watch"}, {"top"}, {"update", "--list"}} {
			cmd := diagCommand()
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetOut(fullDisk{err})
			cmd.SetArgs(append(args, talker(t, false)))
			got := cmd.ExecuteContext(t.Context())
			if want == handoff.OutcomePoweroff && got != nil || want != handoff.OutcomePoweroff && (qemu.OutcomeOf(got) != want || !errors.Is(got, err)) {
				t.Errorf("%q: %v: %v", args, err, got)
			}
		}
	}
}
