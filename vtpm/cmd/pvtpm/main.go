//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
//go:debug decoratemappings=0

// Pvtpm is the vTPM worker: the process that holds the guest's TPM, and nothing else.
// The paravisor starts it with two sockets, one for commands and one for cancels, and
// gives it the TPM's state; it shuts itself in before it reads a byte. It takes no
// options. When its socket closes, it ends.
//
// Build: CGO_ENABLED=1 go build -tags netgo,osusergo -ldflags
// '-s -w -linkmode external -extldflags "-static"' ./vtpm/cmd/pvtpm
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"keel/vtpm/engine"
)

// exitFailed is the exit code where the worker could not start, or the paravisor did not
// keep to the protocol.
const exitFailed = 3

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pvtpm:", err)
		os.Exit(exitFailed)
	}
}

func run() error {
	// The directives above keep the runtime from reading cgroups and naming mappings,
	// which the sandbox forbids. One processor runs the command, one waits for cancels.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(50)
	if err := engine.Prepare(); err != nil {
		return err
	}
	// The paravisor writes when the process has its limits.
	if err := readable(fdCommands); err != nil {
		return err
	}
	if err := enterSandbox(); err != nil {
		return err
	}
	go readCancels(fdCancels)
	s := server{commands: fdCommands}
	return s.serve()
}

// readable waits until there is something to read. Unlike poll(2), select(2) works
// without a descriptor that may still be opened.
func readable(fd int) error {
	for {
		var set unix.FdSet
		set.Set(fd)
		_, err := unix.Select(fd+1, &set, nil, nil, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
