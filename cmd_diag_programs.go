package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"keel/boot/handoff"
	"keel/diag/client"
)

// programStatus is how a program in a VM ended: it becomes our own exit status.
type programStatus int

// Error says so in words.
func (s programStatus) Error() string { return fmt.Sprintf("the program ended with status %d", int(s)) }

// statusOf turns the end of a program into an error, as shells do: 128 and the number of
// the signal that killed it.
func statusOf(end client.ProgramEnd) error {
	switch {
	case end.Signal != "":
		return programStatus(128 + int(unix.SignalNum(end.Signal))) // 0 if there is no such signal
	case end.Code != 0:
		return programStatus(end.Code & 0xff)
	}
	return nil
}

// absent gives what there is not in a VM a remedy.
func absent(err error, remedy string) error {
	if errors.Is(err, client.ErrPath) {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "diagnostics", Err: err, Remedy: remedy}
	}
	return err
}

// execFlags are the flags of "keel diag exec".
type execFlags struct {
	stdin, tty, asJSON bool
	env                []string
}

// execCommand runs a program in a VM.
func execCommand() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec VM -- PROGRAM [ARGUMENT]...",
		Short: "Run a program in VTL2 of a VM with a debug image",
		Long: "Run a program in VTL2 of a VM with a debug image, beside the paravisor. Its exit status becomes that of this\n" +
			"command; 128 and a number say that a signal killed it. It is killed when this command ends.",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0], args[1:])
		},
	}
	s := cmd.Flags()
	s.BoolVarP(&f.stdin, "stdin", "i", false, "pass standard input on")
	s.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	s.StringArrayVarP(&f.env, "env", "e", nil, "NAME=VALUE for its environment; may be repeated")
	s.BoolVar(&f.asJSON, "json", false, "print JSON lines: what it says, and how it ends")
	return cmd
}

// shellCommand opens a shell in a VM.
func shellCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "shell VM",
		Short:             "Open a shell in VTL2 of a VM with a debug image",
		Long:              "Open a shell in VTL2 of a VM with a debug image. Ctrl-D ends it as any other shell; Ctrl-A X leaves, Ctrl-A H helps.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := execFlags{stdin: true, tty: true}
			return f.run(cmd, args[0], []string{"/bin/sh"})
		},
	}
}

// run runs a program.
func (f *execFlags) run(cmd *cobra.Command, vm string, words []string) error {
	if f.asJSON && f.tty {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "--json and --tty do not go together", Remedy: "leave one of them out"}
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	p := client.Program{Args: words, Env: f.env}
	if f.tty {
		p.Env = append(terminalType(), p.Env...)
		p.Terminal = new(terminalSize(cmd.InOrStdin()))
	}
	var end client.ProgramEnd
	err := withVM(ctx, vm, func(c *client.Client) (err error) {
		out, errs := newSpool(cmd.OutOrStdout()), newSpool(cmd.ErrOrStderr())
		defer func() {
			if failed := errors.Join(out.close(), errs.close()); err == nil {
				err = failed
			}
		}()
		var stdout, stderr io.Writer = out, errs
		if f.asJSON {
			stdout, stderr = jsonStream{out, "stdout"}, jsonStream{out, "stderr"}
		}
		k := &keyboard{in: cmd.InOrStdin(), help: cmd.ErrOrStderr()}
		if f.tty && f.stdin {
			var restore func()
			k, restore = openKeyboard(k.in, k.help)
			defer restore()
		}
		end, err = c.Exec(ctx, p, func(s *client.Session) {
			if f.tty {
				go followSize(ctx, cmd.InOrStdin(), s)
			}
			if f.stdin {
				go k.move(ctx, func() { cancel(errLeft) }, s.Write, s.End)
			} else {
				go func() { _ = s.End(ctx) }() // who has ended needs no end of input
			}
		}, stdout, stderr)
		if err == nil && f.asJSON {
			err = json.NewEncoder(out).Encode(map[string]any{"code": end.Code, "signal": end.Signal})
		}
		return absent(err, "name a program that there is in the VM")
	})
	switch {
	case errors.Is(context.Cause(ctx), errLeft):
		return nil
	case errors.Is(err, syscall.EPIPE): // who read it has seen enough
		return programStatus(128 + int(unix.SIGPIPE))
	case err != nil:
		return err
	}
	return statusOf(end)
}

// errLeft says that the user has left with Ctrl-A X.
var errLeft = errors.New("left")

// jsonStream prints what comes as a line of JSON.
type jsonStream struct {
	w    io.Writer
	name string
}

// Write prints a line. Bytes that are no UTF-8 are replaced.
func (j jsonStream) Write(b []byte) (int, error) {
	return len(b), json.NewEncoder(j.w).Encode(map[string]string{j.name: string(b)})
}

// terminalType is the variable that names the kind of our terminal.
func terminalType() []string {
	if kind := os.Getenv("TERM"); kind != "" && len(kind) < 64 {
		return []string{"TERM=" + kind}
	}
	return nil
}

// terminalSize is the size of a terminal; of what is none it is unknown.
func terminalSize(in io.Reader) client.TerminalSize {
	if f, ok := in.(*os.File); ok {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil {
			return client.TerminalSize{Rows: rows, Columns: columns}
		}
	}
	return client.TerminalSize{}
}

// followSize tells a program when our terminal gets another size.
func followSize(ctx context.Context, in io.Reader, s *client.Session) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-changed:
			if s.Resize(ctx, terminalSize(in)) != nil {
				return // its end is seen elsewhere
			}
		case <-ctx.Done():
			return
		}
	}
}

// catCommand reads a file of a VM.
func catCommand() *cobra.Command {
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "cat VM PATH",
		Short:             "Print a file of VTL2 of a VM with a debug image",
		Long:              "Print a regular file of VTL2 of a VM with a debug image, also one of /proc or /sys.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
			read := func(c *client.Client, w io.Writer) error {
				return absent(c.ReadFile(cmd.Context(), args[1], w), "name a file that there is in the VM")
			}
			if out == "" && !asJSON {
				return withVM(cmd.Context(), args[0], func(c *client.Client) error {
					to := &transfer{w: stdout}
					err := read(c, to)
					if errors.Is(err, syscall.EPIPE) { // who read it has seen enough
						return nil
					}
					return to.explain(err)
				})
			}
			if out == "" {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "--json says what was saved", Remedy: "name a file with -o"}
			}
			return withVM(cmd.Context(), args[0], func(c *client.Client) error {
				s, err := save(out, stdout, stderr, func(w io.Writer) error { return read(c, w) })
				if err != nil {
					return err
				}
				return s.report(stdout, stderr, asJSON, "")
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write; - for standard output (default: print it)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON about the file that was written")
	return cmd
}

// restartCommand restarts a worker of a VM.
func restartCommand() *cobra.Command {
	var sign signFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restart VM WORKER",
		Short: "Replace a worker's process by a new one",
		Long: "Replace the process of a worker by a new one, which goes on where the old one was. There is one, tpm, in VMs\n" +
			"with a TPM: the guest sees nothing of it.",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"tpm"}, cobra.ShellCompDirectiveNoFileComp
			}
			return completeVM(cmd, args, to)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := sign.withVM(cmd.Context(), args[0], func(c *client.Client) error {
				return absent(c.Restart(cmd.Context(), args[1]), "name one that the VM has: tpm, if its guest has a TPM")
			})
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), map[string]string{"restarted": args[1]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s was restarted\n", args[1])
			return err
		},
	}
	sign.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
