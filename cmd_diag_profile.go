package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/profile"
)

// saveFlags are the flags of commands that save a file.
type saveFlags struct {
	out     string
	seconds int
	asJSON  bool
}

func (f *saveFlags) add(cmd *cobra.Command, def string, seconds int) {
	s := cmd.Flags()
	s.StringVarP(&f.out, "out", "o", "", "file to write, - for standard output (default "+def+")")
	s.BoolVar(&f.asJSON, "json", false, "print JSON about the file")
	if seconds > 0 {
		s.IntVar(&f.seconds, "seconds", seconds, fmt.Sprintf("how long, 1 to %d", profile.MaxTime/time.Second))
	}
}

// save asks a VM for a file and saves it.
func (f *saveFlags) save(cmd *cobra.Command, vm, suffix, hint string, take func(*client.Client, io.Writer) error) error {
	path := f.out
	if path == "" {
		path = fileFor(vm, suffix)
	}
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	return withVM(cmd.Context(), vm, func(c *client.Client) error {
		s, err := save(path, stdout, stderr, func(w io.Writer) error { return take(c, w) })
		if err != nil {
			return err
		}
		if hint != "" {
			hint = ": " + hint + " " + s.File
		}
		if s.File != path {
			hint = ", for the owner alone: keel diag open"
		}
		return s.report(stdout, stderr, f.asJSON, hint)
	})
}

// period is how long the flags say.
func (f *saveFlags) period() (time.Duration, error) {
	if f.seconds < 1 || f.seconds > int(profile.MaxTime/time.Second) {
		return 0, &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--seconds %d is impossible", f.seconds), Remedy: fmt.Sprintf("give 1 to %d", profile.MaxTime/time.Second),
		}
	}
	return time.Duration(f.seconds) * time.Second, nil
}

// profileCommand takes a profile of a paravisor.
func profileCommand() *cobra.Command {
	var f saveFlags
	kinds := strings.Join(profile.Kinds(), ", ")
	cmd := &cobra.Command{
		Use:   "profile VM KIND",
		Short: "Take a profile of a paravisor, for go tool pprof",
		Long: "Take a profile of a paravisor, for \"go tool pprof\". KIND is " + kinds + ".\n" +
			"The kinds cpu, block and mutex are of a stretch of time, see --seconds.",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return profile.Kinds(), cobra.ShellCompDirectiveNoFileComp
			}
			return completeVM(cmd, args, to)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := args[1]
			var d time.Duration
			switch timed := profile.Timed(kind); {
			case timed:
				var err error
				if d, err = f.period(); err != nil {
					return err
				}
			case cmd.Flags().Changed("seconds"):
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--seconds means nothing to %q", kind), Remedy: "leave it out, or ask for cpu, block or mutex"}
			}
			return f.save(cmd, args[0], "-"+kind+".pprof", "go tool pprof", func(c *client.Client, w io.Writer) error {
				return c.Profile(cmd.Context(), kind, d, w)
			})
		},
	}
	f.add(cmd, "VM-KIND.pprof", 10)
	return cmd
}

// traceCommand takes an execution trace of a paravisor.
func traceCommand() *cobra.Command {
	var f saveFlags
	cmd := &cobra.Command{
		Use:               "trace VM",
		Short:             "Take an execution trace of a paravisor, for go tool trace",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := f.period()
			if err != nil {
				return err
			}
			return f.save(cmd, args[0], ".trace", "go tool trace", func(c *client.Client, w io.Writer) error {
				return c.Trace(cmd.Context(), d, w)
			})
		},
	}
	f.add(cmd, "VM.trace", 5)
	return cmd
}

// coreCommand dumps the memory of a paravisor.
func coreCommand() *cobra.Command {
	var f saveFlags
	cmd := &cobra.Command{
		Use:   "core VM [PROCESS]",
		Short: "Dump the memory of a paravisor as an ELF core",
		Long: "Dump the memory of a paravisor as an ELF core, for gdb or dlv with /bin/paravisor of the image. The paravisor and\n" +
			"the guest go on. The core has secrets of the guest, the state of its TPM among them; nobody else may read the file.\n" +
			"PROCESS is paravisor. The TPM's process, tpm, is refused: it holds the guest's keys, and forbids dumps of itself.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			process := "paravisor"
			if len(args) > 1 {
				process = args[1]
			}
			return f.save(cmd, args[0], ".core", "", func(c *client.Client, w io.Writer) error {
				return absent(c.CoreDump(cmd.Context(), process, w), "name paravisor")
			})
		},
	}
	f.add(cmd, "VM.core", 0)
	return cmd
}
