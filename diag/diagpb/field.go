package diagpb

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"keel/diag/inspect"
)

// ErrField says that a Field does not make sense.
var ErrField = errors.New("malformed field")

// Bounds of ToField. A name has no slash: those separate names in a path.
const (
	maxLevels = 64
	maxFields = 1 << 16
	maxText   = 4 << 10 // bytes
)

// FromField returns a field of the tree as a message.
func FromField(f *inspect.Field) *Field {
	m := &Field{}
	fromField(m, f)
	return m
}

func fromField(m *Field, f *inspect.Field) {
	m.Name, m.Doc, m.Unit, m.Sensitivity = valid(f.Name), valid(f.Doc), valid(string(f.Unit)), FromSensitivity(f.Sensitivity)
	switch v := f.Value.(type) {
	case uint64:
		m.Value = &Field_Number{v}
	case string:
		m.Value = &Field_Text{valid(v)}
	case bool:
		m.Value = &Field_Truth{v}
	case inspect.Histogram:
		m.Value = &Field_Histogram{&Histogram{Bounds: v.Bounds, Counts: v.Counts}}
	default:
		n := &Node{Closed: f.Fields == nil, Withheld: f.Withheld}
		below := make([]Field, len(f.Fields))
		n.Fields = make([]*Field, len(f.Fields))
		for i := range f.Fields {
			n.Fields[i] = &below[i]
			fromField(n.Fields[i], &f.Fields[i])
		}
		m.Value = &Field_Node{n}
	}
}

// AtMost returns a bound of the size that a field has as a message, in bytes. To know it
// costs less than the size.
func AtMost(f *inspect.Field) int {
	const tags = 64 // of all fields of a message, with their lengths and numbers
	n := tags + len(f.Name) + len(f.Doc) + len(f.Unit)
	switch v := f.Value.(type) {
	case string:
		n += len(v) // "?" takes the place of one byte or more
	case inspect.Histogram:
		n += 10 * (len(v.Bounds) + len(v.Counts))
	}
	for i := range f.Fields {
		n += AtMost(&f.Fields[i])
	}
	return n
}

// FromSensitivity returns a sensitivity as messages have it.
func FromSensitivity(s inspect.Sensitivity) Sensitivity {
	if s == inspect.Public {
		return Sensitivity_SENSITIVITY_PUBLIC
	}
	return Sensitivity_SENSITIVITY_PRIVATE
}

// ToSensitivity is the inverse. What is not marked is private.
func ToSensitivity(s Sensitivity) inspect.Sensitivity {
	if s == Sensitivity_SENSITIVITY_PUBLIC {
		return inspect.Public
	}
	return inspect.Private
}

// valid makes a string one that protobuf takes.
func valid(s string) string { return strings.ToValidUTF8(s, "?") }

// ToField is the inverse of FromField, for messages of a VM, which is not trusted: the
// number of fields and levels is bounded, and texts are made printable and cut to 4 KiB.
// The error is ErrField.
func ToField(m *Field) (inspect.Field, error) {
	left := maxFields
	return toField(m, maxLevels, &left)
}

func toField(m *Field, levels int, left *int) (inspect.Field, error) {
	if *left--; *left < 0 || levels == 0 {
		return inspect.Field{}, fmt.Errorf("%w: too many of them", ErrField)
	}
	f := inspect.Field{
		Name: Printable(m.GetName()), Doc: Printable(m.GetDoc()), Unit: inspect.Unit(Printable(m.GetUnit())),
		Sensitivity: ToSensitivity(m.GetSensitivity()),
	}
	switch v := m.GetValue().(type) {
	case *Field_Number:
		f.Value = v.Number
	case *Field_Text:
		f.Value = Printable(v.Text)
	case *Field_Truth:
		f.Value = v.Truth
	case *Field_Histogram:
		h := inspect.Histogram{Bounds: v.Histogram.GetBounds(), Counts: v.Histogram.GetCounts()}
		if len(h.Counts) != len(h.Bounds)+1 {
			return f, fmt.Errorf("%w: %d counts between %d bounds", ErrField, len(h.Counts), len(h.Bounds))
		}
		f.Value = h
	case *Field_Node:
		f.Withheld = v.Node.GetWithheld()
		if v.Node.GetClosed() {
			return f, nil
		}
		f.Fields = make([]inspect.Field, 0, len(v.Node.GetFields()))
		for _, below := range v.Node.GetFields() {
			b, err := toField(below, levels-1, left)
			if err == nil && (b.Name == "" || strings.Contains(b.Name, "/")) {
				err = fmt.Errorf("%w: the name %q", ErrField, b.Name)
			}
			if err != nil {
				return f, err
			}
			f.Fields = append(f.Fields, b)
		}
	default:
		return f, fmt.Errorf("%w: %q has no value that is known here", ErrField, f.Name)
	}
	return f, nil
}

// Printable makes a text of a VM one line that does a terminal no harm, and cuts it to
// 4 KiB.
func Printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, valid(s))
}
