package diagpb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"

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

// Numbers of the fields of messages (diag.proto).
const (
	numField       protowire.Number = 1 // of InspectResponse
	numName        protowire.Number = 1 // of Field
	numDoc         protowire.Number = 2
	numSensitivity protowire.Number = 3
	numUnit        protowire.Number = 4
	numNumber      protowire.Number = 5
	numText        protowire.Number = 6
	numTruth       protowire.Number = 7
	numHistogram   protowire.Number = 8
	numNode        protowire.Number = 9
	numFields      protowire.Number = 1 // of Node
	numClosed      protowire.Number = 2
	numWithheld    protowire.Number = 3
	numBounds      protowire.Number = 1 // of Histogram
	numCounts      protowire.Number = 2
)

// usualField is for how many bytes of a field there is room at once.
const usualField = 64

// Answer makes an answer of a field of the tree, and says how many bytes that takes. The
// field is encoded here, by hand: a tree has some hundred, and as messages they cost some
// ten times what it costs to look at them, of which the guest would feel that it has the
// same processors.
func Answer(f *inspect.Field, confidential bool) (*InspectResponse, int) {
	b := appendField(make([]byte, 0, usualField*count(f)), numField, f)
	m := &InspectResponse{Confidential: confidential}
	m.ProtoReflect().SetUnknown(b)
	return m, len(b)
}

// count returns how many fields there are.
func count(f *inspect.Field) int {
	n := 1
	for i := range f.Fields {
		n += count(&f.Fields[i])
	}
	return n
}

// appendField appends a field of the tree as a field of a message, which is a message of
// its own.
func appendField(b []byte, num protowire.Number, f *inspect.Field) []byte {
	b, at := begin(b, num)
	b = appendText(b, numName, f.Name)
	b = appendText(b, numDoc, f.Doc)
	b = appendNumber(b, numSensitivity, uint64(FromSensitivity(f.Sensitivity)))
	b = appendText(b, numUnit, string(f.Unit))
	switch v := f.Value.(type) {
	case uint64:
		b = appendNumber(b, numNumber, v)
	case string:
		b = appendText(b, numText, v)
	case bool:
		b = appendNumber(b, numTruth, protowire.EncodeBool(v))
	case inspect.Histogram:
		var h int
		b, h = begin(b, numHistogram)
		b = appendNumbers(b, numBounds, v.Bounds)
		b = appendNumbers(b, numCounts, v.Counts)
		b = end(b, h)
	default:
		var n int
		b, n = begin(b, numNode)
		for i := range f.Fields {
			b = appendField(b, numFields, &f.Fields[i])
		}
		b = appendNumber(b, numClosed, protowire.EncodeBool(f.Fields == nil))
		b = appendNumber(b, numWithheld, protowire.EncodeBool(f.Withheld))
		b = end(b, n)
	}
	return end(b, at)
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), valid(s))
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendNumbers(b []byte, num protowire.Number, list []uint64) []byte {
	b, at := begin(b, num)
	for _, v := range list {
		b = protowire.AppendVarint(b, v)
	}
	return end(b, at)
}

// begin begins a field whose length is known when it ends, and returns where.
func begin(b []byte, num protowire.Number) (_ []byte, at int) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return b, len(b)
}

// end puts the length before a field that began at a place.
func end(b []byte, at int) []byte {
	n := len(b) - at
	var length [binary.MaxVarintLen64]byte
	return slices.Insert(b, at, protowire.AppendVarint(length[:0], uint64(n))...)
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

// ToField is the inverse of Answer's, for messages of a VM, which is not trusted: the
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
