package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/server"
)

// captured is what captureVM sends: whole blocks.
var captured = bytes.Repeat([]byte{7, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 16, 0, 0, 0}, 2)

// captureVM serves captures of a disk "d" and returns its path.
func captureVM(t *testing.T, confidential bool) string {
	t.Helper()
	return serveDiag(t, server.Config{
		Root: tree{}, Confidential: confidential,
		Capture: func(ctx context.Context, disk string, _ int, send func(server.Piece) error) error {
			if disk != "d" {
				return server.ErrNoDisk
			}
			for _, b := range [][]byte{captured[:16], captured[16:]} {
				if err := send(server.Piece{PCAPNG: b, Records: 9, Lost: 4}); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		},
	})
}

func TestCaptureCommand(t *testing.T) {
	vm, path := captureVM(t, false), filepath.Join(t.TempDir(), "f")
	f := captureFlags{disk: "d", seconds: 1, out: path, asJSON: true}
	var out, errs bytes.Buffer
	if err := f.run(t.Context(), vm, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, captured) {
		t.Errorf("%x, %v", got, err)
	}
	if want := "{\n  \"records\": 9,\n  \"lost\": 4,\n  \"bytes\": 32\n}\n"; out.String() != want || errs.Len() != 0 {
		t.Errorf("%s and %s", &out, &errs)
	}
	f = captureFlags{disk: "d", seconds: 1, out: "-"}
	out.Reset()
	if err := f.run(t.Context(), vm, &out, &errs); err != nil || !bytes.Equal(out.Bytes(), captured) {
		t.Errorf("%x, %v", out.Bytes(), err)
	}
	if want := "keel: captured 9 records, of which 4 were lost; 32 bytes\n"; errs.String() != want {
		t.Errorf("%s", &errs)
	}
}

// TestCaptureCommandEnds: Ctrl-C, and a reader that has seen enough, are no errors.
func TestCaptureCommandEnds(t *testing.T) {
	vm := captureVM(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	var errs bytes.Buffer
	f := captureFlags{disk: "d", out: "-"}
	if err := f.run(ctx, vm, writer(func(b []byte) (int, error) { cancel(); return len(b), nil }), &errs); err != nil {
		t.Errorf("%v", err)
	}
	if err := f.run(t.Context(), vm, writer(func([]byte) (int, error) { return 0, syscall.EPIPE }), &errs); err != nil {
		t.Errorf("%v", err)
	}
	broken := errors.New("broken")
	if err := f.run(t.Context(), vm, writer(func([]byte) (int, error) { return 0, broken }), &errs); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// writer makes a function an io.Writer.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestCaptureRefusals(t *testing.T) {
	vm, secret, keep := captureVM(t, false), captureVM(t, true), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(keep, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want handoff.Outcome
		why  string
	}{
		"no VM":           {nil, handoff.OutcomeUsage, "arg"},
		"unknown disk":    {[]string{vm, "--disk", "x", "-o", keep}, handoff.OutcomeUsage, "no such disk"},
		"much data":       {[]string{vm, "--data", "4097"}, handoff.OutcomeUsage, "4096"},
		"negative":        {[]string{vm, "--seconds", "-1"}, handoff.OutcomeUsage, "--seconds -1"},
		"longer than day": {[]string{vm, "--seconds", "86401"}, handoff.OutcomeUsage, "86400"},
		"confidential":    {[]string{secret, "-o", keep}, handoff.OutcomeBadConfig, "rule storage refuses Capture/PacketCapture"},
		"no such folder":  {[]string{vm, "--disk", "d", "-o", keep + "/f"}, handoff.OutcomeUsage, "cannot write -o"},
		"full disk":       {[]string{vm, "--disk", "d", "-o", "/dev/full"}, handoff.OutcomeInternal, "no room for the capture after 0 bytes"},
	} {
		err := execute(t.Context(), append([]string{"diag", "capture"}, tt.args...))
		if err == nil || qemu.OutcomeOf(err) != tt.want || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ") || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %s: %v", name, qemu.OutcomeOf(err), err)
		}
	}
	if b, err := os.ReadFile(keep); err != nil || string(b) != "old" {
		t.Errorf("a refused capture leaves %q, %v", b, err)
	}
}
