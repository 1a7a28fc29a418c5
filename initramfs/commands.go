package initramfs

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/bb/findpkg"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/u-root/uio/ulog"
)

const (
	urootModule     = "github.com/u-root/u-root"
	busyboxModule   = "github.com/u-root/gobusybox/src"
	urootCommandDir = "cmds/core"
	urootTag        = "goshsmall" // a shell that leaves line editing to the terminal: ttyS0 may be a log file
)

// useless lists the core commands that cannot work beneath the VTL2 kernel, which
// has no IP networking, no modules and no kexec. init would be a second PID 1.
var useless = []string{
	"dhclient", "init", "insmod", "ip", "kexec", "lsmod", "netcat", "netstat", "ntpdate",
	"ping", "rmmod", "scp", "sshd", "wget",
}

// module is what the Go tool says of a downloaded module.
type module struct{ Path, Version, Sum, Dir string }

// commands adds u-root's core commands as one busybox-like binary /bbin/bb with
// a link for each command, and the shell as /bin/sh.
func (a *archive) commands(ctx context.Context, opts Options, work string) error {
	var modules []module
	for _, path := range []string{urootModule, busyboxModule} {
		out, err := goTool(ctx, opts.Root, "mod", "download", "-json", path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCommand, err)
		}
		var m module
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			return fmt.Errorf("%w: %w", ErrCommand, err)
		}
		modules = append(modules, m)
	}
	names, err := commandNames(filepath.Join(modules[0].Dir, urootCommandDir))
	if err != nil {
		return err
	}
	version, err := goTool(ctx, opts.Root, "env", "GOVERSION")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	key := fmt.Sprint(modules[0].Sum, modules[1].Sum, urootTag, version, names)
	binary, err := cached(opts.Cache, work, key, func(out string) error {
		opts.Log.Info("build u-root's commands; this takes a minute, once", "commands", len(names))
		return buildCommands(ctx, opts.Root, modules[0].Dir, names, work, out)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	a.add(executable("bbin/bb", binary))
	for _, name := range names {
		a.add(cpio.Symlink("bbin/"+name, "bb"))
	}
	a.add(cpio.Symlink("bin/sh", "../bbin/gosh"))
	return nil
}

// buildCommands writes a binary that holds the named core commands. It is built in
// u-root's own module, with the versions that its go.sum names: Keel's go.mod
// stays free of what only they depend on.
func buildCommands(ctx context.Context, root, uroot string, names []string, work, out string) error {
	goroot, err := goTool(ctx, root, "env", "GOROOT")
	if err != nil {
		return err
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(uroot, urootCommandDir, name)
	}
	return bb.BuildBusybox(ulog.Null, &bb.Opts{
		Env: golang.Default(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64"),
			golang.WithGOROOT(goroot), golang.WithBuildTag(urootTag), golang.WithWorkingDir(uroot)),
		LookupEnv:    &findpkg.Env{},
		GenSrcDir:    filepath.Join(work, "src"),
		CommandPaths: paths,
		BinaryPath:   out,
		GoBuildOpts:  &golang.BuildOpts{EnableInlining: true},
	})
}

// commandNames lists the commands below dir that are of use.
func commandNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(useless, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// cached returns the file that build writes, from folder dir when an earlier call
// with the same key left it there; work is for scratch files. A file that is not what was stored is built
// again: it starts with the hash of the rest.
func cached(dir, work, key string, build func(out string) error) ([]byte, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(user, "keel", "initramfs")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(key))))
	if stored, err := os.ReadFile(path); err == nil && len(stored) > sha256.Size {
		sum := sha256.Sum256(stored[sha256.Size:])
		if slices.Equal(sum[:], stored[:sha256.Size]) {
			return stored[sha256.Size:], nil
		}
	}
	fresh := filepath.Join(work, "fresh")
	if err := build(fresh); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fresh)
	if err != nil {
		return nil, err
	}
	return data, store(path, data)
}

// store writes data with its hash in front, so that readers see all or nothing.
func store(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	sum := sha256.Sum256(data)
	_, err = f.Write(append(sum[:], data...))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
