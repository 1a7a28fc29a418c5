package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
)

// diagCommand looks into VMs that run.
func diagCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diag",
		Short: "Look into a VM that runs",
		Long: "Look into a VM that runs. VM is a name that keel ps lists, or the path of a hybrid vsock socket.\n" +
			"What a VM says is its word. docs/diag.md describes each command.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listCommand("ls"), inspectCommand(), captureCommand(), openCommand())
	cmd.AddCommand(controlCommands()...)
	cmd.AddCommand(logsCommands()...)
	cmd.AddCommand(execCommand(), shellCommand(), catCommand(), profileCommand(), traceCommand(), coreCommand(), restartCommand(), consoleCommand())
	return cmd
}

// listCommand lists the VMs that run.
func listCommand(name string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name,
		Short: "List your VMs that run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vms, err := qemu.List(cmd.Context())
			if vms == nil {
				vms = []qemu.VM{}
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return errors.Join(err, writeJSON(out, vms))
			}
			return errors.Join(err, describeVMs(out, vms, time.Now()))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// describeVMs prints a table of VMs.
func describeVMs(w io.Writer, vms []qemu.VM, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPID\tVPS\tMEMORY\tSINCE\tFOR")
	for _, vm := range vms {
		fmt.Fprintf(t, "%s\t%d\t%d\t%dM\t%s\t%v\n", vm.Name, vm.PID, vm.VPs, vm.Memory>>20,
			vm.Since.Local().Format(time.DateTime), now.Sub(vm.Since).Round(time.Second))
	}
	return t.Flush()
}

// completeVM completes the name of a VM, which is a command's first argument.
func completeVM(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	vms, _ := qemu.List(cmd.Context()) // what does not answer is not offered
	var names []string
	for i := range vms {
		names = append(names, vms[i].Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// withVM connects with a VM and does something there. An error of diagnostics becomes one
// of type *handoff.Failure; others stay as they are.
func withVM(ctx context.Context, vm string, do func(*client.Client) error) error {
	c, err := client.Dial(ctx, vm)
	if err != nil {
		return diagFailure(err)
	}
	defer c.Close()
	return diagFailure(do(c))
}

// errOutput says that what was received could not be written.
var errOutput = errors.New("cannot write the output")

// output writes what a VM says, and tells its errors apart from those of the VM.
type output struct{ io.Writer }

// Write writes, or fails with errOutput.
func (o output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errOutput, err)
	}
	return n, err
}

// diagOutcomes says what becomes of the errors of diagnostics, and what to do about them.
var diagOutcomes = []struct {
	err     error
	outcome handoff.Outcome
	remedy  string
}{
	{errOutput, handoff.OutcomeUsage, "make room, or send it elsewhere"},
	{client.ErrNoVM, handoff.OutcomeUsage, "name one that keel ps lists"},
	{client.ErrRequest, handoff.OutcomeUsage, "ask for something else"},
	{client.ErrPath, handoff.OutcomeUsage, "name a path that keel diag inspect lists"},
	{client.ErrRefused, handoff.OutcomeBadConfig, "see what its policy allows"},
	{client.ErrUnknown, handoff.OutcomeBadImage, "start the VM with an image of this Keel"},
	{client.ErrNotReady, handoff.OutcomeVMLost, "try again when the guest runs"},
	{client.ErrBusy, handoff.OutcomeVMLost, "try again, or ask for less"},
	{client.ErrLost, handoff.OutcomeVMLost, "see with keel ps whether it runs"},
	{client.ErrAnswer, handoff.OutcomeVMLost, "start the VM with an image of this Keel"},
}

// diagFailure gives an error of diagnostics its outcome and a remedy.
func diagFailure(err error) error {
	if _, ok := errors.AsType[*handoff.Failure](err); ok {
		return err // with a remedy of its own
	}
	for _, o := range diagOutcomes {
		if errors.Is(err, o.err) {
			return &handoff.Failure{Outcome: o.outcome, Cause: "diagnostics", Err: err, Remedy: o.remedy}
		}
	}
	return err
}
