package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/diag/server"
)

func TestDescribeVMs(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.Local)
	var out bytes.Buffer
	vms := []qemu.VM{{Name: "web", PID: 123, Since: now.Add(-90 * time.Second), VPs: 2, Memory: 512 << 20}}
	if err := describeVMs(&out, vms, now); err != nil {
		t.Fatal(err)
	}
	want := "NAME  PID  VPS  MEMORY  SINCE                FOR\n" +
		"web   123  2    512M    2026-05-04 03:00:31  1m30s\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// tree is one field of each kind.
type tree struct{}

func (tree) Inspect(f *inspect.Fields) {
	f.Uint("size", inspect.Public, inspect.Bytes, 0, "how much there is")
	f.Bool("alive", inspect.Private, false, "whether it is")
	f.Histogram("latency", inspect.Public, inspect.Microseconds, inspect.Histogram{Bounds: []uint64{10, 100}, Counts: []uint64{1, 0, 3}}, "how long")
	f.Node("part", part{}, "a part")
}

type part struct{}

func (part) Inspect(f *inspect.Fields) {
	f.Uint("n", inspect.Private, inspect.Count, 7, "a number")
}

// diagVM serves diagnostics behind a hybrid socket and returns its path.
func diagVM(t *testing.T, confidential bool) string {
	t.Helper()
	return serveDiag(t, server.Config{Root: tree{}, Confidential: confidential})
}

// serveDiag serves a configuration behind a hybrid socket and returns its path.
func serveDiag(t *testing.T, config server.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, hybrid{l}) }()
	t.Cleanup(func() { cancel(); <-done })
	return path
}

// hybrid answers what a client says first.
type hybrid struct{ net.Listener }

func (h hybrid) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err == nil {
		_, _ = io.ReadFull(c, make([]byte, len("CONNECT 1024\n")))
		_, _ = io.WriteString(c, "OK 1\n")
	}
	return c, err
}

// TestInspectCommand checks what is printed, for people and for programs.
func TestInspectCommand(t *testing.T) {
	look := func(confidential bool, path string, depth int) (*client.Tree, string) {
		t.Helper()
		got, err := inspectVM(t.Context(), diagVM(t, confidential), path, depth)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := describeTree(&out, got); err != nil {
			t.Fatal(err)
		}
		return got, out.String()
	}
	all, text := look(false, "", 3)
	want := `FIELD    VALUE            WHAT
size     0 bytes          how much there is
alive    false            whether it is
latency  ≤10:1 more:3 us  how long
part/                     a part
part/n   7                a number
`
	if text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	b, err := json.Marshal(treeJSON(all))
	wantJSON := `{"confidential":false,"sensitivity":"public","fields":[` +
		`{"name":"size","doc":"how much there is","sensitivity":"public","unit":"bytes","value":0},` +
		`{"name":"alive","doc":"whether it is","sensitivity":"private","value":false},` +
		`{"name":"latency","doc":"how long","sensitivity":"public","unit":"us","histogram":{"bounds":[10,100],"counts":[1,0,3]}},` +
		`{"name":"part","doc":"a part","sensitivity":"public","fields":[{"name":"n","doc":"a number","sensitivity":"private","unit":"count","value":7}],"node":true}],"node":true}`
	if err != nil || string(b) != wantJSON {
		t.Errorf("%s, %v\nwant\n%s", b, err, wantJSON)
	}
	if _, text := look(false, "part", 0); !strings.Contains(text, "part/  …") || strings.Contains(text, "part/n") {
		t.Errorf("%s", text)
	}
	if _, text := look(true, "", 3); strings.Contains(text, "alive") || !strings.Contains(text, "confidential") {
		t.Errorf("%s", text)
	}
}

// TestDiagRefusals checks the outcomes of what cannot be shown.
func TestDiagRefusals(t *testing.T) {
	path := diagVM(t, false)
	for name, tt := range map[string]struct {
		args []string
		want handoff.Outcome
	}{
		"no name":       {[]string{"diag", "inspect"}, handoff.OutcomeUsage},
		"three names":   {[]string{"diag", "inspect", "a", "b", "c"}, handoff.OutcomeUsage},
		"unknown VM":    {[]string{"diag", "inspect", "no-such-vm"}, handoff.OutcomeUsage},
		"bad name":      {[]string{"diag", "inspect", ""}, handoff.OutcomeUsage},
		"no socket":     {[]string{"diag", "inspect", path + ".none"}, handoff.OutcomeUsage},
		"long path":     {[]string{"diag", "inspect", "/" + strings.Repeat("x", 200)}, handoff.OutcomeUsage},
		"unknown path":  {[]string{"diag", "inspect", path, "none"}, handoff.OutcomeUsage},
		"depth":         {[]string{"diag", "inspect", path, "--depth", "17"}, handoff.OutcomeUsage},
		"ls of one":     {[]string{"diag", "ls", "web"}, handoff.OutcomeUsage},
		"unknown":       {[]string{"diag", "frobnicate"}, handoff.OutcomeUsage},
		"ps of one":     {[]string{"ps", "web"}, handoff.OutcomeUsage},
		"disk, nowhere": {[]string{"run", "--name", "no-such-vm", "--disk-remove", "x"}, handoff.OutcomeUsage},
	} {
		err := execute(t.Context(), tt.args)
		if err == nil || qemu.OutcomeOf(err) != tt.want || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %s: %v", name, qemu.OutcomeOf(err), err)
		}
	}
	// A VM that goes away, or never answers.
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := hybrid{l}.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	if err := execute(t.Context(), []string{"diag", "inspect", l.Addr().String()}); qemu.OutcomeOf(err) != handoff.OutcomeVMLost {
		t.Errorf("%v", err)
	}
}
