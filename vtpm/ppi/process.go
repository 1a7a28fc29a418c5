package ppi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProcess is the stage of carrying out a request.
var ErrProcess = errors.New("physical presence request")

// TPM executes commands, one at a time.
type TPM interface {
	// Send executes a command and returns the whole response. An error means that the
	// TPM could not be reached; a TPM's refusal is a response.
	Send(command []byte) ([]byte, error)
}

// Process carries out the request in the memory, if there is one, and leaves the result
// for `_DSM` function 5. Call it at each boot after TPM2_Startup, before the guest runs
// and before the platform hierarchy is locked. cleared says that the TPM was cleared:
// what the firmware itself had made there in the owner's hierarchies is gone too.
//
// What the TPM refuses is a result for the guest, not an error. The error, ErrProcess with
// the cause, is that the TPM could not be reached; then the request stays.
func (m *Memory) Process(tpm TPM) (cleared bool, err error) {
	m.mu.Lock()
	op, parameter := le.Uint32(m.b[RequestAt:]), le.Uint32(m.b[ParameterAt:])
	m.offer()
	m.mu.Unlock()
	if op == opNone {
		return false, nil
	}
	var result uint32
	switch op {
	case opEnable: // TPM2_Startup has enabled all hierarchies
	case opClear, opEnableClear, opEnableClear2, opEnableClear3:
		if result, err = clearTPM(tpm); err != nil {
			return false, fmt.Errorf("%w: operation %d: %w", ErrProcess, op, err)
		}
		cleared = result == 0
	default:
		result = responseFailure
	}
	switch result {
	case 0:
		m.done.Add(1)
	case responseFailure:
		m.unknown.Add(1)
	default:
		m.failed.Add(1)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report(op, parameter, result)
	return cleared, nil
}

// report leaves a result. A request that was made meanwhile stays.
func (m *Memory) report(op, parameter, result uint32) {
	le.PutUint32(m.b[LastAt:], op)
	le.PutUint32(m.b[ResponseAt:], result)
	if le.Uint32(m.b[RequestAt:]) == op && le.Uint32(m.b[ParameterAt:]) == parameter {
		le.PutUint32(m.b[RequestAt:], opNone)
		le.PutUint32(m.b[ParameterAt:], 0)
	}
}

// clearTPM clears the TPM, which the owner may have forbidden (disableClear) and the
// platform may allow again. It returns the response code of the last command.
func clearTPM(tpm TPM) (uint32, error) {
	const no = 0
	for _, c := range [][]byte{
		platformCommand(ccClearControl, no),
		platformCommand(ccClear),
	} {
		rsp, err := tpm.Send(c)
		if err != nil {
			return 0, err
		}
		if len(rsp) < rspHeaderSize {
			return 0, fmt.Errorf("a response of %d bytes", len(rsp))
		}
		if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
			return rc, nil
		}
	}
	return 0, nil
}

// platformCommand returns a command with the platform's handle, an empty password and
// parameters (Library part 1 §18).
func platformCommand(code uint32, parameters ...byte) []byte {
	be := binary.BigEndian
	auth := be.AppendUint32(nil, rsPassword)
	auth = append(auth, 0, 0 /* nonce */, 0 /* attributes */, 0, 0 /* password */)
	body := be.AppendUint32(nil, rhPlatform)
	body = be.AppendUint32(body, uint32(len(auth)))
	body = append(append(body, auth...), parameters...)
	const headerSize = 10
	c := be.AppendUint16(nil, tagSessions)
	c = be.AppendUint32(c, uint32(headerSize+len(body)))
	c = be.AppendUint32(c, code)
	return append(c, body...)
}
