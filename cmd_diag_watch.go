package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/inspect"
	"keel/diag/server"
)

// watchFlags are those of commands that look again and again.
type watchFlags struct {
	interval time.Duration
	count    int
}

func (f *watchFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, fmt.Sprintf("time between looks, %v to %v", server.MinInterval, server.MaxInterval))
	cmd.Flags().IntVar(&f.count, "count", 0, "end after so many looks; 0 for Ctrl-C")
}

// errCounted ends what was to go on for a number of looks.
var errCounted = errors.New("enough looks")

// watch looks at a part of a VM's tree until it has seen enough.
func (f *watchFlags) watch(ctx context.Context, vm, path string, depth int, each func(*client.Tree) error) error {
	switch {
	case f.interval < server.MinInterval || f.interval > server.MaxInterval:
		return &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--interval %v is impossible", f.interval),
			Remedy: fmt.Sprintf("use %v to %v", server.MinInterval, server.MaxInterval),
		}
	case f.count < 0:
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--count %d is impossible", f.count), Remedy: "use 0 or more"}
	}
	looks := 0
	err := followVM(ctx, vm, func(c *client.Client) error {
		return c.Watch(ctx, path, depth, f.interval, func(t *client.Tree) error {
			err := each(t)
			if looks++; err == nil && looks == f.count {
				err = errCounted
			}
			return err
		})
	})
	if errors.Is(err, errCounted) {
		return nil
	}
	return err
}

// watchCommand shows what changes in the state tree.
func watchCommand() *cobra.Command {
	var asJSON bool
	var depth int
	var f watchFlags
	cmd := vmCommand("watch VM [PATH]", "Show what changes in the state tree of a VM that runs",
		"Show the state tree, and then again and again what has changed in it. With --json each look is one line.",
		cobra.RangeArgs(1, 2), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			if err := checkDepth(depth); err != nil {
				return err
			}
			out = output{out}
			var before map[string]any
			var at time.Time
			return f.watch(ctx, args[0], path, depth, func(t *client.Tree) error {
				if asJSON {
					return jsonLine(out, treeJSON(t))
				}
				last, now := before, time.Now()
				elapsed := now.Sub(at)
				before, at = map[string]any{}, now
				walk(&t.Field, "", func(name string, f *inspect.Field) { before[name] = f.Value })
				return describeChanges(out, t, last, now, elapsed)
			})
		})
	cmd.Flags().IntVar(&depth, "depth", server.MaxDepth, "levels of nodes to look into beneath the path")
	f.add(cmd)
	return cmd
}

// describeChanges prints the values that have changed since the last look, all at the
// first one, with what numbers gain in a second.
func describeChanges(w io.Writer, tree *client.Tree, last map[string]any, now time.Time, elapsed time.Duration) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n", now.Format("15:04:05.000"))
	walk(&tree.Field, "", func(name string, f *inspect.Field) {
		was, known := last[name]
		if known && reflect.DeepEqual(was, f.Value) {
			return
		}
		value, rate := valueText(f), ""
		n, number := f.Value.(uint64)
		if w, ok := was.(uint64); ok && number && elapsed > 0 {
			rate = fmt.Sprintf("%+.1f/s", (float64(n)-float64(w))/elapsed.Seconds())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", name, value, rate)
	})
	return t.Flush()
}

// walk hands the values beneath a field over, in order, with their paths.
func walk(f *inspect.Field, above string, each func(name string, f *inspect.Field)) {
	name := above + f.Name
	if f.Value != nil {
		each(name, f)
		return
	}
	if name != "" {
		name += "/"
	}
	for i := range f.Fields {
		walk(&f.Fields[i], name, each)
	}
}
