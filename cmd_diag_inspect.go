package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/diag/server"
)

// inspectCommand shows what the parts of a running paravisor say of themselves.
func inspectCommand() *cobra.Command {
	var asJSON bool
	var depth int
	cmd := &cobra.Command{
		Use:               "inspect VM [PATH]",
		Short:             "Show the state tree of a VM that runs",
		Long:              "Show what the parts of a running paravisor say of themselves. A path is names with slashes between.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			if err := checkDepth(depth); err != nil {
				return err
			}
			tree, err := inspectVM(cmd.Context(), args[0], path, depth)
			if err != nil {
				return err
			}
			out := output{cmd.OutOrStdout()}
			if asJSON {
				return diagFailure(writeJSON(out, treeJSON(tree)))
			}
			return diagFailure(describeTree(out, tree))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&depth, "depth", server.MaxDepth, "levels of nodes to look into beneath the path")
	return cmd
}

// checkDepth refuses levels that there cannot be.
func checkDepth(depth int) error {
	if depth < 0 || depth > server.MaxDepth {
		return &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--depth %d is impossible", depth), Remedy: fmt.Sprintf("use 0 to %d", server.MaxDepth),
		}
	}
	return nil
}

// inspectVM asks a VM for a part of its tree. Its errors are of type *handoff.Failure.
func inspectVM(ctx context.Context, vm, path string, depth int) (tree *client.Tree, err error) {
	err = withVM(ctx, vm, func(c *client.Client) error {
		tree, err = c.Inspect(ctx, path, depth)
		return err
	})
	return tree, err
}

// fieldJSON is a field as "keel diag inspect --json" prints it.
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
	switch f.Value.(type) {
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
	default:
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, valueText(f), f.Doc)
	}
}

// valueText prints a value with its unit.
func valueText(f *inspect.Field) string {
	switch v := f.Value.(type) {
	case inspect.Histogram:
		return histogramText(v, f.Unit)
	case uint64:
		if f.Unit != inspect.Count {
			return strconv.FormatUint(v, 10) + " " + string(f.Unit)
		}
	}
	return fmt.Sprint(f.Value)
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
