package paravisor

import (
	"context"
	"fmt"
	"net"

	"keel/boot/handoff"
	"keel/hcl"
	"keel/hcl/pci"
	"keel/paravisor/config"
	"keel/paravisor/fwcfg"
	"keel/vtl"
	"keel/vtl/guestmem"
)

// newGate makes the gate of strict mode, nil when that is off.
func (k *keel) newGate() *hcl.Gate {
	switch k.config.Strict {
	case config.StrictCount:
		return hcl.NewGate(nil)
	case config.StrictKill:
		return hcl.NewGate(func(hcl.HostRequest) {
			k.machine.guest.Stop(vtl.End{Kind: vtl.EndStopped, Message: "strict mode"})
		})
	case config.StrictOff:
	}
	return nil
}

// guard lets everything that Keel asks of its host pass the gate.
func (env *Environment) guard(g *hcl.Gate) {
	if g == nil {
		return
	}
	env.Files = gatedFiles{env.Files, g}
	if devices := env.Devices; devices != nil {
		env.Devices = func(memory *guestmem.Memory) (Devices, error) {
			d, err := devices(memory)
			if err != nil {
				return nil, err
			}
			return gatedDevices{d, g}, nil
		}
	}
}

// newKeyServer returns the ways to the key server, nil without a dialer. What passes the
// gate to have a key released is refused while the guest runs; what it takes to report a
// state is not.
func newKeyServer(dial dialer, g *hcl.Gate) *keyServer {
	if dial == nil {
		return nil
	}
	gated := func(r hcl.HostRequest) dialer {
		return func(ctx context.Context) (net.Conn, error) {
			if err := g.Ask(r); err != nil {
				return nil, err
			}
			return dial(ctx)
		}
	}
	return &keyServer{release: gated(hcl.HostKeyServer), report: gated(hcl.HostReport)}
}

// strictFailure is the end of a VM that strict mode has killed, nil when it has not.
func strictFailure(g *hcl.Gate) error {
	r, ok := g.Fatal()
	if !ok {
		return nil
	}
	return &handoff.Failure{
		Outcome: handoff.OutcomeStrict,
		Cause:   fmt.Sprintf("strict mode ended the VM: %q is no request to the host that the list allows while the guest runs", hcl.HostTable[r].Name),
		Remedy:  "do it before the guest starts, or use --strict count",
	}
}

// gatedFiles are the host's files behind a gate.
type gatedFiles struct {
	files Files
	gate  *hcl.Gate
}

// Find looks for a file.
func (f gatedFiles) Find(name string) (fwcfg.File, error) {
	if err := f.gate.Ask(hcl.HostFile); err != nil {
		return fwcfg.File{}, err
	}
	return f.files.Find(name)
}

// Read reads a part of a file.
func (f gatedFiles) Read(file fwcfg.File, offset uint64, p []byte) error {
	if err := f.gate.Ask(hcl.HostFile); err != nil {
		return err
	}
	return f.files.Read(file, offset, p)
}

// ReadDMA has the host write a part of a file.
func (f gatedFiles) ReadDMA(file fwcfg.File, offset uint64, mapping []byte, granule int) error {
	if err := f.gate.Ask(hcl.HostFile); err != nil {
		return err
	}
	return f.files.ReadDMA(file, offset, mapping, granule)
}

// gatedDevices are the host's devices behind a gate.
type gatedDevices struct {
	Devices
	gate *hcl.Gate
}

// Open takes a function over.
func (d gatedDevices) Open(address string) (pci.Function, error) {
	if err := d.gate.Ask(hcl.HostDevice); err != nil {
		return nil, err
	}
	return d.Devices.Open(address)
}
