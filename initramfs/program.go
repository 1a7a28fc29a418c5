package initramfs

import "context"

// CompileProgram builds the main package pkg as a static program for guests. root is
// as in Options.
func CompileProgram(ctx context.Context, root, pkg, out string) error {
	return compile(ctx, root, Program{Package: pkg}, out)
}
