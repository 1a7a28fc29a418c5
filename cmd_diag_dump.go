package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
)

// dumpCommand writes a core file of a guest.
func dumpCommand() *cobra.Command {
	var asJSON bool
	var path string
	cmd := &cobra.Command{
		Use:   "dump VM -o FILE",
		Short: "Write the guest's memory and registers to an ELF core file",
		Long: "Write the guest's memory and registers to an ELF core file, which gdb and crash open. The guest is paused meanwhile.\n" +
			"FILE must not exist; it takes as much room as the guest has used memory.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "no file to write", Remedy: "name one with --output"}
			}
			d := &dumpFile{path: path, errs: cmd.ErrOrStderr(), told: time.Now()}
			err := withVM(cmd.Context(), args[0], func(c *client.Client) error { return c.Dump(cmd.Context(), d) })
			if err := d.close(err); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), struct {
					File  string `json:"file"`
					Size  int64  `json:"size"`
					Bytes int64  `json:"bytes"` // that are no holes
				}{d.path, d.size, d.written})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, of which %s are no holes\n", d.path, mebibytes(d.size), mebibytes(d.written))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVarP(&path, "output", "o", "", "file to write, which must not exist")
	return cmd
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// dumpFile is a core file that is being written, with holes where there are zeros. It is
// made when there is something for it. Its errors are of type *handoff.Failure.
type dumpFile struct {
	path          string
	file          *os.File // nil: nothing has come yet
	size, written int64

	errs io.Writer
	told time.Time
}

// dumpProgress is how often somebody who waits is told how far it is.
const dumpProgress = 2 * time.Second

// Write writes data.
func (d *dumpFile) Write(b []byte) (int, error) {
	if err := d.open(b); err != nil {
		return 0, err
	}
	n, err := d.file.Write(b)
	d.written += int64(n)
	d.size += int64(n)
	if time.Since(d.told) >= dumpProgress {
		d.told = time.Now()
		fmt.Fprintf(d.errs, "keel: %s of the guest's memory\n", mebibytes(d.size))
	}
	return n, d.failed(err)
}

// open makes the file, which begins with some bytes.
func (d *dumpFile) open(b []byte) error {
	if d.file != nil {
		return nil
	}
	d.path = sealedName(d.path, b)
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "the file cannot be made", Err: err, Remedy: "name one that does not exist"}
	}
	d.file = f
	return nil
}

// Seek goes on behind a hole, from where the file is.
func (d *dumpFile) Seek(offset int64, whence int) (int64, error) {
	if err := d.open(nil); err != nil {
		return 0, err
	}
	d.size += offset
	at, err := d.file.Seek(offset, whence)
	return at, d.failed(err)
}

// Truncate makes the file end behind a hole.
func (d *dumpFile) Truncate(size int64) error { return d.failed(d.file.Truncate(size)) }

// close ends the file. One that is not whole, because of err, is removed.
func (d *dumpFile) close(err error) error {
	if d.file == nil {
		return err
	}
	if err = errors.Join(err, d.failed(d.file.Close())); err != nil {
		_ = os.Remove(d.path) // the error to report is the first one
	}
	return err
}

// failed is an error of writing, nil for nil.
func (*dumpFile) failed(err error) error {
	if err == nil {
		return nil
	}
	return &handoff.Failure{Outcome: handoff.OutcomeInternal, Cause: "the file cannot be written", Err: err, Remedy: "make room, or name another place"}
}
