package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
)

// consoleFlags are the flags of "keel diag console".
type consoleFlags struct {
	port             int
	readOnly, asJSON bool
}

// consoleCommand follows a serial port of a guest, and types there.
func consoleCommand() *cobra.Command {
	var f consoleFlags
	cmd := &cobra.Command{
		Use:   "console VM",
		Short: "Follow a serial port of a guest, and type there",
		Long: "Follow a serial port of a guest from a little before now on, and type there. Whoever else follows it, the launcher\n" +
			"among them, sees the same, and what several type is mixed. At a terminal Ctrl-A X leaves, Ctrl-A H helps. The guest\n" +
			"waits for nobody: who is slow loses the oldest bytes, and is told how many.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.port != 1 && f.port != 2 {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--port %d is impossible", f.port), Remedy: "give 1 for COM1 or 2 for COM2"}
			}
			return f.run(cmd, args[0])
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.port, "port", 1, "1 for COM1, 2 for COM2")
	s.BoolVar(&f.readOnly, "read-only", false, "type nothing")
	s.BoolVar(&f.asJSON, "json", false, "print JSON lines, and type nothing")
	return cmd
}

func (f *consoleFlags) run(cmd *cobra.Command, vm string) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	err := withVM(ctx, vm, func(c *client.Client) (err error) {
		out := newSpool(cmd.OutOrStdout())
		defer func() {
			if failed := out.close(); err == nil {
				err = failed
			}
		}()
		k, restore := openKeyboard(cmd.InOrStdin(), cmd.ErrOrStderr())
		defer restore()
		if k.raw {
			fmt.Fprintf(cmd.ErrOrStderr(), "keel: COM%d; Ctrl-A X leaves, Ctrl-A H helps\r\n", f.port)
		}
		attached := func(s *client.Console) {
			give, end := s.Write, func(context.Context) error { return nil } // a port has no end of input
			if f.readOnly || f.asJSON {
				give = func(context.Context, []byte) error { return nil }
			}
			refused := func(ctx context.Context, b []byte) error {
				err := give(ctx, b)
				if err != nil {
					cancel(err)
				}
				return err
			}
			go k.move(ctx, func() { cancel(errLeft) }, refused, end)
		}
		return c.Console(ctx, f.port, attached, func(b []byte, lost uint64) error {
			if f.asJSON {
				return json.NewEncoder(out).Encode(consoleJSON{string(b), lost})
			}
			if lost > 0 {
				if err := lostNote(cmd.ErrOrStderr(), lost, k.raw); err != nil {
					return err
				}
			}
			_, err := out.Write(b)
			return err
		})
	})
	cause := context.Cause(ctx)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		return err
	case cmd.Context().Err() != nil, errors.Is(cause, errLeft):
		return nil // Ctrl-C, or Ctrl-A X
	}
	return diagFailure(cause) // of what was typed
}

// consoleJSON is a line of "keel diag console --json".
type consoleJSON struct {
	Data string `json:"data"`           // bytes that are no UTF-8 are replaced
	Lost uint64 `json:"lost,omitempty"` // bytes before these that are missing
}

// lostNote says that bytes are missing.
func lostNote(w io.Writer, lost uint64, raw bool) error {
	end := "\n"
	if raw {
		end = "\r\n"
	}
	_, err := fmt.Fprintf(w, "%skeel: %d bytes are missing here%s", end, lost, end)
	return err
}
