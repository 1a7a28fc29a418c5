package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/inspect"
)

// logsCommands follow a VM, and set what it says.
func logsCommands() []*cobra.Command {
	return []*cobra.Command{logsCommand(), kmsgCommand(), journalCommand(), metricsCommand(), watchCommand(), updateCommand(), topCommand()}
}

// vmCommand makes a command whose first argument is a VM, and which may print JSON.
func vmCommand(use, short, long string, args cobra.PositionalArgs, asJSON *bool, run func(ctx context.Context, out io.Writer, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args, ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
	return cmd
}

// followVM connects with a VM and follows it there. That ends well when the user ends it,
// or whoever reads the output.
func followVM(ctx context.Context, vm string, follow func(*client.Client) error) error {
	err := withVM(ctx, vm, follow)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil || errors.Is(err, errOutput) && errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// jsonLine writes a document on a line of its own.
func jsonLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// parseLevel returns a level of the log.
func parseLevel(name string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(name, l.String()) {
			return l, nil
		}
	}
	return 0, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--level %q is none", name), Remedy: "use debug, info, warn or error"}
}

// logsCommand shows the paravisor's log.
func logsCommand() *cobra.Command {
	var asJSON, on bool
	var level string
	var after uint64
	cmd := vmCommand("logs VM", "Show the log of a paravisor",
		"Show the last lines of a paravisor's log. Of a confidential guest private values are left out.",
		cobra.ExactArgs(1), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			least, err := parseLevel(level)
			if err != nil {
				return err
			}
			out = output{out}
			return followVM(ctx, args[0], func(c *client.Client) error {
				return c.Logs(ctx, least, after, on, func(l *client.LogLine) error {
					if asJSON {
						return jsonLine(out, logJSON(l))
					}
					_, err := io.WriteString(out, logText(l))
					return err
				})
			})
		})
	s := cmd.Flags()
	s.BoolVarP(&on, "follow", "f", false, "go on with new lines, until Ctrl-C")
	s.StringVar(&level, "level", "debug", "the least level: debug, info, warn or error")
	s.Uint64Var(&after, "after", 0, "only lines after the one of this number")
	return cmd
}

// logText prints a line as people read it.
func logText(l *client.LogLine) string {
	var b strings.Builder
	if l.Lost > 0 {
		fmt.Fprintf(&b, "(%d lines are lost)\n", l.Lost)
	}
	fmt.Fprintf(&b, "%s %-5s %s", l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), l.Level, l.Message)
	for _, a := range l.Attrs {
		value := a.Value
		switch {
		case a.Withheld:
			value = "(private)"
		case value == "" || strings.ContainsAny(value, " \"="):
			value = fmt.Sprintf("%q", value)
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, value)
	}
	return b.String() + "\n"
}

// logJSON makes what --json prints of a line.
func logJSON(l *client.LogLine) any {
	type attr struct {
		Key      string `json:"key"`
		Value    string `json:"value"`
		Private  bool   `json:"private,omitempty"`
		Withheld bool   `json:"withheld,omitempty"`
	}
	attrs := make([]attr, 0, len(l.Attrs))
	for _, a := range l.Attrs {
		attrs = append(attrs, attr{a.Key, a.Value, a.Sensitivity != inspect.Public, a.Withheld})
	}
	return struct {
		Seq     uint64    `json:"seq"`
		Time    time.Time `json:"time"`
		Level   string    `json:"level"`
		Message string    `json:"message"`
		Attrs   []attr    `json:"attrs"`
		Lost    uint64    `json:"lost,omitempty"`
	}{l.Seq, l.Time.UTC(), strings.ToLower(l.Level.String()), l.Message, attrs, l.Lost}
}

