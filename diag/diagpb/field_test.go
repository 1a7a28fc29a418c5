package diagpb

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keel/diag/inspect"
)

func TestToField(t *testing.T) {
	number := func(name string) *Field { return &Field{Name: name, Value: &Field_Number{7}} }
	node := func(below ...*Field) *Field { return &Field{Value: &Field_Node{&Node{Fields: below}}} }
	deep := number("x")
	for range maxLevels {
		deep = node(deep)
		deep.Name = "n"
	}
	wide := make([]*Field, maxFields)
	for i := range wide {
		wide[i] = number("x")
	}
	for name, bad := range map[string]*Field{
		"nothing": nil, "no value": {Name: "x"}, "no name": node(number("")), "a slash": node(number("a/b")),
		"deep": deep, "wide": node(wide...), "histogram": {Value: &Field_Histogram{&Histogram{Counts: []uint64{1, 2}}}},
	} {
		if f, err := ToField(bad); !errors.Is(err, ErrField) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	f, err := ToField(&Field{Name: "a\nb", Doc: strings.Repeat("é", maxText), Value: &Field_Text{"\x1b]0;\u202e"}})
	if err != nil || f.Name != "a?b" || f.Value != "?]0;?" || len(f.Doc) > maxText+2 {
		t.Errorf("%+v, %v", f, err)
	}
	if f.Sensitivity != inspect.Private {
		t.Error("what is not marked is not private")
	}
}

// FuzzField turns messages into fields and back.
func FuzzField(f *testing.F) {
	b, _ := proto.Marshal(&Field{Name: "n", Value: &Field_Node{Node: &Node{Fields: []*Field{{Name: "x", Value: &Field_Number{Number: 1}}}}}})
	f.Add(b)
	f.Add(largest())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Field
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		field, err := ToField(&m)
		if err != nil {
			return
		}
		sent, _ := Answer(&field, true)
		raw, err := proto.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		var got InspectResponse
		if err := proto.Unmarshal(raw, &got); err != nil || !got.GetConfidential() || len(got.ProtoReflect().GetUnknown()) > 0 {
			t.Fatalf("%v, %v", &got, err)
		}
		again, err := ToField(got.GetField())
		if err != nil || !reflect.DeepEqual(again, field) {
			t.Errorf("%+v, %+v, %v", field, again, err)
		}
	})
}

// largest is a message that has everything, with numbers that take the most bytes.
func largest() []byte {
	most := make([]uint64, 10)
	for i := range most {
		most[i] = ^uint64(0)
	}
	h := &Histogram{Bounds: most, Counts: append(most, most[0])}
	fields := []*Field{
		{Name: "h", Unit: "us", Sensitivity: Sensitivity_SENSITIVITY_PUBLIC, Value: &Field_Histogram{Histogram: h}},
		{Name: "t", Value: &Field_Text{Text: strings.Repeat("t", 4000)}},
		{Name: "n", Value: &Field_Number{Number: most[0]}},
		{Name: "b", Value: &Field_Truth{Truth: true}},
	}
	b, _ := proto.Marshal(&Field{Name: "r", Doc: strings.Repeat("d", 4000), Value: &Field_Node{Node: &Node{Fields: fields, Withheld: true}}})
	return b
}
