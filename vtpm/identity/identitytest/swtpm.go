// Package identitytest runs a real TPM for tests: swtpm, which is libtpms as well as
// Keel's own worker is, over a Unix socket.
package identitytest

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"keel/vtpm/vtpmtest/swtpm"
)

// TPM is a swtpm whose state lives in a directory of the test.
type TPM struct {
	*swtpm.TPM
	t   *testing.T
	dir string
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
	dir, err := os.MkdirTemp("", "swtpm") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if state != nil {
		if err := os.WriteFile(filepath.Join(dir, stateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	process, err := swtpm.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if process.Close(); t.Failed() && process.Said() != "" {
			t.Logf("swtpm: %s", process.Said())
		}
	})
	return &TPM{TPM: process, t: t, dir: dir}
}

// Path returns the socket for commands, for other clients after Disconnect.
func (m *TPM) Path() string { return swtpm.Path(m.dir) }

// Reset gives the TPM a hardware reset; TPM2_Startup comes next.
func (m *TPM) Reset() error { return m.TPM.Reset(m.t.Context()) }

// Send implements identity.TPM and go-tpm's transport.TPM.
func (m *TPM) Send(command []byte) ([]byte, error) {
	m.Sent++
	response, err := m.TPM.Send(command)
	if err != nil {
		return nil, err
	}
	response = slices.Clone(response)
	if m.After != nil {
		m.After(command, response)
	}
	return response, nil
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
	b, err := os.ReadFile(filepath.Join(m.dir, stateFile))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return b
}
