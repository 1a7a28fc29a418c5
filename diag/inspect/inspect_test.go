package inspect

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

// part is a node with a node beneath it, which counts who looks.
type part struct{ looks *int }

func (p part) Inspect(f *Fields) {
	f.Uint("commands", Public, Count, 7, "commands taken")
	f.Text("secret", Private, "the guest's", "what the guest said")
	f.Bool("alive", Public, true, "whether it runs")
	f.Histogram("latency", Public, Microseconds, Histogram{[]uint64{10, 100}, []uint64{1, 2, 3}}, "of a command")
	f.Node("below", leaf(p), "a part of the part")
}

type leaf struct{ looks *int }

func (l leaf) Inspect(f *Fields) {
	*l.looks++
	f.Uint("depth", Private, Bytes, 2, "how deep it lies")
	f.Uint("unmarked", 0, Count, 1, "a field that nobody has marked")
	f.Uint("width", Public, Bytes, 3, "how wide it is")
}

type top struct{ looks int }

func (t *top) Inspect(f *Fields) {
	f.Node("part", part{&t.looks}, "a part")
	f.Node("other", leaf{&t.looks}, "another")
}

func plain(t *testing.T, root Node, path string, depth int, s Sensitivity) string {
	t.Helper()
	f, err := Look(root, path, depth)
	if err != nil {
		t.Fatal(path, err)
	}
	v, ok := f.Plain(s)
	if !ok {
		return "hidden"
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLook(t *testing.T) {
	const (
		public = `{"alive":true,"below":{"width":3},"commands":7,"latency":{"bounds":[10,100],"counts":[1,2,3],"unit":"us"}}`
		all    = `{"depth":2,"unmarked":1,"width":3}`
	)
	tests := []struct {
		path  string
		depth int
		s     Sensitivity
		want  string
		looks int // into leaves
	}{
		{"", 9, Public, `{"other":{"width":3},"part":` + public + `}`, 2},
		{"", 0, Public, `{"other":{},"part":{}}`, 0},
		{"", 1, Public, `{"other":{"width":3},"part":{"alive":true,"below":{},"commands":7,"latency":{"bounds":[10,100],"counts":[1,2,3],"unit":"us"}}}`, 1},
		{"part", 9, Public, public, 1},
		{"/part/", 1, Public, `{"alive":true,"below":{},"commands":7,"latency":{"bounds":[10,100],"counts":[1,2,3],"unit":"us"}}`, 0},
		{"part/below", 1, Private, all, 1},
		{"part/below/depth", 1, Private, "2", 1},
		{"part/below/depth", 1, Public, "hidden", 1},
		{"part/below/unmarked", 1, Public, "hidden", 1},
		{"part/commands", 1, Public, "7", 0},
		{"part/secret", 1, Private, `"the guest's"`, 0},
		{"other", 1, Private, all, 1},
	}
	for _, tt := range tests {
		root := &top{}
		if got := plain(t, root, tt.path, tt.depth, tt.s); got != tt.want {
			t.Errorf("%q, depth %d: %s, want %s", tt.path, tt.depth, got, tt.want)
		}
		if root.looks != tt.looks {
			t.Errorf("%q, depth %d: looked into %d leaves, want %d", tt.path, tt.depth, root.looks, tt.looks)
		}
	}
}

func TestLookNowhere(t *testing.T) {
	for _, path := range []string{"none", "part/none", "part/commands/none", "part/below/depth/none", "part//below", "other/below"} {
		if f, err := Look(&top{}, path, 9); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %+v, %v", path, f, err)
		}
	}
}

func TestRedact(t *testing.T) {
	root := Field{Fields: []Field{
		{Name: "secret", Value: "s"},
		{Name: "count", Sensitivity: Public, Value: uint64(1)},
		{Name: "part", Sensitivity: Public, Fields: []Field{{Name: "secret", Value: "s"}}},
		{Name: "closed", Sensitivity: Public},
	}, Sensitivity: Public}
	all, ok := root.Redact(Private)
	if !ok || !reflect.DeepEqual(all, root) {
		t.Errorf("%+v", all)
	}
	some, ok := root.Redact(Public)
	want := Field{Sensitivity: Public, Withheld: true, Fields: []Field{
		root.Fields[1],
		{Name: "part", Sensitivity: Public, Withheld: true, Fields: []Field{}},
		{Name: "closed", Sensitivity: Public},
	}}
	if !ok || !reflect.DeepEqual(some, want) {
		t.Errorf("%+v", some)
	}
	if f, ok := root.Fields[0].Redact(Public); ok || !reflect.DeepEqual(f, Field{}) {
		t.Errorf("%+v", f)
	}
}
