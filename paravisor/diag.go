package paravisor

import (
	"context"
	"maps"
	"slices"

	"keel/diag/inspect"
	"keel/diag/owner"
	"keel/diag/server"
	"keel/hcl/sys"
	"keel/paravisor/config"
)

// diagnose starts the diagnostics service, which ends with ctx. A guest runs without it
// as well as with it.
func (k *keel) diagnose(ctx context.Context) {
	if k.env.Listen == nil {
		return
	}
	root := &tree{keel: k, logs: k.logsConfig()}
	var attest func(ctx context.Context, nonce []byte) ([]byte, error)
	if k.tee != nil {
		attest = k.attest
	}
	s, err := server.New(server.Config{
		Root: root, Confidential: k.confidential(), Debug: k.env.Policy.Name == config.Debug().Name,
		Attest: attest, Logs: root.logs, Control: &guestControl{keel: k, life: ctx}, Programs: k.programs(), Capture: k.captures(),
		Owner: k.env.Policy.Owner, Instance: func() owner.Instance { return k.tpmKeys().instance() }, Log: k.env.Log,
	})
	if err != nil {
		k.env.Log.Error("there are no diagnostics", inspect.PublicAttr("error", err))
		return
	}
	root.service = s
	l, err := k.env.Listen()
	if err != nil {
		k.env.Log.Error("there are no diagnostics", inspect.PublicAttr("error", err))
		return
	}
	go func() {
		if err := s.Serve(ctx, l); err != nil {
			k.env.Log.Error("the diagnostics ended", inspect.PublicAttr("error", err))
		}
	}()
}

// tree is what the diagnostics show: the run, the machine and its parts, and the
// diagnostics themselves.
type tree struct {
	keel    *keel
	logs    server.LogsConfig
	service inspect.Node
}

// Inspect writes the figures of the run, and the parts.
func (t *tree) Inspect(f *inspect.Fields) {
	k := t.keel
	f.Text("version", inspect.Public, Version, "version of Keel")
	f.Uint("uptime", inspect.Public, inspect.Microseconds, uint64(sys.SincePowerOn()*1000), "time since power-on of the VM")
	k.mu.Lock()
	resets := k.resets
	k.mu.Unlock()
	f.Uint("resets", inspect.Public, inspect.Count, resets, "times that the guest was reset")
	f.Gauge("vps", inspect.Public, inspect.Count, uint64(k.config.VPs), "virtual processors of the guest")
	f.Each("vp", "vp", vps{k.machine.guest}, "virtual processors")
	f.Bool("paused", inspect.Public, k.machine.guest.Paused(), "the guest is paused")
	f.Node("memory", memoryUse{k}, "who has the VM's memory")
	f.Each("exits", "kind", exits{k.machine}, "guest exits by kind")
	f.Each("refused", "reason", refusedCounts{k.machine}, "what guest and host asked in vain, by reason")
	f.Node("process", process{}, "the paravisor's own process")
	if k.machine.disks.controllers != nil {
		f.Each("disks", "disk", k.machine.disks, "the guest's disks")
	}
	k.machine.Inspect(f)
	f.Node("settings", t.logs.Settings, "how Keel is set; keel diag update changes it")
	f.Node("log", t.logs.Journal, "the paravisor's log")
	f.Node("diag", t.service, "the diagnostics service")
}

// memoryUse is the node of the VM's memory.
type memoryUse struct{ keel *keel }

// Inspect writes what the last look at the memory saw.
func (m memoryUse) Inspect(f *inspect.Fields) {
	m.keel.mu.Lock()
	u := m.keel.usage
	m.keel.mu.Unlock()
	bytes := func(name string, v uint64, doc string) { f.Gauge(name, inspect.Public, inspect.Bytes, v, doc) }
	bytes("total", u.total, "memory of the VM")
	bytes("guest", u.guest, "memory of the guest")
	bytes("vtl2", u.used, "what is in use besides: kernel, page tables, initramfs, processes")
	bytes("vtl2_peak", u.peak, "the most that ever was")
}

// exits is the node of the guest's exits. What a guest does is its own: the kinds that
// there were tell of it, too.
type exits struct{ machine *machine }

// Inspect writes the exits by kind.
func (e exits) Inspect(f *inspect.Fields) {
	inspectCounts(f, e.machine.guest.Exits(), "exits of this kind")
}

// refusedCounts is the node of what was refused.
type refusedCounts struct{ machine *machine }

// Inspect writes what was refused by reason.
func (r refusedCounts) Inspect(f *inspect.Fields) {
	inspectCounts(f, r.machine.refused(), "refusals for this reason (paravisor/README.md)")
}

// inspectCounts writes counts under the names that they have.
func inspectCounts(f *inspect.Fields, counts map[string]uint64, doc string) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		f.Uint(name, inspect.Private, inspect.Count, counts[name], doc)
	}
}
