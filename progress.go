package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// progress tells people how far a long step is: a line for each record,
// like the other messages of this program.
type progress struct{ out io.Writer }

// Enabled leaves out what only developers want to see.
func (progress) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle prints the message and the values of its attributes.
func (p progress) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("keel: " + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	_, err := io.WriteString(p.out, b.String()+"\n")
	return err
}

// WithAttrs and WithGroup change nothing: the builders give every attribute
// with its message.
func (p progress) WithAttrs([]slog.Attr) slog.Handler { return p }

// WithGroup: see WithAttrs.
func (p progress) WithGroup(string) slog.Handler { return p }
