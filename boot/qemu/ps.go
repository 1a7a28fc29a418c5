package qemu

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"keel/boot/handoff"
)

// VM is what a launcher says of its VM.
type VM struct {
	Name  string    `json:"name"`
	PID   int       `json:"pid"` // of the launcher
	Since time.Time `json:"since"`
	VPs   int       `json:"vps"`
	// Memory of the guest in bytes.
	Memory uint64 `json:"guest_memory_bytes"`
	// Vsock is the hybrid socket, an abstract name; empty where there is none.
	Vsock string `json:"vsock"`
}

// requestStatus asks a launcher for its VM, and changes nothing.
const requestStatus ChangeKind = "status"

// statusPatience is how long a launcher may take to say what it knows by heart.
const statusPatience = 5 * time.Second

// unixSockets lists the sockets of this network namespace, which is where abstract names
// live (proc_pid_net(5)).
const unixSockets = "/proc/self/net/unix"

// Find returns the running VM of that name. Its errors are of type *handoff.Failure.
func Find(ctx context.Context, vm string) (VM, error) {
	if !goodName.MatchString(vm) {
		return VM{}, failure(handoff.OutcomeUsage, "no VM has a name like that", "name one that keel ps lists")
	}
	r, err := ask(ctx, vm, Change{Kind: requestStatus}, statusPatience)
	switch {
	case err != nil:
		return VM{}, err
	case r.VM == nil || r.VM.Name != vm:
		return VM{}, failure(handoff.OutcomeVMLost, "the launcher of the VM does not say what it runs", "use the keel that started the VM")
	}
	return *r.VM, nil
}

// List returns the running VMs of this user, by name. A VM that ends meanwhile is left
// out; one whose launcher does not answer is an error beside those that do.
func List(ctx context.Context) ([]VM, error) {
	table, err := os.ReadFile(unixSockets)
	if err != nil {
		return nil, &handoff.Failure{Outcome: handoff.OutcomeHostRefused, Cause: "cannot see which VMs run", Remedy: "mount /proc", Err: err}
	}
	names := liveNames(table, os.Getuid())
	found, errs := make([]VM, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { found[i], errs[i] = Find(ctx, name) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil && OutcomeOf(err) == handoff.OutcomeUsage {
			errs[i] = nil // it is gone
		}
	}
	return slices.DeleteFunc(found, func(v VM) bool { return v.Name == "" }), errors.Join(errs...)
}

// maxLive bounds how many VMs List asks. A name in the table may be anybody's.
const maxLive = 1024

// liveNames picks the names of a user's VMs out of the kernel's table, in order. The
// name is the last column, and a connection has that of its listener.
func liveNames(table []byte, uid int) []string {
	var names []string
	for line := range bytes.Lines(table) {
		columns := strings.Fields(string(line))
		if len(columns) < 8 {
			continue
		}
		vm, ok := handoff.LiveName(uid, columns[7])
		if ok && goodName.MatchString(vm) && len(names) < maxLive {
			names = append(names, vm)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// claim takes the name of a VM, so that it can be found; it returns nil when another VM
// of this user has it.
func claim(vm string) *net.UnixListener {
	l, err := net.ListenUnix("unix", liveAddress(vm))
	if err != nil {
		return nil
	}
	return l
}
