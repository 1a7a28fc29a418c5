package inspect

import "log/slog"

// Private values of a log line stay inside, too.

// withheld is what a private value of a log line is outside of a confidential machine.
const withheld = "(private)"

// marked is a value of a log line that is public.
type marked struct{ slog.Value }

// LogValue makes it a value like any other for who logs it.
func (m marked) LogValue() slog.Value { return m.Value }

// PublicAttr is an attribute of a log line that is public as a field may be. Those that
// are made in any other way are private.
func PublicAttr(key string, value any) slog.Attr {
	return slog.Any(key, marked{slog.AnyValue(value)})
}

// SensitivityOf tells whether an attribute of a log line was made with PublicAttr.
func SensitivityOf(a slog.Attr) Sensitivity {
	if _, ok := a.Value.Any().(marked); ok {
		return Public
	}
	return Private
}

// RedactAttr returns an attribute with its value if that is public. Groups are looked
// into.
func RedactAttr(a slog.Attr) slog.Attr {
	switch {
	case a.Value.Kind() == slog.KindGroup:
		var group []slog.Attr
		for _, below := range a.Value.Group() {
			group = append(group, RedactAttr(below))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case SensitivityOf(a) == Public:
		return a
	}
	return slog.String(a.Key, withheld)
}
