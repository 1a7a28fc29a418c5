// Package metrics writes the state tree as OpenMetrics text (OpenMetrics 1.0, RFC draft
// openmetrics-00).
//
// A field becomes the metric keel_PATH, with its unit at the end: microseconds become
// seconds. Numbers that only grow are counters, others gauges, truth values gauges of 0
// and 1, texts infos with the label value. Where the fields of a node are alike, their
// names are the values of a label.
package metrics

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"

	"keel/diag/inspect"
)

// ContentType is the media type of what Text returns.
const ContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// prefix begins the name of every metric.
const prefix = "keel"

// usualHead is for how many bytes of lines before the samples there is room at once.
const usualHead = 256

// Kinds of metrics.
const (
	kindCounter   = "counter"
	kindGauge     = "gauge"
	kindHistogram = "histogram"
	kindInfo      = "info"
)

// family are the samples of one metric.
type family struct {
	name, kind, unit, help string
	samples                []byte
}

// exposition collects the metrics of a tree: those of one name stand together.
type exposition struct {
	families []*family
	byName   map[string]*family
}

// Text returns the metrics of a tree.
func Text(root *inspect.Field) string {
	e := exposition{byName: map[string]*family{}}
	e.node(root, prefix, "")
	size := 0
	for _, f := range e.families {
		size += len(f.samples) + usualHead
	}
	out := make([]byte, 0, size)
	for _, f := range e.families {
		out = append(out, "# TYPE "+f.name+" "+f.kind+"\n"...)
		if f.unit != "" {
			out = append(out, "# UNIT "+f.name+" "+f.unit+"\n"...)
		}
		out = append(out, "# HELP "+f.name+" "+escape(f.help)+"\n"...)
		out = append(out, f.samples...)
	}
	return string(append(out, "# EOF\n"...))
}

// node adds what is beneath a node. labels are "name=value" pairs as they are written,
// with commas between them.
func (e *exposition) node(n *inspect.Field, name, labels string) {
	for i := range n.Fields {
		f := &n.Fields[i]
		below, with := name+"_"+word(f.Name), labels
		if n.Key != "" {
			below, with = name, also(labels, n.Key, f.Name)
		}
		if f.Value == nil {
			e.node(f, below, with)
		} else {
			e.field(f, below, with)
		}
	}
}

// field adds one field.
func (e *exposition) field(f *inspect.Field, name, labels string) {
	switch v := f.Value.(type) {
	case uint64:
		kind, suffix := kindCounter, "_total"
		if f.Gauge {
			kind, suffix = kindGauge, ""
		}
		e.of(f, name, kind, f.Unit).add(suffix, labels, v, f.Unit)
	case bool:
		n := uint64(0)
		if v {
			n = 1
		}
		e.of(f, name, kindGauge, "").add("", labels, n, inspect.Count)
	case string:
		e.of(f, name, kindInfo, "").add("_info", also(labels, "value", v), 1, inspect.Count)
	case inspect.Histogram:
		m := e.of(f, name, kindHistogram, f.Unit)
		sum := uint64(0)
		for i, n := range v.Counts {
			sum += n
			bound := "+Inf"
			if i < len(v.Bounds) {
				bound = string(number(nil, v.Bounds[i], f.Unit))
			}
			m.add("_bucket", also(labels, "le", bound), sum, inspect.Count)
		}
	}
}

// of returns the family of a field.
func (e *exposition) of(f *inspect.Field, name, kind string, unit inspect.Unit) *family {
	base := ""
	switch unit {
	case inspect.Microseconds:
		base = "seconds"
	case inspect.Bytes:
		base = "bytes"
	default: // a number has no unit
	}
	if base != "" && !strings.HasSuffix(name, "_"+base) {
		name += "_" + base
	}
	m := e.byName[name]
	if m == nil {
		m = &family{name: name, kind: kind, unit: base, help: f.Doc}
		e.byName[name] = m
		e.families = append(e.families, m)
	}
	return m
}

// add adds a sample.
func (f *family) add(suffix, labels string, v uint64, unit inspect.Unit) {
	f.samples = append(append(f.samples, f.name...), suffix...)
	if labels != "" {
		f.samples = append(append(append(f.samples, '{'), labels...), '}')
	}
	f.samples = append(number(append(f.samples, ' '), v, unit), '\n')
}

// number appends a number in the base unit.
func number(to []byte, v uint64, unit inspect.Unit) []byte {
	if unit != inspect.Microseconds {
		return strconv.AppendUint(to, v, 10)
	}
	to = strconv.AppendUint(to, v/1e6, 10)
	if v %= 1e6; v == 0 {
		return to
	}
	to = strconv.AppendUint(to, 1e6+v, 10) // a digit too many, where the point belongs
	to[len(to)-7] = '.'
	return bytes.TrimRight(to, "0")
}

// also adds a label to others.
func also(labels, name, value string) string {
	if labels != "" {
		labels += ","
	}
	return labels + word(name) + `="` + escape(value) + `"`
}

// special are the characters that stand for others in labels and texts.
var special = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// escape returns a text as a label's value or a help text has it. What does a terminal
// harm is replaced.
func escape(s string) string {
	plain := func(r rune) bool { return r >= ' ' && r <= '~' && r != '\\' && r != '"' }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, special.Replace(strings.ToValidUTF8(s, "?")))
}

// word makes a name one of letters, digits and underscores.
func word(s string) string {
	fits := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
	}
	if strings.IndexFunc(s, func(r rune) bool { return !fits(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if fits(r) {
			return r
		}
		return '_'
	}, s)
}
