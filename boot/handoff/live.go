package handoff

import (
	"strconv"
	"strings"
)

// Sockets of a running VM on the host. They are abstract names (unix(7)), which no end
// of a launcher leaves behind, written as Go does: with @ for the first byte. uid is the
// user who runs the launcher. An abstract name has no permissions: whoever connects, or
// is connected to, looks at who is at the other end.

// LiveSocket is where the launcher of a VM takes requests.
func LiveSocket(uid int, vm string) string { return livePrefix(uid) + vm }

// VsockSocket is the hybrid socket of a VM's vsock: a client that writes
// "CONNECT <port>\n" and reads "OK <port>\n" is connected with that port in the VM.
func VsockSocket(uid int, vm string) string { return LiveSocket(uid, vm) + "/vsock" }

// LiveName returns the VM of which a socket is the LiveSocket.
func LiveName(uid int, socket string) (vm string, ok bool) {
	vm, ok = strings.CutPrefix(socket, livePrefix(uid))
	return vm, ok && vm != "" && !strings.Contains(vm, "/")
}

func livePrefix(uid int) string { return "@keel/" + strconv.Itoa(uid) + "/" }

// VsockDiag is the vsock port of the diagnostics service in the VM (keel.diag.v1).
const VsockDiag = 1024

// VsockDebug is the vsock port in the VM on which Keel listens for a debugger of the guest,
// once a client of the diagnostics has asked for it, and until one has come.
const VsockDebug = 1026
