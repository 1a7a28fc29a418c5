package paravisor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/hcl"
	"keel/paravisor/config"
	"keel/paravisor/fwcfg"
	"keel/vtl/guestmem"
)

// TestGuard: all that the paravisor has of its host passes the gate, and is refused while
// the guest runs and only then.
func TestGuard(t *testing.T) {
	b := &bays{}
	env := Environment{
		Files:   hostFile("data"),
		Devices: func(*guestmem.Memory) (Devices, error) { return b, nil },
	}
	g := hcl.NewGate(nil)
	env.guard(g)
	server := newKeyServer(func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		server.Close()
		return client, nil
	}, g)
	devices, err := env.Devices(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]struct {
		request hcl.HostRequest
		calls   uint64
		do      func() error
	}{
		"files": {hcl.HostFile, 3, func() error {
			_, find := env.Files.Find("x")
			read, dma := env.Files.Read(fwcfg.File{}, 0, make([]byte, 4)), env.Files.ReadDMA(fwcfg.File{}, 0, make([]byte, 4), 4096)
			if (find == nil) != (read == nil) || (read == nil) != (dma == nil) {
				t.Errorf("%v, %v, %v", find, read, dma)
			}
			return find
		}},
		"device": {hcl.HostDevice, 1, func() error {
			_, err := devices.Open("0000:09:00.0") // which is not there
			if err != nil && !errors.Is(err, hcl.ErrStrict) {
				return nil
			}
			return err
		}},
		"key server": {hcl.HostKeyServer, 1, func() error {
			if _, err := server.report(t.Context()); err != nil {
				t.Errorf("a report: %v", err)
			}
			_, err := server.release(t.Context())
			return err
		}},
	} {
		for _, running := range []bool{false, true, false} {
			g.Running(running)
			if err := ask.do(); errors.Is(err, hcl.ErrStrict) != running {
				t.Errorf("%s, guest running %v: %v", name, running, err)
			}
		}
		if n := g.Refused(ask.request); n != ask.calls {
			t.Errorf("%s: %d refusals counted, want %d", name, n, ask.calls)
		}
	}
	r := refusals{}
	r.strict(g)
	if r["strict-file"] != 3 || r["strict-device"] != 1 || r["strict-key-server"] != 1 || len(r) != 3 {
		t.Errorf("%v", r)
	}
}

// TestStrictHotplug: a controller that is plugged in while the guest runs is not taken
// over; those that were there before go on.
func TestStrictHotplug(t *testing.T) {
	r := newRig(t)
	g := hcl.NewGate(nil)
	r.controllers.devices = gatedDevices{r.bays, g}
	r.bays.plug(t, "0000:00:00.0", "a", 1024)
	if err := r.add(t.Context(), one("a", 0)); err != nil {
		t.Fatal(err)
	}
	g.Running(true)
	r.bays.plug(t, "0000:01:00.0", "b", 1024)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.add(ctx, one("b", 1)); err == nil {
		t.Error("the disk was added")
	}
	if r.luns() != "[0]" || g.Refused(hcl.HostDevice) == 0 {
		t.Errorf("LUNs %v, %d refusals", r.luns(), g.Refused(hcl.HostDevice))
	}
}

// TestStrictModes: off has no gate; a kill has an outcome of its own and names what it
// was about.
func TestStrictModes(t *testing.T) {
	k := &keel{config: &config.Config{}, env: Environment{Log: slog.New(slog.DiscardHandler)}}
	if g := k.newGate(); g != nil || strictFailure(g) != nil {
		t.Error("a gate without strict mode")
	}
	k.config.Strict = config.StrictCount
	g := k.newGate()
	g.Running(true)
	if err := g.Ask(hcl.HostNMI); err == nil || strictFailure(g) != nil {
		t.Errorf("count: %v, %v", err, strictFailure(g))
	}
	g = hcl.NewGate(func(hcl.HostRequest) {})
	g.Running(true)
	_ = g.Ask(hcl.HostDevice)
	_ = g.Ask(hcl.HostNMI)
	f, ok := errors.AsType[*handoff.Failure](strictFailure(g))
	if !ok || f.Outcome != handoff.OutcomeStrict || f.Outcome.ExitCode() != 18 || f.Remedy == "" || !strings.Contains(f.Cause, `"device"`) {
		t.Errorf("kill: %v", strictFailure(g))
	}
}
