package server

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keel/diag/diagpb"
)

// methods are those of the schema, as rules names them.
func methods() map[string]bool {
	names := map[string]bool{}
	protoregistry.GlobalFiles.RangeFilesByPackage(diagpb.File_diag_proto.Package(), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				names[string(service.Name())+"/"+string(service.Methods().Get(j).Name())] = true
			}
		}
		return true
	})
	return names
}

// TestRules: every method of the schema has a rule, and every rule a method.
func TestRules(t *testing.T) {
	methods := methods()
	for name := range methods {
		if rules[name].rule == "" {
			t.Errorf("%s has no rule", name)
		}
	}
	for name := range rules {
		if !methods[name] {
			t.Errorf("%s is no method", name)
		}
	}
}

// TestCheck: what a rule does not allow is refused by its name and counted.
func TestCheck(t *testing.T) {
	rules["Test/Private"] = access{rule: "private", release: true}
	rules["Test/Debug"] = access{rule: "debug", confidential: true}
	defer delete(rules, "Test/Private")
	defer delete(rules, "Test/Debug")
	for _, c := range []struct {
		method              string
		confidential, debug bool
		want                string
	}{
		{"Test/Private", false, false, ""},
		{"Test/Private", true, true, "rule private refuses Test/Private: the guest is confidential"},
		{"Test/Debug", true, true, ""},
		{"Test/Debug", false, false, "rule debug refuses Test/Debug: the image is not for debugging"},
		{"Test/Unlisted", false, true, "rule unlisted refuses Test/Unlisted: no rule allows it"},
	} {
		s := &Server{config: Config{Confidential: c.confidential, Debug: c.debug}}
		err := s.check("/keel.diag.v1." + c.method)
		switch {
		case c.want == "" && err == nil:
		case status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != c.want:
			t.Errorf("%s: %v", c.method, err)
		case s.Stats().Denied != 1:
			t.Errorf("%s: not counted", c.method)
		}
	}
}
