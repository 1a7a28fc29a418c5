// Command genpb compiles the protobuf schemas of a folder without protoc: a Go
// compiler parses them, and protoc-gen-go and protoc-gen-go-ttrpc, pinned as tools in
// go.mod, write the Go files.
//
// Usage: genpb DIR, where DIR holds NAME.proto and receives NAME.pb.go, and
// NAME_ttrpc.pb.go if the schema has a service.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genpb DIR")
		os.Exit(2)
	}
	if err := generate(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "genpb:", err)
		os.Exit(1)
	}
}

// generate writes the Go files of all schemas in a folder.
func generate(ctx context.Context, dir string) error {
	schemas, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		return err
	}
	if len(schemas) == 0 {
		return fmt.Errorf("%s holds no schema", dir)
	}
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{dir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // comments reach the Go file
	}
	for _, schema := range schemas {
		files, err := compiler.Compile(ctx, filepath.Base(schema))
		if err != nil {
			return err
		}
		if err := plugin(ctx, dir, "protoc-gen-go", files[0]); err != nil {
			return err
		}
		if files[0].Services().Len() == 0 {
			continue
		}
		if err := plugin(ctx, dir, "protoc-gen-go-ttrpc", files[0]); err != nil {
			return err
		}
	}
	return nil
}

// closure returns a schema after the schemas that it imports, as plugins want it.
func closure(schema protoreflect.FileDescriptor, seen map[string]bool) (files []*descriptorpb.FileDescriptorProto) {
	if seen[schema.Path()] {
		return nil
	}
	seen[schema.Path()] = true
	for i := range schema.Imports().Len() {
		files = append(files, closure(schema.Imports().Get(i).FileDescriptor, seen)...)
	}
	return append(files, protoutil.ProtoFromFileDescriptor(schema))
}

// plugin lets a tool of go.mod write the Go file of a schema.
func plugin(ctx context.Context, dir, tool string, schema protoreflect.FileDescriptor) error {
	req, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{schema.Path()},
		Parameter:      new("paths=source_relative"),
		ProtoFile:      closure(schema, map[string]bool{}),
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", tool)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(req), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return err
	}
	if resp.Error != nil {
		return errors.New(resp.GetError())
	}
	for _, f := range resp.File {
		if err := os.WriteFile(filepath.Join(dir, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
