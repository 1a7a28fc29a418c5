// Package identitytest runs a real TPM for tests: swtpm, which is libtpms as well as
// Keel's own worker is, over a Unix socket.
package identitytest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TPM is a swtpm whose state lives in a directory of the test.
type TPM struct {
	t       *testing.T
	Dir     string // holds the state file
	command *exec.Cmd
	control net.Conn
	data    net.Conn
	said    bytes.Buffer // what the process has said
	// Sent counts the commands.
	Sent int
	// After, if not nil, is called after each command with its response.
	After func(command, response []byte)
}

// stateFile is swtpm's file with the permanent state.
const stateFile = "tpm2-00.permall"

// Start starts a TPM with a state, nil for a new one, and gives it a hardware reset.
// The TPM ends with the test.
func Start(t *testing.T, state []byte) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Fatal("swtpm is not installed: make deps")
	}
	dir, err := os.MkdirTemp("", "swtpm") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	tpm := &TPM{t: t, Dir: dir}
	t.Cleanup(func() {
		tpm.Kill()
		if t.Failed() && tpm.said.Len() > 0 {
			t.Logf("swtpm: %s", tpm.said.Bytes())
		}
		os.RemoveAll(dir)
	})
	if state != nil {
		if err := os.WriteFile(filepath.Join(dir, stateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tpm.PowerOn()
	return tpm
}

// PowerOn starts the process and resets the TPM. Preconditions: it does not run.
func (m *TPM) PowerOn() {
	m.t.Helper()
	data, control := filepath.Join(m.Dir, "s"), m.Control()
	os.Remove(data)
	os.Remove(control)
	m.command = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.Dir,
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+control)
	m.command.Stdout, m.command.Stderr = &m.said, &m.said
	if err := m.command.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.control = m.dial(control)
	m.data = nil
	if err := m.Reset(); err != nil {
		m.t.Fatal(err)
	}
	m.data = m.dial(data)
}

// Path returns the socket for commands, for other clients after Disconnect.
func (m *TPM) Path() string { return filepath.Join(m.Dir, "s") }

// Control returns the socket of swtpm's control channel, where the TCTI of tpm2-tss looks
// for it.
func (m *TPM) Control() string { return m.Path() + ".ctrl" }

// Disconnect ends the connections, so that another client gets in.
func (m *TPM) Disconnect() {
	m.data.Close()
	m.control.Close()
}

func (m *TPM) dial(path string) net.Conn {
	m.t.Helper()
	var err error
	for range 1000 {
		var c net.Conn
		if c, err = net.Dial("unix", path); err == nil {
			return c
		}
		time.Sleep(5 * time.Millisecond)
	}
	m.t.Fatal(err)
	return nil
}

// Kill is a power failure: the process ends at once.
func (m *TPM) Kill() {
	if m.command == nil {
		return
	}
	// That it was killed is what Wait reports, and what is wanted.
	_ = m.command.Process.Kill()
	_ = m.command.Wait()
	m.command = nil
	if m.data != nil {
		m.data.Close()
	}
	m.control.Close()
}

// cmdInit is swtpm's command for a hardware reset (swtpm_ioctls(3), CMD_INIT).
const cmdInit = 2

// Reset gives the TPM a hardware reset; TPM2_Startup comes next.
func (m *TPM) Reset() error {
	b := binary.BigEndian.AppendUint32(nil, cmdInit)
	b = binary.BigEndian.AppendUint32(b, 0)
	if _, err := m.control.Write(b); err != nil {
		return err
	}
	var rsp [4]byte
	if _, err := io.ReadFull(m.control, rsp[:]); err != nil {
		return err
	}
	if code := binary.BigEndian.Uint32(rsp[:]); code != 0 {
		return fmt.Errorf("swtpm refused to reset: %#x", code)
	}
	return nil
}

// Send implements identity.TPM and go-tpm's transport.TPM.
func (m *TPM) Send(command []byte) ([]byte, error) {
	m.Sent++
	if _, err := m.data.Write(command); err != nil {
		return nil, err
	}
	rsp := make([]byte, 4096)
	if _, err := io.ReadFull(m.data, rsp[:6]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(rsp[2:]))
	if size < 10 || size > len(rsp) {
		return nil, fmt.Errorf("a response of %d bytes", size)
	}
	if _, err := io.ReadFull(m.data, rsp[6:size]); err != nil {
		return nil, err
	}
	if m.After != nil {
		m.After(command, rsp[:size])
	}
	return rsp[:size], nil
}

// Stream returns the TPM as the io.ReadWriter that go-tpm's older interface wants.
func (m *TPM) Stream() io.ReadWriter { return &stream{tpm: m} }

type stream struct {
	tpm      *TPM
	response []byte
}

// Write sends a command.
func (s *stream) Write(command []byte) (int, error) {
	var err error
	if s.response, err = s.tpm.Send(command); err != nil {
		return 0, err
	}
	return len(command), nil
}

// Read returns the response, once.
func (s *stream) Read(p []byte) (int, error) {
	if len(s.response) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.response)
	s.response = s.response[n:]
	return n, nil
}

// State returns the permanent state as it is on disk, nil when nothing is.
func (m *TPM) State() []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Dir, stateFile))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return b
}
