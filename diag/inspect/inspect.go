// Package inspect is the live tree of what Keel's parts know about themselves: each part
// is a Node, which writes its fields when somebody looks. Nobody pays for it before.
//
// A path names a field: the names of the nodes from the root to it, with slashes between.
package inspect

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPath says that a path names nothing.
var ErrPath = errors.New("no such field")

// Node is a part that can be looked into. Inspect may be called at any time, from any
// goroutine, while the part is at work; it does not wait for a VP or a device.
type Node interface {
	Inspect(f *Fields)
}

// Sensitivity says who may see a field of a confidential machine. What is not marked is
// Private.
type Sensitivity uint8

// The sensitivities.
const (
	// Private fields tell of the guest's data. They stay inside.
	Private Sensitivity = iota
	// Public fields tell the host nothing that it could not count itself, or that it
	// may know.
	Public
)

// Unit is what a number counts.
type Unit string

// The units.
const (
	Count        Unit = "count"
	Bytes        Unit = "bytes"
	Microseconds Unit = "us"
)

// Field is what a node has written: a value, or the fields of a node beneath it.
type Field struct {
	Name        string
	Doc         string // one line
	Sensitivity Sensitivity
	Unit        Unit    // of a number or histogram
	Gauge       bool    // of a number: it may fall; others count up from the start of Keel
	Key         string  // of a node whose fields are alike: what they are named after
	Value       any     // uint64, string, bool or Histogram; nil for a node
	Fields      []Field // of a node; nil where it was not looked into
	Withheld    bool    // of a node: Redact has left fields of it out
}

// Histogram is how often a value fell between bounds.
type Histogram struct {
	Bounds []uint64 // the greatest value of each bucket but the last, ascending
	Counts []uint64 // of each bucket, one more than there are bounds
}

// Fields takes the fields of a node.
type Fields struct {
	list []Field
	path []string // what is wanted beneath, empty for everything
	deep int      // levels of nodes to look into
}

// wanted tells whether the path leads through a name.
func (f *Fields) wanted(name string) bool { return len(f.path) == 0 || f.path[0] == name }

func (f *Fields) add(field Field) {
	if f.wanted(field.Name) && len(f.path) < 2 {
		f.list = append(f.list, field)
	}
}

// Uint adds a number that only ever grows.
func (f *Fields) Uint(name string, s Sensitivity, unit Unit, v uint64, doc string) {
	f.add(Field{Name: name, Doc: doc, Sensitivity: s, Unit: unit, Value: v})
}

// Gauge adds a number that grows and falls.
func (f *Fields) Gauge(name string, s Sensitivity, unit Unit, v uint64, doc string) {
	f.add(Field{Name: name, Doc: doc, Sensitivity: s, Unit: unit, Value: v, Gauge: true})
}

// Text adds a text.
func (f *Fields) Text(name string, s Sensitivity, v, doc string) {
	f.add(Field{Name: name, Doc: doc, Sensitivity: s, Value: v})
}

// Bool adds a truth value.
func (f *Fields) Bool(name string, s Sensitivity, v bool, doc string) {
	f.add(Field{Name: name, Doc: doc, Sensitivity: s, Value: v})
}

// Histogram adds a histogram, which from here on belongs to the tree.
func (f *Fields) Histogram(name string, s Sensitivity, unit Unit, v Histogram, doc string) {
	f.add(Field{Name: name, Doc: doc, Sensitivity: s, Unit: unit, Value: v})
}

// Node adds a node. It is looked into if the path leads there and the depth allows it.
func (f *Fields) Node(name string, n Node, doc string) { f.Each(name, "", n, doc) }

// someFields is how many fields a node has for which there is room at once.
const someFields = 16

// Each adds a node as Node does, whose fields are alike: there is one for each key, and
// named after it, as exits are by their kind.
func (f *Fields) Each(name, key string, n Node, doc string) {
	if !f.wanted(name) {
		return
	}
	below := Fields{deep: f.deep}
	if len(f.path) > 0 {
		below.path = f.path[1:]
	}
	field := Field{Name: name, Doc: doc, Sensitivity: Public, Key: key}
	if len(below.path) == 0 {
		below.deep--
	}
	if below.deep >= 0 {
		below.list = make([]Field, 0, someFields)
		n.Inspect(&below)
		field.Fields = below.list
	}
	f.list = append(f.list, field)
}

// Look looks at the field that a path names, and at the nodes beneath it, depth levels
// down. An empty path names the root. The error wraps ErrPath.
func Look(root Node, path string, depth int) (Field, error) {
	f := Fields{deep: depth}
	if path = strings.Trim(path, "/"); path != "" {
		f.path = strings.Split(path, "/")
	}
	root.Inspect(&f)
	if len(f.path) == 0 {
		return Field{Sensitivity: Public, Fields: append([]Field{}, f.list...)}, nil
	}
	found := Field{Fields: f.list}
	for range f.path {
		if len(found.Fields) == 0 {
			return Field{}, fmt.Errorf("%w: %q", ErrPath, path)
		}
		found = found.Fields[0]
	}
	return found, nil
}

// Redact returns a field with what has the sensitivity or a lower one, and whether there
// is anything. Fields that may not be seen are left out, name and all: there are nodes
// whose fields are named after what the guest does.
func (f *Field) Redact(s Sensitivity) (Field, bool) {
	if f.Sensitivity < s {
		return Field{}, false
	}
	out := *f
	if f.Fields != nil {
		out.Fields = make([]Field, 0, len(f.Fields))
	}
	for i := range f.Fields {
		if below, ok := f.Fields[i].Redact(s); ok {
			out.Fields = append(out.Fields, below)
		} else {
			out.Withheld = true
		}
	}
	return out, true
}

// Plain returns a field as JSON has it, with what has the sensitivity or a lower one, and
// whether there is anything: numbers, texts and truth values as they are, a node as a map
// by name, a histogram as a map of its unit, bounds and counts.
func (f *Field) Plain(s Sensitivity) (v any, ok bool) {
	if f.Sensitivity < s {
		return nil, false
	}
	switch v := f.Value.(type) {
	case nil:
		fields := make(map[string]any, len(f.Fields))
		for i := range f.Fields {
			if v, ok := f.Fields[i].Plain(s); ok {
				fields[f.Fields[i].Name] = v
			}
		}
		return fields, true
	case Histogram:
		return map[string]any{"unit": f.Unit, "bounds": v.Bounds, "counts": v.Counts}, true
	default:
		return v, true
	}
}
