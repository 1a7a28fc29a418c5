// Package swtpm runs Debian's swtpm, which has the same engine as Keel's worker, for tests
// and for the benchmark beside it.
package swtpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keel/vtpm"
)

// ErrSWTPM says that swtpm does not do as it should.
var ErrSWTPM = errors.New("swtpm")

// Commands of swtpm's control channel (swtpm_ioctls(3)): a code, big-endian, and what
// belongs to it. A result comes back, 0 for success.
const (
	ctrlInit = 2 // and flags: the TPM loses and gets power

	startTimeout = 10 * time.Second

	// Timeout bounds a command.
	Timeout = 2 * time.Minute
)

// TPM is a swtpm process behind its Unix sockets.
type TPM struct {
	cmd     *exec.Cmd
	said    bytes.Buffer  // valid once ended is closed
	ended   chan struct{} // the process has
	data    *os.File
	control *os.File
	buf     [vtpm.MaxBuffer + 1]byte
}

// Start starts a TPM whose state lies in a folder, as good as new where that is empty, and
// gives it power. The folder's path is short: sockets lie there. Close ends it.
// Errors: ErrSWTPM.
func Start(ctx context.Context, folder string) (_ *TPM, err error) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		return nil, fmt.Errorf("%w is not installed: make deps", ErrSWTPM)
	}
	data, control := Path(folder), Path(folder)+".ctrl"
	for _, old := range []string{data, control} { // of a process that was killed
		_ = os.Remove(old)
	}
	p := &TPM{cmd: exec.Command("swtpm", Args(folder, data, control)...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	// As Keel's worker: the kernel shares processors among sessions first
	// (CONFIG_SCHED_AUTOGROUP).
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	go func() {
		_ = p.cmd.Wait() // Close kills it
		close(p.ended)
	}()
	defer func() {
		if err != nil {
			p.Close()
			err = fmt.Errorf("starting %w: %w; it says %q", ErrSWTPM, err, p.said.String())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if p.control, err = p.dial(ctx, control); err != nil {
		return nil, err
	}
	if err := p.Reset(ctx); err != nil {
		return nil, err
	}
	p.data, err = p.dial(ctx, data)
	return p, err
}

// Path is the socket for commands of the TPM in a folder. That of the control channel is
// where the TCTI of tpm2-tss looks for it: ".ctrl" behind it.
func Path(folder string) string { return filepath.Join(folder, "socket") }

// Args are the arguments of swtpm.
func Args(folder, data, control string) []string {
	return []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + folder,
		"--server", "type=unixio,path=" + data, "--ctrl", "type=unixio,path=" + control,
	}
}

// dial connects to a socket of swtpm's, once there is one. The connection blocks, as
// those of Keel's worker do: a poller would cost another wake-up for each response.
func (p *TPM) dial(ctx context.Context, path string) (*os.File, error) {
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			tv := unix.NsecToTimeval(Timeout.Nanoseconds())
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
			return os.NewFile(uintptr(fd), path), err
		}
		unix.Close(fd)
		select {
		case <-p.ended:
			return nil, errors.New("it has ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w: %w", path, err, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Send runs a command. The response is valid until the next.
func (p *TPM) Send(command []byte) ([]byte, error) {
	if _, err := p.data.Write(command); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	n, err := readResponse(p.data, p.buf[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	return p.buf[:n], nil
}

// readResponse reads a whole response into b and returns its size. swtpm writes it at
// once, so that mostly one read does.
func readResponse(from io.Reader, b []byte) (int, error) {
	const header = 6 // tag and size
	n, err := io.ReadAtLeast(from, b, header)
	if err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(b[2:])
	if size > uint32(len(b)) || size < uint32(n) {
		return 0, fmt.Errorf("a response of %d bytes says it has %d", n, size)
	}
	_, err = io.ReadFull(from, b[n:size])
	return int(size), err
}

// Reset takes the power away and gives it back.
func (p *TPM) Reset(context.Context) error {
	request := binary.BigEndian.AppendUint32(nil, ctrlInit)
	if _, err := p.control.Write(binary.BigEndian.AppendUint32(request, 0)); err != nil {
		return fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	var result [4]byte
	if _, err := io.ReadFull(p.control, result[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	if rc := binary.BigEndian.Uint32(result[:]); rc != 0 {
		return fmt.Errorf("%w does not start its TPM: %#x", ErrSWTPM, rc)
	}
	return nil
}

// Pid returns the process ID.
func (p *TPM) Pid() int { return p.cmd.Process.Pid }

// Close is a power failure: the process ends at once.
func (p *TPM) Close() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	p.Disconnect()
}

// Said returns what the process has said.
// Preconditions: Close has been called.
func (p *TPM) Said() string { return p.said.String() }

// Disconnect ends the connections, so that another client gets in.
func (p *TPM) Disconnect() {
	for _, f := range []*os.File{p.data, p.control} {
		if f != nil {
			f.Close()
		}
	}
}

// Version returns what swtpm says of its version.
func Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "swtpm", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSWTPM, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads "TPM emulator version 0.7.1, Copyright ...".
func parseVersion(text string) (string, error) {
	_, rest, ok := strings.Cut(text, "version ")
	version, _, _ := strings.Cut(rest, ",")
	if version = strings.TrimSpace(version); !ok || version == "" || strings.ContainsAny(version, " \n") {
		return "", fmt.Errorf("%w: no version in %q", ErrSWTPM, text)
	}
	return version, nil
}
