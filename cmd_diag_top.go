package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"keel/diag/client"
	"keel/diag/server"
)

// topCommand shows what a VM does, again and again.
func topCommand() *cobra.Command {
	var asJSON bool
	var f watchFlags
	cmd := vmCommand("top VM", "Show what a VM does, live",
		"Show exits, disks, VPs and memory of a VM that runs, for each interval. On a terminal the view is drawn anew, else it is printed\n"+
			"one after the other; with --json each is one line. What is private of a confidential guest is left out.",
		cobra.ExactArgs(1), &asJSON, func(ctx context.Context, out io.Writer, args []string) error {
			view := newScreen(out)
			if !asJSON {
				view.open()
				defer view.close()
			}
			if f.count > 0 {
				f.count++ // the first look is what the next one is compared with
			}
			var last *client.Tree
			return f.watch(ctx, args[0], "", server.MaxDepth, func(t *client.Tree) error {
				before := last
				last = t
				switch {
				case before == nil:
					return nil
				case asJSON:
					return jsonLine(view.out, topOf(before, t))
				}
				return view.draw(topOf(before, t).String(args[0]))
			})
		})
	f.add(cmd)
	return cmd
}

// screen is a terminal on which a view is drawn anew, or a file to which it is printed.
type screen struct {
	out io.Writer
	fd  int // of the terminal, -1 for none
}

func newScreen(w io.Writer) *screen {
	s := &screen{out: output{w}, fd: -1}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.fd = int(f.Fd())
	}
	return s
}

// Control sequences of terminals (ECMA-48 §8.3, and xterm's private modes).
const (
	enterAlternate = "\x1b[?1049h\x1b[?25l" // the other page, without a cursor
	leaveAlternate = "\x1b[?25h\x1b[?1049l"
	cursorHome     = "\x1b[H"
	eraseLine      = "\x1b[K"
	eraseBelow     = "\x1b[J"
)

func (s *screen) open() {
	if s.fd >= 0 {
		_, _ = io.WriteString(s.out, enterAlternate) // what fails here fails again when drawn
	}
}

func (s *screen) close() {
	if s.fd >= 0 {
		_, _ = io.WriteString(s.out, leaveAlternate) // the terminal may be gone
	}
}

// draw shows a view. What does not fit on the terminal is cut off.
func (s *screen) draw(text string) error {
	if s.fd < 0 {
		_, err := io.WriteString(s.out, text+"\n")
		return err
	}
	width, height, err := term.GetSize(s.fd)
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		runes := []rune(line)
		b.WriteString(string(runes[:min(len(runes), width)]) + eraseLine)
	}
	b.WriteString(eraseBelow)
	_, err = io.WriteString(s.out, b.String())
	return err
}

// String prints a view for people.
func (v *topView) String(vm string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  up %v", vm, (time.Duration(v.UptimeSeconds*1e9) * time.Nanosecond).Round(time.Second))
	if v.Confidential {
		b.WriteString("  confidential: private figures are left out")
	}
	fmt.Fprintf(&b, "\nmemory  guest %s  Keel %s, at most %s  of %s\n", size(float64(v.Memory["guest"])), size(float64(v.Memory["vtl2"])),
		size(float64(v.Memory["vtl2_peak"])), size(float64(v.Memory["total"])))
	fmt.Fprintf(&b, "\n%-10s %8s %10s\n", "VP", "BUSY", "EXITS/S")
	for _, p := range v.VPs {
		exits := "-"
		if p.Exits != nil {
			exits = fmt.Sprintf("%.0f", *p.Exits)
		}
		fmt.Fprintf(&b, "%-10s %7.1f%% %10s\n", p.Name, 100*p.Busy, exits)
	}
	if len(v.Exits) > 0 {
		fmt.Fprintf(&b, "\n%-19s %10s\n", "EXIT", "PER S")
		for _, e := range v.Exits {
			fmt.Fprintf(&b, "%-19s %10.0f\n", e.Kind, e.PerSecond)
		}
	}
	if len(v.Disks) > 0 {
		fmt.Fprintf(&b, "\n%-16s %9s %9s %11s %11s %6s %10s %10s\n", "DISK", "READS/S", "WRITES/S", "READ/S", "WRITTEN/S", "DEPTH", "50% UNDER", "99% UNDER")
		for _, d := range v.Disks {
			fmt.Fprintf(&b, "%-16s %9.0f %9.0f %11s %11s %6d %10s %10s\n", d.Name, d.Reads, d.Writes, size(d.ReadBytes), size(d.WrittenBytes), d.Depth,
				micros(d.MedianUS), micros(d.P99US))
		}
	}
	return b.String()
}

// size prints a number of bytes.
func size(n float64) string {
	for _, u := range []string{"B", "K", "M", "G"} {
		if n < 1024 || u == "G" {
			if u == "B" {
				return fmt.Sprintf("%.0f", n)
			}
			return fmt.Sprintf("%.1f%s", n, u)
		}
		n /= 1024
	}
	return ""
}

// micros prints a number of microseconds, nil for one that there is not.
func micros(us *uint64) string {
	if us == nil {
		return "-"
	}
	return (time.Duration(*us) * time.Microsecond).String()
}
