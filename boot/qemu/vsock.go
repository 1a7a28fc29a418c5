package qemu

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"keel/boot/handoff"
	"keel/boot/qemu/vsock"
)

// guestCID is the context identifier of every VM. It means something between the VM and
// its own launcher only: each has a device of its own (virtio 1.2 §5.10.4).
const guestCID = 3

// device is the vsock of a run.
type device struct {
	*vsock.Device
	path   string
	served chan error // what Serve returns
}

// openVsock makes the vsock device of a VM and serves it from then on: QEMU waits for
// its answers when it starts. A VM whose name is another one's too is named after its
// launcher.
func openVsock(vm string, named bool) (*device, error) {
	d := &device{path: handoff.VsockSocket(os.Getuid(), vm), served: make(chan error, 1)}
	if !named {
		d.path += "." + strconv.Itoa(os.Getpid())
	}
	var err error
	if d.Device, err = vsock.New(vsock.Options{CID: guestCID, Path: d.path}); err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeHostRefused, Cause: "the VM gets no vsock", Err: err, Remedy: "use another, shorter --name",
		}
	}
	go func() { d.served <- d.Serve(context.Background()) }()
	return d, nil
}

// end ends the device and returns a warning if it had failed before.
func (d *device) end() (warning string) {
	var err error
	select {
	case err = <-d.served: // QEMU is gone, or broke the rules
	default:
	}
	closed := d.Close()
	if err == nil {
		err = closed
	}
	if err != nil {
		return oneLine(fmt.Sprintf("the VM lost its vsock: %v", err))
	}
	return ""
}

// vsockArguments gives QEMU the device.
func (f fds) vsockArguments() []string {
	if f.vsock == 0 {
		return nil
	}
	var d *vsock.Device // the arguments are the same for all
	return d.QEMUArgs(f.vsock)
}