// kmsgCommand shows the log of Keel's own kernel.
func kmsgCommand() *cobra.Command {
	var asJSON, on bool
	cmd := vmCommand("kmsg VM", "Show the messages of Keel's own kernel",
		"Show the messages of the kernel beneath the paravisor. Refused for a confidential guest, whose owner reads them with keel diag journal.",
		cobra.ExactArgs(1), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			out = output{out}
			return followVM(ctx, args[0], func(c *client.Client) error {
				return c.Kmsg(ctx, on, func(m *client.KernelMessage) error {
					if asJSON {
						return jsonLine(out, kmsgJSON(m))
					}
					_, err := fmt.Fprintf(out, "[%12.6f] %s\n", m.Time.Seconds(), m.Text)
					return err
				})
			})
		})
	cmd.Flags().BoolVarP(&on, "follow", "f", false, "go on with new messages, until Ctrl-C")
	return cmd
}

// kmsgJSON makes what --json prints of a message.
func kmsgJSON(m *client.KernelMessage) any {
	return struct {
		Seq      uint64 `json:"seq"`
		TimeUS   int64  `json:"time_us"`
		Level    uint32 `json:"level"`
		Facility uint32 `json:"facility"`
		Text     string `json:"text"`
	}{m.Seq, m.Time.Microseconds(), m.Level, m.Facility, m.Text}
}

// journalCommand saves the log of a paravisor and its kernel.
func journalCommand() *cobra.Command {
	var f saveFlags
	cmd := &cobra.Command{
		Use:   "journal VM",
		Short: "Save all of the log of a paravisor and its kernel",
		Long: "Save all that there is of the log of a paravisor, with private values, and of its kernel's, as lines of JSON.\n" +
			"Of a confidential guest the file is encrypted to its owner.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.save(cmd, args[0], ".jsonl", "", func(c *client.Client, w io.Writer) error {
				return c.Journal(cmd.Context(), w)
			})
		},
	}
	f.add(cmd, "VM.jsonl", 0)
	return cmd
}

// metricsCommand prints the state tree for monitoring.
func metricsCommand() *cobra.Command {
	var asJSON bool
	return vmCommand("metrics VM", "Print the state tree of a VM that runs as OpenMetrics text",
		"Print the state tree as OpenMetrics text, with what may be seen of it.",
		cobra.ExactArgs(1), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			out = output{out}
			return followVM(ctx, args[0], func(c *client.Client) error {
				text, err := c.Metrics(ctx)
				switch {
				case err != nil:
				case asJSON:
					err = jsonLine(out, struct {
						Text string `json:"text"`
					}{text})
				default:
					_, err = io.WriteString(out, text)
				}
				return err
			})
		})
}

// updateCommand sets something.
func updateCommand() *cobra.Command {
	var asJSON, list bool
	var sign signFlags
	cmd := vmCommand("update VM [NAME=VALUE]", "Set the log level, the trace of exits or a tunable of a VM that runs",
		"Set something of a running paravisor. --list shows what there is. Of a confidential guest its owner may.",
		cobra.RangeArgs(1, 2), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			if list == (len(args) > 1) {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "nothing to set, or too much", Remedy: "give NAME=VALUE, or --list"}
			}
			if list {
				return listSettings(ctx, output{out}, args[0], asJSON)
			}
			name, value, ok := strings.Cut(args[1], "=")
			if !ok {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("%q sets nothing", args[1]), Remedy: "give NAME=VALUE; keel diag update --list lists names"}
			}
			o, err := sign.owner()
			if err != nil {
				return err
			}
			return followVM(ctx, args[0], func(c *client.Client) error {
				c.Sign(o)
				set, err := c.Update(ctx, name, value)
				switch {
				case err != nil:
				case asJSON:
					err = jsonLine(output{out}, set)
				default:
					_, err = fmt.Fprintf(output{out}, "%s=%s\n", set.Name, set.Value)
				}
				return err
			})
		})
	cmd.Flags().BoolVar(&list, "list", false, "list what can be set, and what cannot")
	sign.add(cmd.Flags())
	return cmd
}

// listSettings prints how everything is set.
func listSettings(ctx context.Context, out io.Writer, vm string, asJSON bool) error {
	return followVM(ctx, vm, func(c *client.Client) error {
		settings, err := c.Settings(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(out, settings)
		}
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tVALUE\tWHAT\tVALUES")
		for _, s := range settings {
			values := s.Values
			if s.ReadOnly {
				values = "read-only"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, s.Value, s.Doc, values)
		}
		return t.Flush()
	})
}
