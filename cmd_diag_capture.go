package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/server"
)

const captureHelp = `Capture what crosses the disks of a guest as a pcapng file: the guest's SCSI commands as iSCSI, the commands
that Keel sends to NVMe controllers as NVMe/TCP. Wireshark and tshark take both apart:

  keel diag capture web --seconds 10 -o web.pcapng
  keel diag capture web -o - | wireshark -k -i -

Of a confidential guest it is encrypted to the guest's owner, and FILE is called FILE.age: one that Ctrl-C ends is cut off then.

It goes on until Ctrl-C, or for --seconds. Data of the guest is left out unless --data asks for it.`

// captureFlags are the flags of "keel diag capture".
type captureFlags struct {
	disk, out     string
	seconds, data int
	asJSON        bool
}

// captureCommand captures what crosses the disks of a guest.
func captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:               "capture VM",
		Short:             "Capture what crosses the disks of a guest",
		Long:              captureHelp,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.disk, "disk", "", "disk, as keel diag inspect VM disks names it (default: all that there are)")
	s.IntVar(&f.seconds, "seconds", 0, "how long (default: until Ctrl-C)")
	s.IntVar(&f.data, "data", 0, fmt.Sprintf("bytes of the data of each SCSI command that come with it, at most %d", server.MaxCaptureData))
	s.StringVarP(&f.out, "out", "o", "-", "file, - for standard output")
	s.BoolVar(&f.asJSON, "json", false, "print what was captured as JSON, on standard error with -o -")
	return cmd
}

// captureSummary is what "keel diag capture --json" prints.
type captureSummary struct {
	Records uint64 `json:"records"` // commands and their ends, lost ones included
	Lost    uint64 `json:"lost"`    // of these, what is not in the file
	Bytes   int64  `json:"bytes"`   // of the file
}

func (f *captureFlags) run(ctx context.Context, vm string, stdout, stderr io.Writer) error {
	if f.seconds < 0 || time.Duration(f.seconds) > server.MaxCapture/time.Second || f.data < 0 || f.data > server.MaxCaptureData {
		return &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--seconds %d --data %d is impossible", f.seconds, f.data),
			Remedy: fmt.Sprintf("give at most %d seconds and %d bytes", server.MaxCapture/time.Second, server.MaxCaptureData),
		}
	}
	out := &captureFile{path: f.out}
	summary := stdout
	if f.out == "-" {
		out.w, summary = stdout, stderr
		if isTerminal(stdout) {
			return &handoff.Failure{
				Outcome: handoff.OutcomeUsage, Cause: "a capture is nothing for a terminal", Remedy: "name a file with -o, or a program with -o - | tshark -r -",
			}
		}
	}
	s, err := f.capture(ctx, vm, out, stderr)
	if errors.Is(err, context.Canceled) || errors.Is(err, syscall.EPIPE) {
		err = nil // Ctrl-C, or who read it has seen enough
	}
	if err := errors.Join(err, out.close()); err != nil {
		return err
	}
	if f.asJSON {
		return writeJSON(summary, s)
	}
	_, err = fmt.Fprintf(stderr, "keel: captured %s\n", s)
	return err
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// captureFile is where a capture goes. A file is made when there is something for it: a
// call that is refused leaves what there was.
type captureFile struct {
	path string
	w    io.Writer
	file *os.File // nil for standard output
	n    int64    // bytes
}

// Write writes to the file. Its errors are of type *handoff.Failure, but for EPIPE.
func (f *captureFile) Write(b []byte) (int, error) {
	if f.w == nil {
		f.path = sealedName(f.path, b)
		file, err := os.Create(f.path)
		if err != nil {
			return 0, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot write -o", Remedy: "name a file that can be written", Err: err}
		}
		f.w, f.file = file, file
	}
	n, err := f.w.Write(b)
	f.n += int64(n)
	return n, f.explain(err)
}

func (f *captureFile) close() error {
	if f.file == nil {
		return nil
	}
	return f.explain(f.file.Close())
}

func (f *captureFile) explain(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return &handoff.Failure{
		Outcome: handoff.OutcomeInternal, Cause: fmt.Sprintf("no room for the capture after %d bytes", f.n), Err: err,
		Remedy: "make room, or capture less (--seconds, --data, --disk); what is in the file can be read",
	}
}

// String says what was captured.
func (s captureSummary) String() string {
	return fmt.Sprintf("%d records, of which %d were lost; %d bytes", s.Records, s.Lost, s.Bytes)
}

// captureProgress is how often people see how far it is.
const captureProgress = time.Second

// capture writes a capture and returns what there was.
func (f *captureFlags) capture(ctx context.Context, vm string, out *captureFile, stderr io.Writer) (s captureSummary, err error) {
	live, told := isTerminal(stderr), time.Now()
	o := client.CaptureOptions{Disk: f.disk, Data: f.data, Length: time.Duration(f.seconds) * time.Second}
	err = withVM(ctx, vm, func(c *client.Client) error {
		return c.PacketCapture(ctx, o, func(p client.Piece) error {
			_, err := out.Write(p.PCAPNG)
			s = captureSummary{p.Records, p.Lost, out.n}
			if now := time.Now(); live && now.Sub(told) >= captureProgress {
				told = now
				fmt.Fprintf(stderr, "\r%s ", s)
			}
			return err
		})
	})
	if live {
		fmt.Fprint(stderr, "\r\x1b[K")
	}
	return s, err
}
