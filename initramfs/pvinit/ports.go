package pvinit

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

const (
	// portWait bounds the wait for the ports: the kernel finds them by messages
	// on the device's control queue (virtio 1.2, 5.3.6.2), after init has started.
	portWait = 10 * time.Second
	// sendWait bounds the wait for a host that does not read.
	sendWait = 5 * time.Second
)

// ports are the channels to the launcher.
type ports struct {
	control, console, log *os.File
}

// openPorts opens the virtio-serial ports by their names, as sysfs folder class
// lists them, in the device folder dev. It waits for ports that are missing.
func openPorts(class, dev string, wait time.Duration) (*ports, error) {
	var p ports
	missing := map[string]**os.File{
		handoff.PortControl: &p.control,
		handoff.PortConsole: &p.console,
		handoff.PortLog:     &p.log,
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(2 * time.Millisecond) {
		entries, _ := os.ReadDir(class) // absent until the driver has the device
		for _, e := range entries {
			name, err := os.ReadFile(filepath.Join(class, e.Name(), "name"))
			if err != nil {
				continue // the driver adds the name after the folder
			}
			slot, ok := missing[strings.TrimSpace(string(name))]
			if !ok {
				continue
			}
			fd, err := unix.Open(filepath.Join(dev, e.Name()), unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				continue // devtmpfs may lag behind sysfs; the deadline bounds it
			}
			*slot = os.NewFile(uintptr(fd), strings.TrimSpace(string(name)))
			delete(missing, strings.TrimSpace(string(name)))
		}
		if len(missing) == 0 {
			return &p, nil
		}
		if time.Now().After(deadline) {
			for name := range missing {
				return nil, fmt.Errorf("no virtio-serial port %q after %v", name, wait)
			}
		}
	}
}

// send writes the event as one line. It cannot fail in a way that would change
// what pvinit does next, so it only logs.
func send(f *os.File, e handoff.Event) {
	line, err := json.Marshal(e)
	if err == nil {
		err = write(f, append(line, '\n'), sendWait)
	}
	if err != nil {
		slog.Error("cannot send an event", "event", e.Event, "error", err)
	}
}

// write writes data whether or not the paravisor, which shares the open file, has
// made it non-blocking. A host that does not read delays it by wait at most.
func write(f *os.File, data []byte, wait time.Duration) error {
	fd := int(f.Fd())
	deadline := time.Now().Add(wait)
	for len(data) > 0 {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll %s: %w", f.Name(), err)
		}
		if n == 0 || time.Now().After(deadline) {
			return fmt.Errorf("write %s: %w", f.Name(), os.ErrDeadlineExceeded)
		}
		n, err = unix.Write(fd, data)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Name(), err)
		}
		data = data[n:]
	}
	return nil
}
