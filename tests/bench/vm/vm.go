// Package vm runs the VMs of benchmarks.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"keel/boot/qemu"
)

// ErrRun says that a VM did not come to a good end.
var ErrRun = errors.New("a boot failed")

// Run runs a VM at whose console nobody types. The error has the end of the logs. There
// is a report also then.
func Run(ctx context.Context, o *qemu.Options, console io.Writer) (*qemu.Report, error) {
	typed, typist, err := os.Pipe()
	if err != nil {
		return &qemu.Report{}, err
	}
	defer typed.Close()
	defer typist.Close()
	report, err := qemu.Run(ctx, o, &qemu.Terminal{In: typed, Out: console, Err: os.Stderr})
	if err != nil {
		said, _ := os.ReadFile(o.Log)       // helps if it is there
		kernel, _ := os.ReadFile(o.VTL2Log) // and so does this
		err = fmt.Errorf("%w: %w; its log ends: %q; its kernel's: %q", ErrRun, err, Tail(string(said)), Tail(string(kernel)))
	}
	return report, err
}

// Tail returns the end of what somebody said.
func Tail(s string) string { return s[max(0, len(s)-600):] }
