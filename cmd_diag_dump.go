package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/owner"
)

// dumpCommand writes a core file of a guest.
func dumpCommand() *cobra.Command {
	var asJSON bool
	var path string
	cmd := &cobra.Command{
		Use:   "dump VM -o FILE",
		Short: "Write the guest's memory and registers to an ELF core file",
		Long: "Write the guest's memory and registers to an ELF core file, which gdb and crash open. The guest is paused meanwhile.\n" +
			"FILE must not exist; it takes as much room as the guest has used memory. Of a confidential guest it is encrypted\n" +
			"to its owner, is called FILE.age, and takes as much room as the guest has memory.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			var d *dumpFile
			err := withVM(cmd.Context(), args[0], func(c *client.Client) (err error) {
				d, err = saveDump(cmd.Context(), c, path, cmd.ErrOrStderr())
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), struct {
					File  string `json:"file"`
					Size  uint64 `json:"size"`
					Bytes uint64 `json:"bytes"` // that are no holes
				}{d.path, d.size, d.written})
			}
			what := "of which " + mebibytes(d.written) + " are not zero"
			if d.sealed {
				what = "for the owner alone: keel diag open"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", d.path, mebibytes(d.size), what)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVarP(&path, "output", "o", "", "file to write, which must not exist")
	_ = cmd.MarkFlagRequired("output") // there is such a flag
	return cmd
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// saveDump writes a dump to a file that it makes, and that is gone again if it fails.
func saveDump(ctx context.Context, c *client.Client, path string, errs io.Writer) (d *dumpFile, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "the file cannot be made", Err: err, Remedy: "name one that does not exist"}
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path) // the error to report is the first one
		}
	}()
	d = &dumpFile{path: path, file: f, errs: errs, told: time.Now()}
	err = c.Dump(ctx, d.piece)
	if err == nil {
		err = d.failed(f.Truncate(int64(d.size)))
	}
	if err = errors.Join(err, d.failed(f.Close())); err == nil && d.sealed {
		err = d.rename()
	}
	return d, err
}

// rename gives an encrypted file a name that says so, which must not exist either.
func (d *dumpFile) rename() error {
	old := d.path
	if d.path = sealedName(old, []byte(owner.Header)); d.path == old {
		return nil
	}
	if err := d.failed(os.Link(old, d.path)); err != nil {
		return err
	}
	return d.failed(os.Remove(old))
}

// dumpFile is a core file that is being written, with holes where there are zeroes.
type dumpFile struct {
	path          string
	file          *os.File
	size, written uint64 // size: so far, where it is encrypted
	sealed        bool

	errs io.Writer
	told time.Time
}

// dumpProgress is how often somebody who waits is told how far it is.
const dumpProgress = 2 * time.Second

// piece writes a piece.
func (d *dumpFile) piece(size, offset uint64, data []byte) error {
	if offset == 0 {
		d.sealed = client.Sealed(data)
	}
	if d.size = size; d.sealed {
		d.size = offset + uint64(len(data))
	}
	if _, err := d.file.WriteAt(data, int64(offset)); err != nil {
		return d.failed(err)
	}
	d.written += uint64(len(data))
	if time.Since(d.told) >= dumpProgress {
		d.told = time.Now()
		if d.sealed {
			fmt.Fprintf(d.errs, "keel: %s\n", mebibytes(d.size))
		} else {
			fmt.Fprintf(d.errs, "keel: %d %% of %s\n", 100*offset/size, mebibytes(size))
		}
	}
	return nil
}

// failed is an error of writing, nil for nil.
func (*dumpFile) failed(err error) error {
	if err == nil {
		return nil
	}
	return &handoff.Failure{Outcome: handoff.OutcomeInternal, Cause: "the file cannot be written", Err: err, Remedy: "make room, or name another place"}
}
