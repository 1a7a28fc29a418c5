package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keel/boot/handoff"
)

// portWait bounds the wait for the ports, which the kernel finds by messages.
const portWait = 10 * time.Second

// ports are the channels to the launcher.
type ports struct{ control, console, log *os.File }

var errPorts = errors.New("no virtio-serial ports of the launcher")

// openPorts opens the ports by the names that Keel's have.
func openPorts() (*ports, error) {
	for deadline := time.Now().Add(portWait); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		control, console, log := findPort(handoff.PortControl), findPort(handoff.PortConsole), findPort(handoff.PortLog)
		if control == "" || console == "" || log == "" {
			continue
		}
		var p ports
		var err [3]error
		p.control, err[0] = os.OpenFile(control, os.O_RDWR, 0)
		p.console, err[1] = os.OpenFile(console, os.O_RDWR, 0)
		p.log, err[2] = os.OpenFile(log, os.O_RDWR, 0)
		return &p, errors.Join(err[:]...)
	}
	return nil, errPorts
}

// findPort returns the device file of a port, or nothing while there is none.
func findPort(name string) string {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name") // the pattern is good
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(n)))
		}
	}
	return ""
}
