package server

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keel/diag/diagpb"
)

// methods are those of the schema, as rules names them.
func methods() map[string]protoreflect.MethodDescriptor {
	names := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage(diagpb.File_diag_proto.Package(), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				names[string(service.Name())+"/"+string(m.Name())] = m
			}
		}
		return true
	})
	return names
}

// TestRules: every method of the schema has a rule, and every rule a method. Only unary
// calls are signed, and only streams of data are sealed.
func TestRules(t *testing.T) {
	methods := methods()
	for name, m := range methods {
		a := rules[name]
		switch {
		case a.rule == "":
			t.Errorf("%s has no rule", name)
		case m.IsStreamingClient():
			t.Errorf("%s takes a stream", name)
		case a.owner != nobody && a.confidential:
			t.Errorf("%s needs its owner, or does not", name)
		case a.owner == signed && m.IsStreamingServer():
			t.Errorf("%s is a stream: it cannot be signed", name)
		case a.owner == sealed && !carries(t, m):
			t.Errorf("%s is no stream of a file: it cannot be sealed", name)
		}
	}
	for name := range rules {
		if methods[name] == nil {
			t.Errorf("%s is no method", name)
		}
	}
}

// carries tells whether a method streams messages that can be sealed.
func carries(t *testing.T, m protoreflect.MethodDescriptor) bool {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		t.Fatal(err)
	}
	one := kind.New().Interface()
	_, ok := pieceOf(one)
	return ok && m.IsStreamingServer() && proto.MessageName(carry(one, []byte("x"), "")) == m.Output().FullName()
}

// TestCheck: what a rule does not allow is refused by its name and counted, and an owner
// makes a difference for confidential guests only.
func TestCheck(t *testing.T) {
	for name, a := range map[string]access{
		"Test/Private": {rule: "private", release: true},
		"Test/Debug":   {rule: "debug", confidential: true},
		"Test/Signed":  {rule: "signed", release: true, owner: signed},
		"Test/Sealed":  {rule: "sealed", release: true, owner: sealed},
		"Test/Shell":   {rule: "shell", owner: signed},
	} {
		rules[name] = a
		defer delete(rules, name)
	}
	_, keys, _, _ := ownersKeys(t)
	const nobodys = ": the guest is confidential, and the image names no owner for that"
	for _, c := range []struct {
		method                     string
		confidential, debug, owned bool
		need                       ownership
		want                       string
	}{
		{"Test/Private", false, false, false, nobody, ""},
		{"Test/Private", true, true, true, nobody, "rule private refuses Test/Private: the guest is confidential"},
		{"Test/Debug", true, true, false, nobody, ""},
		{"Test/Debug", false, false, true, nobody, "rule debug refuses Test/Debug: the image is not for debugging"},
		{"Test/Unlisted", false, true, true, nobody, "rule unlisted refuses Test/Unlisted: no rule allows it"},
		{"Test/Signed", false, false, false, nobody, ""},
		{"Test/Signed", false, false, true, nobody, ""},
		{"Test/Signed", true, false, true, signed, ""},
		{"Test/Signed", true, false, false, nobody, "rule signed refuses Test/Signed" + nobodys},
		{"Test/Sealed", false, false, true, nobody, ""},
		{"Test/Sealed", true, false, true, sealed, ""},
		{"Test/Sealed", true, false, false, nobody, "rule sealed refuses Test/Sealed" + nobodys},
		{"Test/Shell", true, false, true, nobody, "rule shell refuses Test/Shell: the image is not for debugging"},
		{"Test/Shell", true, true, true, signed, ""},
	} {
		s := &Server{config: Config{Confidential: c.confidential, Debug: c.debug}}
		if c.owned {
			s.config.Owner = keys
		}
		need, err := s.check("/keel.diag.v1." + c.method)
		switch {
		case need != c.need:
			t.Errorf("%+v: needs %v", c, need)
		case c.want == "" && err == nil:
		case status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != c.want:
			t.Errorf("%+v: %v", c, err)
		case s.Stats().Denied != 1:
			t.Errorf("%+v: not counted", c)
		}
	}
}
