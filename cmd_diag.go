package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/diag/server"
)

// psCommand lists the VMs that run.
func psCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps",
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

// inspectCommand shows what the parts of a running paravisor say of themselves.
func inspectCommand() *cobra.Command {
	var asJSON bool
	var depth int
	cmd := &cobra.Command{
		Use:   "inspect VM [PATH]",
		Short: "Show the state tree of a VM that runs",
		Long: "Show what the parts of a running paravisor say of themselves. A path is names with slashes between.\n" +
			"VM is a name that keel ps lists, or the path of a hybrid vsock socket. What a VM says is its word.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			if depth < 0 || depth > server.MaxDepth {
				return &handoff.Failure{
					Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--depth %d is impossible", depth), Remedy: fmt.Sprintf("use 0 to %d", server.MaxDepth),
				}
			}
			tree, err := inspectVM(cmd.Context(), args[0], path, depth)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), treeJSON(tree))
			}
			return describeTree(cmd.OutOrStdout(), tree)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&depth, "depth", server.MaxDepth, "levels of nodes to look into beneath the path")
	return cmd
}

// inspectVM asks a VM for a part of its tree. Its errors are of type *handoff.Failure.
func inspectVM(ctx context.Context, vm, path string, depth int) (*client.Tree, error) {
	c, err := client.Dial(ctx, vm)
	if err != nil {
		return nil, diagFailure(err)
	}
	defer c.Close()
	tree, err := c.Inspect(ctx, path, depth)
	if err != nil {
		return nil, diagFailure(err)
	}
	return tree, nil
}

// diagOutcomes says what becomes of the errors of diagnostics, and what to do about them.
var diagOutcomes = []struct {
	err     error
	outcome handoff.Outcome
	remedy  string
}{
	{client.ErrNoVM, handoff.OutcomeUsage, "name one that keel ps lists"},
	{client.ErrRequest, handoff.OutcomeUsage, "ask for something else"},
	{client.ErrPath, handoff.OutcomeUsage, "name a path that keel inspect lists"},
	{client.ErrRefused, handoff.OutcomeBadConfig, "see what its policy allows"},
	{client.ErrUnknown, handoff.OutcomeBadImage, "start the VM with an image of this Keel"},
	{client.ErrNotReady, handoff.OutcomeVMLost, "try again when the guest runs"},
	{client.ErrBusy, handoff.OutcomeVMLost, "try again, or ask for less"},
	{client.ErrLost, handoff.OutcomeVMLost, "see with keel ps whether it runs"},
	{client.ErrAnswer, handoff.OutcomeVMLost, "start the VM with an image of this Keel"},
}

// diagFailure gives an error of diagnostics its outcome and a remedy.
func diagFailure(err error) error {
	for _, o := range diagOutcomes {
		if errors.Is(err, o.err) {
			return &handoff.Failure{Outcome: o.outcome, Cause: "diagnostics", Err: err, Remedy: o.remedy}
		}
	}
	return err
}

// fieldJSON is a field as "keel inspect --json" prints it.
type fieldJSON struct {
	Name        string         `json:"name,omitempty"`
	Doc         string         `json:"doc,omitempty"`
	Sensitivity string         `json:"sensitivity"` // private or public
	Unit        string         `json:"unit,omitempty"`
	Value       any            `json:"value,omitempty"`     // a number, a text or a truth value
	Histogram   *histogramJSON `json:"histogram,omitempty"` // instead
	Fields      *[]fieldJSON   `json:"fields,omitempty"`    // of a node that was looked into
	Node        bool           `json:"node,omitempty"`      // it is a node
	Withheld    bool           `json:"withheld,omitempty"`  // private fields of the node were left out
}

type histogramJSON struct {
	Bounds []uint64 `json:"bounds"`
	Counts []uint64 `json:"counts"`
}

// treeJSON makes what --json prints.
func treeJSON(t *client.Tree) any {
	return struct {
		Confidential bool `json:"confidential"`
		fieldJSON
	}{t.Confidential, toJSON(&t.Field)}
}

func toJSON(f *inspect.Field) fieldJSON {
	j := fieldJSON{Name: f.Name, Doc: f.Doc, Sensitivity: "private", Unit: string(f.Unit), Value: f.Value, Withheld: f.Withheld}
	if f.Sensitivity == inspect.Public {
		j.Sensitivity = "public"
	}
	if h, ok := f.Value.(inspect.Histogram); ok {
		j.Value, j.Histogram = nil, &histogramJSON{h.Bounds, h.Counts}
	}
	j.Node = f.Value == nil
	if f.Fields != nil {
		below := make([]fieldJSON, 0, len(f.Fields))
		for i := range f.Fields {
			below = append(below, toJSON(&f.Fields[i]))
		}
		j.Fields = &below
	}
	return j
}

// describeTree prints a tree as a table.
func describeTree(w io.Writer, tree *client.Tree) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIELD\tVALUE\tWHAT")
	describeField(t, &tree.Field, "")
	if tree.Confidential {
		fmt.Fprintln(t, "the guest is confidential: private fields are left out")
	}
	return t.Flush()
}

// describeField prints a field and what is beneath it.
func describeField(w io.Writer, f *inspect.Field, above string) {
	name := above + f.Name
	switch v := f.Value.(type) {
	case nil:
		if name != "" { // the root
			name += "/"
			value := ""
			if f.Fields == nil {
				value = "…"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", name, value, f.Doc)
		}
		for i := range f.Fields {
			describeField(w, &f.Fields[i], name)
		}
	case inspect.Histogram:
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, histogramText(v, f.Unit), f.Doc)
	case uint64:
		value := strconv.FormatUint(v, 10)
		if f.Unit != inspect.Count {
			value += " " + string(f.Unit)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, value, f.Doc)
	default:
		fmt.Fprintf(w, "%s\t%v\t%s\n", name, v, f.Doc)
	}
}

// histogramText prints the buckets of a histogram that are not empty.
func histogramText(h inspect.Histogram, unit inspect.Unit) string {
	var parts []string
	for i, n := range h.Counts {
		switch {
		case n == 0:
		case i < len(h.Bounds):
			parts = append(parts, fmt.Sprintf("≤%d:%d", h.Bounds[i], n))
		default:
			parts = append(parts, fmt.Sprintf("more:%d", n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, " ") + " " + string(unit)
}
