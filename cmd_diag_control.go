package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/server"
	"keel/hcl"
)

// controlCommands act on the guest of a VM.
func controlCommands() []*cobra.Command {
	var vp int
	var force bool
	nmi := actCommand("nmi", "Interrupt the guest's VPs with an NMI, all or one", func(ctx context.Context, c *client.Client) (any, string, error) {
		paused, err := c.NMI(ctx, vp)
		return pausedJSON{paused}, whilePaused("NMI sent", paused), err
	})
	nmi.Flags().IntVar(&vp, "vp", -1, "number of the VP; all when negative")
	shutdown := actCommand("shutdown", "Press the guest's power button, or end the VM", func(ctx context.Context, c *client.Client) (any, string, error) {
		heard, paused, err := c.Shutdown(ctx, force)
		said := whilePaused("power button pressed", paused)
		switch {
		case force:
			said = "the VM ends"
		case !heard:
			said += "; the guest does not listen to it: --force ends the VM"
		}
		return struct {
			Heard  bool `json:"heard"`
			Paused bool `json:"paused"`
			Forced bool `json:"forced"`
		}{heard, paused, force}, said, err
	})
	shutdown.Flags().BoolVar(&force, "force", false, "end the VM without asking the guest")
	return []*cobra.Command{
		actCommand("pause", "Stop the guest until it is resumed", func(ctx context.Context, c *client.Client) (any, string, error) {
			was, err := c.Pause(ctx)
			return wasPausedJSON{was}, map[bool]string{false: "paused", true: "was paused already"}[was], err
		}),
		actCommand("resume", "Let a paused guest go on", func(ctx context.Context, c *client.Client) (any, string, error) {
			was, err := c.Resume(ctx)
			return wasPausedJSON{was}, map[bool]string{true: "runs", false: "was not paused"}[was], err
		}),
		actCommand("reset", "Start the guest over, without asking it", func(ctx context.Context, c *client.Client) (any, string, error) {
			paused, err := c.Reset(ctx)
			return pausedJSON{paused}, whilePaused("reset", paused), err
		}),
		nmi, shutdown, exitsCommand(), dumpCommand(),
	}
}

// What the commands print as JSON.
type (
	wasPausedJSON struct {
		WasPaused bool `json:"was_paused"`
	}
	pausedJSON struct {
		Paused bool `json:"paused"`
	}
)

// whilePaused adds to a line that the guest is paused.
func whilePaused(said string, paused bool) string {
	if paused {
		return said + "; the guest is paused: keel diag resume"
	}
	return said
}

