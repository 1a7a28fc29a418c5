// Keel is a paravisor for Linux hosts; this is its host side: it makes and
// reads images and runs guests in them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

func main() {
	// A reader of our output that goes away is an end of the run like any
	// other, not a death in the middle of it with a terminal left raw.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := execute(ctx, os.Args[1:])
	stop()
	if status, ok := errors.AsType[programStatus](err); ok {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "keel:", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(qemu.OutcomeOf(err).ExitCode())
	}
}

// rootCommand is the tool with all its commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{Use: "keel", Short: "A paravisor for Linux hosts", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(runCommand(), imageCommand(), stateCommand(), listCommand("ps"), diagCommand(), attestCommand(attestVM), keyserverCommand(), versionCommand())
	return root
}

// execute runs one command line. What cobra itself refuses is a usage error;
// what a command returns stays as it is.
func execute(ctx context.Context, args []string) error {
	root := rootCommand()
	ran := false
	root.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !ran {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: err.Error(), Remedy: "see keel --help"}
	}
	if _, ok := errors.AsType[*handoff.Failure](err); err != nil && !ok && ctx.Err() != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeQuit, Cause: "ended", Err: context.Cause(ctx)}
	}
	return err
}

// versionCommand prints what was built from what.
func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("this binary carries no build information")
			}
			revision := "unknown"
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					revision = s.Value
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "keel %s, commit %s, %s\n", info.Main.Version, revision, info.GoVersion)
			return err
		},
	}
}
