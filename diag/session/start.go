package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// endOfText is what Ctrl-D types; terminals make it the end of input.
const endOfText = 4

// firstToDie is the highest oom_score_adj (proc_pid_oom_score_adj(5)): a program that
// takes too much memory must not cost the paravisor its life.
const firstToDie = "1000"

// start starts a program in a session and process group of its own.
func start(p *Program) (_ *session, err error) {
	env := slices.Concat(environment, p.Env)
	path, err := find(p.Args[0], env)
	if err != nil {
		return nil, err
	}
	s := &session{
		// u-root's programs are one file, which finds out from its path which one it is.
		cmd:      &exec.Cmd{Path: path, Args: append([]string{path}, p.Args[1:]...), Env: env, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true}},
		terminal: p.Terminal != nil, done: make(chan struct{}),
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			s.close()
		}
	}()
	if s.terminal {
		theirs, err = s.openTerminal(*p.Terminal)
	} else {
		theirs, err = s.openPipes()
	}
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	// It may have ended by now.
	_ = os.WriteFile("/proc/"+strconv.Itoa(s.cmd.Process.Pid)+"/oom_score_adj", []byte(firstToDie), 0)
	return s, nil
}

// find returns the file of a program: what has a slash is a path, all else is looked for
// in the PATH of the environment.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); filepath.IsAbs(file) && executable(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: %q is not in %s", ErrMissing, name, path)
}

// executable tells why a file is no program.
func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %q", ErrMissing, file)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%w: %q is not executable", ErrMissing, file)
	}
	return nil
}

// openPipes makes the program's pipes and returns its ends.
func (s *session) openPipes() (theirs []*os.File, err error) {
	s.outputs = map[Stream]*os.File{}
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	stdin, ours := pipe()
	stdout, theirOut := pipe()
	stderr, theirErr := pipe()
	s.input, s.outputs[Stdout], s.outputs[Stderr] = ours, stdout, stderr
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = stdin, theirOut, theirErr
	return []*os.File{stdin, theirOut, theirErr}, err
}

// openTerminal makes a terminal (pts(4)) and returns the program's end.
func (s *session) openTerminal(size Size) ([]*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s.input, s.outputs = master, map[Stream]*os.File{Stdout: master}
	var n int
	err = control(master, func(fd int) (err error) {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a terminal: %w", err)
	}
	if err := resize(master, size); err != nil {
		return nil, err
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr.Setctty = true // its descriptor 0
	return []*os.File{slave}, nil
}

// resize sets the size of a terminal.
func resize(master *os.File, size Size) error {
	return control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Rows), Col: uint16(size.Columns)})
	})
}

// control works on a file's descriptor, which stays as it is: Fd would make it blocking.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errors.Join(err, failed)
}
