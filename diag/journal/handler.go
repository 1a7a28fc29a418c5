package journal

import (
	"context"
	"log/slog"
	"slices"

	"keel/diag/inspect"
)

// handler keeps records and passes them on.
type handler struct {
	journal *Journal
	out     slog.Handler
	redact  bool   // what is passed on
	prefix  string // of keys, with a dot at its end
	attrs   []Attr
}

// Handler returns a handler for a logger: it keeps every record in the journal and passes
// it on to out, which decides which levels there are. With redact private values are not
// passed on.
func (j *Journal) Handler(out slog.Handler, redact bool) slog.Handler {
	return &handler{journal: j, out: out, redact: redact}
}

// Enabled asks the handler to which records are passed on.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.out.Enabled(ctx, level)
}

// Handle keeps a record and passes it on.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	kept := Record{Time: r.Time, Level: r.Level, Message: cut(r.Message), Attrs: slices.Clone(h.attrs)}
	r.Attrs(func(a slog.Attr) bool {
		kept.Attrs = appendAttr(kept.Attrs, h.prefix, a)
		return true
	})
	h.journal.add(kept)
	if !h.redact {
		return h.out.Handle(ctx, r)
	}
	outside := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		outside.AddAttrs(inspect.RedactAttr(a))
		return true
	})
	return h.out.Handle(ctx, outside)
}

// WithAttrs returns a handler with attributes for every record.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = slices.Clone(h.attrs)
	outside := slices.Clone(attrs)
	for i, a := range attrs {
		with.attrs = appendAttr(with.attrs, h.prefix, a)
		if h.redact {
			outside[i] = inspect.RedactAttr(a)
		}
	}
	with.out = h.out.WithAttrs(outside)
	return &with
}

// WithGroup returns a handler whose further attributes are those of a group.
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.prefix += name + "."
	with.out = h.out.WithGroup(name)
	return &with
}

// appendAttr appends an attribute, or those of a group.
func appendAttr(attrs []Attr, prefix string, a slog.Attr) []Attr {
	sensitivity := inspect.SensitivityOf(a)
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, below := range value.Group() {
			attrs = appendAttr(attrs, prefix, below)
		}
		return attrs
	}
	if len(attrs) == maxAttrs || a.Equal(slog.Attr{}) {
		return attrs
	}
	return append(attrs, Attr{Key: cut(prefix + a.Key), Value: cut(value.String()), Sensitivity: sensitivity})
}

// cut bounds a text.
func cut(s string) string { return s[:min(len(s), maxText)] }
