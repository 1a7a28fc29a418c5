// Package metrics writes the state tree as OpenMetrics text (OpenMetrics 1.0, RFC draft
// openmetrics-00).
//
// A field becomes the metric keel_PATH, with its unit at the end: microseconds become
// seconds. Numbers that only grow are counters, others gauges, truth values gauges of 0
// and 1, texts infos with the label value. Where the fields of a node are alike, their
// names are the values of a label.
package metrics

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"keel/diag/inspect"
)

// ContentType is the media type of what Text returns.
const ContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// prefix begins the name of every metric.
const prefix = "keel"

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
	samples                strings.Builder
}

// exposition collects the metrics of a tree: those of one name stand together.
type exposition struct {
	families []*family
	byName   map[string]*family
}

// Text returns the metrics of a tree.
func Text(root *inspect.Field) string {
	e := exposition{byName: map[string]*family{}}
	e.node(root, prefix, nil)
	var out strings.Builder
	for _, f := range e.families {
		fmt.Fprintf(&out, "# TYPE %s %s\n", f.name, f.kind)
		if f.unit != "" {
			fmt.Fprintf(&out, "# UNIT %s %s\n", f.name, f.unit)
		}
		fmt.Fprintf(&out, "# HELP %s %s\n%s", f.name, escape(f.help), f.samples.String())
	}
	out.WriteString("# EOF\n")
	return out.String()
}

// node adds what is beneath a node. labels are "name=value" pairs as they are written.
func (e *exposition) node(n *inspect.Field, name string, labels []string) {
	for i := range n.Fields {
		f := &n.Fields[i]
		below, with := name+"_"+word(f.Name), labels
		if n.Key != "" {
			below, with = name, append(slices.Clip(labels), label(n.Key, f.Name))
		}
		switch f.Value.(type) {
		case nil:
			e.node(f, below, with)
		default:
			e.field(f, below, with)
		}
	}
}

// field adds one field.
func (e *exposition) field(f *inspect.Field, name string, labels []string) {
	switch v := f.Value.(type) {
	case uint64:
		kind, suffix := kindCounter, "_total"
		if f.Gauge {
			kind, suffix = kindGauge, ""
		}
		e.of(f, name, kind, f.Unit).add(suffix, labels, number(v, f.Unit))
	case bool:
		n := "0"
		if v {
			n = "1"
		}
		e.of(f, name, kindGauge, "").add("", labels, n)
	case string:
		e.of(f, name, kindInfo, "").add("_info", append(slices.Clip(labels), label("value", v)), "1")
	case inspect.Histogram:
		m := e.of(f, name, kindHistogram, f.Unit)
		sum := uint64(0)
		for i, n := range v.Counts {
			sum += n
			bound := "+Inf"
			if i < len(v.Bounds) {
				bound = number(v.Bounds[i], f.Unit)
			}
			m.add("_bucket", append(slices.Clip(labels), label("le", bound)), strconv.FormatUint(sum, 10))
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
func (f *family) add(suffix string, labels []string, value string) {
	f.samples.WriteString(f.name + suffix)
	if len(labels) > 0 {
		f.samples.WriteString("{" + strings.Join(labels, ",") + "}")
	}
	f.samples.WriteString(" " + value + "\n")
}

// number returns a number in the base unit.
func number(v uint64, unit inspect.Unit) string {
	if unit != inspect.Microseconds {
		return strconv.FormatUint(v, 10)
	}
	s := fmt.Sprintf("%d.%06d", v/1e6, v%1e6)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// label returns a label as it is written.
func label(name, value string) string { return word(name) + `="` + escape(value) + `"` }

// special are the characters that stand for others in labels and texts.
var special = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// escape returns a text as a label's value or a help text has it. What does a terminal
// harm is replaced.
func escape(s string) string {
	s = special.Replace(strings.ToValidUTF8(s, "?"))
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// word makes a name one of letters, digits and underscores.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
