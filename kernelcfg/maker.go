package kernelcfg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// maker runs the kernel's own make on one out-of-tree build.
type maker struct {
	source, tree string
	what         string // for messages
	progress     io.Writer
}

// tailLines is how much of make's output an error shows.
const tailLines = 25

// run calls make with the targets and waits. Objects are counted as they are
// compiled; the error carries the end of the output.
func (m maker) run(ctx context.Context, targets ...string) error {
	args := append([]string{"-C", m.source, "O=" + m.tree, fmt.Sprintf("-j%d", runtime.NumCPU())}, targets...)
	cmd := exec.CommandContext(ctx, "make", args...)
	cmd.Env = environment()
	// SIGTERM lets make end its own children; SIGKILL would orphan them.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	// One pipe for both streams keeps an error beside the line that caused it.
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	tail := make(chan []string)
	go func() { tail <- m.watch(r) }()
	err := cmd.Run()
	w.Close()
	last := <-tail // watch has seen everything
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrBuild, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: make %s: %w\n%s", ErrBuild, strings.Join(targets, " "), err, strings.Join(last, "\n"))
	}
	return nil
}

// watch reads make's output, reports every few seconds, and returns its end.
func (m maker) watch(r io.Reader) []string {
	const every = 5 * time.Second
	started := time.Now()
	next := started.Add(every)
	objects := 0
	var tail []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		if tail = append(tail, line); len(tail) > tailLines {
			tail = tail[1:]
		}
		if strings.HasPrefix(line, "  CC ") || strings.HasPrefix(line, "  AS ") {
			objects++
		}
		// Configuring takes seconds and compiles little; it stays silent.
		if now := time.Now(); objects > 0 && now.After(next) {
			next = now.Add(every)
			fmt.Fprintf(m.progress, "keel: %s: %d objects, %s\n", m.what, objects, now.Sub(started).Round(time.Second))
		}
	}
	// A line beyond the buffer ends the scan; make must not block on a full pipe.
	_, _ = io.Copy(io.Discard, r)
	if objects > 0 {
		fmt.Fprintf(m.progress, "keel: %s: done, %d objects in %s\n", m.what, objects, time.Since(started).Round(time.Second))
	}
	return tail
}

// environment is all that the build sees of the user's settings: flags, locales and
// names from outside must not shape the kernel, and an outer make must not share its
// job slots. The fixed names and time make the same input give the same bytes.
func environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + os.Getenv("HOME"),
		"TMPDIR=" + os.TempDir(),
		"LC_ALL=C",
		"ARCH=x86",
		"KBUILD_BUILD_USER=keel",
		"KBUILD_BUILD_HOST=keel",
		"KBUILD_BUILD_VERSION=1",
		"KBUILD_BUILD_TIMESTAMP=1970-01-01",
	}
}
