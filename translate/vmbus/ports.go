package vmbus

import (
	"errors"

	abi "keel/hcl/abi/hv"
	"keel/vtl/hv"
)

var (
	_ hv.Ports   = (*Server)(nil)
	_ Hypervisor = (*hv.Hypervisor)(nil)
)

// PostMessage is HvPostMessage as it reaches the bus: see Message. A guest that
// gets "insufficient buffers" tries again.
func (s *Server) PostMessage(_ int, connection uint32, kind uint32, payload []byte) hv.Status {
	if kind != messageKind {
		s.n.malformed.Add(1)
		return abi.HV_STATUS_INVALID_PARAMETER
	}
	switch err := s.Message(connection, payload); {
	case err == nil:
		return abi.HV_STATUS_SUCCESS
	case errors.Is(err, ErrBusy):
		return abi.HV_STATUS_INSUFFICIENT_BUFFERS
	}
	return abi.HV_STATUS_INVALID_CONNECTION_ID
}

// SignalEvent is HvSignalEvent: see Signal. The bus has one flag a connection.
func (s *Server) SignalEvent(_ int, connection uint32, flag uint16) hv.Status {
	if flag != 0 {
		s.n.badConnection.Add(1)
		return abi.HV_STATUS_INVALID_PARAMETER
	}
	if s.Signal(connection) != nil {
		return abi.HV_STATUS_INVALID_CONNECTION_ID
	}
	return abi.HV_STATUS_SUCCESS
}
