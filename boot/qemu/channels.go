package qemu

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// inherited collects the files that QEMU inherits and knows their numbers
// there: 3 for the first.
type inherited struct {
	files []*os.File
}

// add takes a file and returns its descriptor number in QEMU.
func (i *inherited) add(f *os.File) int {
	i.files = append(i.files, f)
	return 2 + len(i.files)
}

// memory makes an inherited file of b that is in memory only, so that no
// death of the launcher can leave it behind.
func (i *inherited) memory(name string, b []byte) (int, error) {
	fd, err := unix.MemfdCreate("keel-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("memfd for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	n := i.add(f)
	if _, err := f.Write(b); err != nil {
		return 0, fmt.Errorf("memfd for %s: %w", name, err)
	}
	return n, nil
}

// pair makes a connected pair of sockets: QEMU inherits one end, the launcher
// keeps the other.
func (i *inherited) pair(name string) (int, *os.File, error) {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("socket pair for %s: %w", name, err)
	}
	n := i.add(os.NewFile(uintptr(s[1]), name))
	// Only our end is non-blocking: that lets a Close wake its reader.
	if err := unix.SetNonblock(s[0], true); err != nil {
		_ = unix.Close(s[0]) // the error to report is the first one
		return 0, nil, fmt.Errorf("socket pair for %s: %w", name, err)
	}
	return n, os.NewFile(uintptr(s[0]), name), nil
}

// close drops the launcher's copies: once QEMU is the only holder of its
// ends, our ends see its death.
func (i *inherited) close() {
	for _, f := range i.files {
		_ = f.Close() // memory files and sockets: nothing is lost
	}
	i.files = nil
}

// channels are the launcher's ends.
type channels struct {
	vtl2, console, log, control, qmp *os.File
}

func (c *channels) close() {
	for _, f := range []*os.File{c.vtl2, c.console, c.log, c.control, c.qmp} {
		if f != nil {
			_ = f.Close() // sockets: nothing is lost
		}
	}
}

// open makes everything that QEMU inherits. On error the caller still closes
// both.
func (i *inherited) open(o *Options) (fds, channels, error) {
	var (
		n   fds
		c   channels
		err error
	)
	payload := func(to *int, name string, b []byte) {
		if err == nil && len(b) > 0 {
			*to, err = i.memory(name, b)
		}
	}
	socket := func(to *int, ours **os.File, name string) {
		if err == nil {
			*to, *ours, err = i.pair(name)
		}
	}
	payload(&n.image, "image", o.Image)
	payload(&n.config, "config", o.Config)
	payload(&n.kernel, "kernel", o.Kernel)
	payload(&n.initrd, "initrd", o.Initrd)
	socket(&n.vtl2, &c.vtl2, "vtl2")
	socket(&n.console, &c.console, "console")
	socket(&n.log, &c.log, "log")
	socket(&n.control, &c.control, "control")
	socket(&n.qmp, &c.qmp, "qmp")
	return n, c, err
}