// actCommand makes a command that acts on a VM and says what became of it.
func actCommand(name, short string, act func(context.Context, *client.Client) (any, string, error)) *cobra.Command {
	var asJSON bool
	var sign signFlags
	cmd := &cobra.Command{
		Use:               name + " VM",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sign.withVM(cmd.Context(), args[0], func(c *client.Client) error {
				answer, said, err := act(cmd.Context(), c)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), answer)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	sign.add(cmd.Flags())
	return cmd
}

// exitsCommand shows the exits of a guest while it has them.
func exitsCommand() *cobra.Command {
	var asJSON bool
	var vp int
	var duration time.Duration
	var kinds []string
	cmd := &cobra.Command{
		Use:               "exits VM",
		Short:             "Show the guest's exits from now on",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			known := exitKinds()
			for _, k := range kinds {
				if !slices.Contains(known, k) {
					return &handoff.Failure{
						Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("there is no kind of exits %q", k), Remedy: "use some of " + strings.Join(known, ","),
					}
				}
			}
			if duration < 0 || duration > 0 && duration < time.Millisecond || duration > server.MaxExitTime {
				return &handoff.Failure{
					Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--for %v is impossible", duration),
					Remedy: fmt.Sprintf("use 1ms to %v, or 0 for no end", server.MaxExitTime),
				}
			}
			show := describeExits(cmd.OutOrStdout(), cmd.ErrOrStderr())
			if asJSON {
				show = exitsJSON(cmd.OutOrStdout())
			}
			return withVM(cmd.Context(), args[0], func(c *client.Client) error {
				err := c.Exits(cmd.Context(), vp, duration, func(exits []client.GuestExit, lost uint64) error {
					if len(kinds) > 0 {
						exits = slices.DeleteFunc(exits, func(e client.GuestExit) bool { return !slices.Contains(kinds, e.Kind) })
					}
					return show(exits, lost)
				})
				if errors.Is(err, context.Canceled) {
					return nil // Ctrl-C is the end of it
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each exit")
	cmd.Flags().DurationVar(&duration, "for", time.Second, "for how long; 0 is until Ctrl-C")
	cmd.Flags().IntVar(&vp, "vp", -1, "number of the VP; all when negative")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only these kinds, with commas between")
	return cmd
}

// exitKinds are the names of the kinds of exits.
func exitKinds() (names []string) {
	for k := range hcl.ExitKinds {
		names = append(names, k.String())
	}
	return names
}

// exitPrinter prints exits as they come.
type exitPrinter func(exits []client.GuestExit, lost uint64) error

// describeExits prints a line for each exit, with its time since the first, and on errs
// how many were lost.
func describeExits(out, errs io.Writer) exitPrinter {
	const line = "%12s  %2s  %-16s  %-18s  %s\n"
	var first time.Duration
	begun := false
	return func(exits []client.GuestExit, lost uint64) error {
		if lost > 0 {
			fmt.Fprintf(errs, "keel: %d exits came too fast to be kept\n", lost)
		}
		for _, e := range exits {
			if !begun {
				begun, first = true, e.Time
				if _, err := fmt.Fprintf(out, line, "SECONDS", "VP", "EXIT", "RIP", "WHAT"); err != nil {
					return err
				}
			}
			at := fmt.Sprintf("%.6f", (e.Time - first).Seconds())
			if _, err := fmt.Fprintf(out, line, at, fmt.Sprint(e.VP), e.Kind, fmt.Sprintf("%#x", e.RIP), exitText(&e)); err != nil {
				return err
			}
		}
		return nil
	}
}

// exitText says what an exit was about.
func exitText(e *client.GuestExit) string {
	direction := "read"
	if e.Write {
		direction = "write"
	}
	switch e.Kind {
	case hcl.ExitPIO.String(), hcl.ExitMMIO.String():
		return fmt.Sprintf("%s %#x/%d %#x", direction, e.Where, e.Size, e.Value)
	case hcl.ExitMSRRead.String(), hcl.ExitMSRWrite.String():
		return fmt.Sprintf("%#x %#x", e.Where, e.Value)
	case hcl.ExitMemoryFault.String():
		return fmt.Sprintf("%s %#x", direction, e.Where)
	}
	return ""
}

// exitJSON is an exit as --json prints it.
type exitJSON struct {
	TimeNS int64  `json:"time_ns"`
	VP     int    `json:"vp"`
	Kind   string `json:"kind"`
	Write  bool   `json:"write"`
	Size   int    `json:"size"`
	RIP    uint64 `json:"rip"`
	Where  uint64 `json:"where"`
	Value  uint64 `json:"value"`
	Lost   uint64 `json:"lost,omitempty"` // that came before it and were not kept
}

// exitsJSON prints a line of JSON for each exit.
func exitsJSON(out io.Writer) exitPrinter {
	e := json.NewEncoder(out)
	var missing uint64
	return func(exits []client.GuestExit, lost uint64) error {
		missing += lost
		for _, x := range exits {
			if err := e.Encode(exitJSON{int64(x.Time), x.VP, x.Kind, x.Write, x.Size, x.RIP, x.Where, x.Value, missing}); err != nil {
				return err
			}
			missing = 0
		}
		return nil
	}
}
