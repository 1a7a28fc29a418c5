package paravisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/hcl/pci"
	"keel/paravisor/config"
	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
	"keel/translate/scsi"
)

// bays are a fake host's slots for controllers.
type bays struct {
	mu       sync.Mutex
	plugged  map[string]*nvmetest.Controller
	instance map[string]uint64
	last     uint64
}

func (b *bays) NVMe() ([]Assigned, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Assigned
	for a := range b.plugged {
		out = append(out, Assigned{a, b.instance[a]})
	}
	return out, nil
}

func (b *bays) Open(address string) (pci.Function, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.plugged[address]; c != nil {
		return c, nil
	}
	return nil, pci.ErrGone
}

// plug puts a controller with one namespace of so many blocks into a bay.
func (b *bays) plug(t *testing.T, address, serial string, blocks uint64) *nvmetest.Controller {
	t.Helper()
	c := nvmetest.New(t, nvmetest.Config{Serial: serial, Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: blocks}}})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.plugged[address], b.instance[address] = c, b.last
	return c
}

// rig is disks over bays, with one front.
type rig struct {
	*disks
	bays   *bays
	target *scsi.Controller
}

func newRig(t *testing.T) *rig {
	t.Helper()
	b := &bays{plugged: map[string]*nvmetest.Controller{}, instance: map[string]uint64{}}
	log := slog.New(slog.DiscardHandler)
	r := &rig{disks: &disks{log: log}, bays: b, target: scsi.New(nil)}
	r.use(newControllers(b, 2, log))
	r.targets[config.FrontVirtioSCSI] = r.target
	t.Cleanup(r.close)
	return r
}

func (r *rig) luns() string { return fmt.Sprint(r.target.LUNs()) }

func one(serial string, lun int) config.Disk { return config.Disk{Serials: []string{serial}, LUN: lun} }

func TestDisksOfTheConfiguration(t *testing.T) {
	r := newRig(t)
	for i, serial := range []string{"root", "a", "b"} {
		r.bays.plug(t, fmt.Sprintf("0000:0%d:00.0", i), serial, 1024)
	}
	err := r.addAll([]config.Disk{
		one("root", 0),
		{Serials: []string{"a", "b"}, LUN: 5, Chunk: 4096, ReadOnly: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.luns() != "[0 5]" {
		t.Errorf("LUNs %v", r.luns())
	}
	if i := r.units[1].slot.Info(); i.Blocks != 2048 || !i.ReadOnly {
		t.Errorf("the stripe is %+v", i)
	}
	if err := r.add(t.Context(), one("root", 7)); err != nil {
		t.Logf("a second disk of one controller: %v", err)
	}
}

// TestUnusedDisks: a disk that no command reached is named, in the log once.
func TestUnusedDisks(t *testing.T) {
	r := newRig(t)
	var log strings.Builder
	r.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for i, serial := range []string{"a", "b"} {
		r.bays.plug(t, fmt.Sprintf("0000:0%d:00.0", i), serial, 1024)
	}
	if err := r.addAll([]config.Disk{one("a", 0), one("b", 3)}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	r.target.Submit(&scsi.Command{LUN: 0, Done: func(*scsi.Command) { close(done) }}) // TEST UNIT READY
	<-done
	w := r.unused()
	if len(w) != 1 || !strings.Contains(w[0], "disk 3 of virtio-scsi (b)") {
		t.Errorf("unused: %q", w)
	}
	r.warn()
	r.warn()
	if n := strings.Count(log.String(), "has not used disk 3 of virtio-scsi"); n != 1 || strings.Contains(log.String(), "disk 0") {
		t.Errorf("log: %s", log.String())
	}
	d := one("b", 3)
	if err := r.remove(&d); err != nil || len(r.unused()) != 0 {
		t.Errorf("%v, unused: %q", err, r.unused())
	}
}

// TestRefusals: what a target and a controller refused is counted by reason, also
// when the controller is gone.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	r.bays.plug(t, "0000:00:00.0", "a", 1024)
	d := one("a", 0)
	if err := r.add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	all := func() refusals {
		out := refusals{"msr-read": 1}
		r.refused(out)
		return out
	}
	r.counts = append(r.counts, func(c refusals) { c.add("fake", 2); c.add("never", 0) })
	if got := all(); !maps.Equal(got, refusals{"msr-read": 1, "fake": 2}) {
		t.Errorf("at first: %v", got)
	}
	for _, lun := range []uint16{0, 9} { // the power-on is told first; no such unit
		done := make(chan struct{})
		r.target.Submit(&scsi.Command{LUN: lun, Done: func(*scsi.Command) { close(done) }})
		<-done
	}
	if got := all(); got["scsi-illegal"] != 1 {
		t.Errorf("after a command to nobody: %v", got)
	}
	r.controllers.past.nvme(nvme.Stats{Errors: 2, Spurious: 1, BadHeads: 1})
	if err := r.remove(&d); err != nil {
		t.Fatal(err)
	}
	if got := all(); got["nvme-error"] != 2 || got["nvme-completion"] != 2 {
		t.Errorf("after the controller went: %v", got)
	}
}

// TestReasonsAreDocumented holds README to what can be reported.
func TestReasonsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("refused.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`r\.add\("([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(found) < 30 {
		t.Fatalf("%d reasons", len(found))
	}
	for _, m := range found {
		if !strings.Contains(string(readme), "`"+string(m[1])+"`") {
			t.Errorf("%s is not in README.md", m[1])
		}
	}
}

func TestAMissingDiskEndsTheRun(t *testing.T) {
	r := newRig(t)
	r.bays.plug(t, "0000:00:00.0", "other", 1024)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := r.add(ctx, one("root", 0))
	if err == nil || !strings.Contains(err.Error(), `"root"`) {
		t.Errorf("%v", err)
	}
	if r.luns() != "[]" {
		t.Errorf("LUNs %v", r.luns())
	}
	// What addAll makes of such an error has an exit code of its own.
	err = r.addAll([]config.Disk{{Serials: []string{"other"}, Front: config.FrontStorVSC}})
	if f, ok := errors.AsType[*handoff.Failure](err); !ok || f.Outcome != handoff.OutcomeBadDisk || f.Remedy == "" {
		t.Errorf("%v", err)
	}
}

func TestOneSerialNumberTwice(t *testing.T) {
	r := newRig(t)
	a, b := r.bays.plug(t, "0000:00:00.0", "same", 1024), r.bays.plug(t, "0000:01:00.0", "same", 1024)
	if err := r.controllers.find(); err != nil {
		t.Fatal(err)
	}
	if a.Closed() == b.Closed() {
		t.Errorf("closed: %v and %v, want one", a.Closed(), b.Closed())
	}
}

func TestDiskGrows(t *testing.T) {
	r := newRig(t)
	d := one("data", 1)
	old := r.bays.plug(t, "0000:00:00.0", "data", 1024)
	if err := r.add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := r.command(handoff.CommandDiskHold, d); err != nil {
		t.Fatal(err)
	}
	if !old.Closed() {
		t.Error("the controller was not given back")
	}
	done := make(chan error, 1)
	flush := &blk.Request{Op: blk.OpFlush, Done: func(r *blk.Request) { done <- r.Err }}
	r.units[0].slot.Submit(0, flush)
	r.bays.plug(t, "0000:00:00.0", "data", 4096) // at the same address
	if err := r.command(handoff.CommandDiskResume, d); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a request that waited: %v", err)
	}
	if n := r.units[0].slot.Info().Blocks; n != 4096 {
		t.Errorf("%d blocks", n)
	}
	if err := r.command(handoff.CommandDiskRemove, d); err != nil || r.luns() != "[]" {
		t.Errorf("%v, LUNs %v", err, r.luns())
	}
	for _, k := range []handoff.CommandKind{handoff.CommandDiskRemove, handoff.CommandDiskHold, handoff.CommandDiskResume, handoff.CommandNMI} {
		if err := r.command(k, d); err == nil {
			t.Errorf("%s of a disk that is not there", k)
		}
	}
}

func TestTheHostTakesAControllerAway(t *testing.T) {
	r := newRig(t)
	c := r.bays.plug(t, "0000:00:00.0", "data", 1024)
	if err := r.add(t.Context(), one("data", 1)); err != nil {
		t.Fatal(err)
	}
	c.Unplug()
	for deadline := time.Now().Add(time.Minute); !c.Closed() || r.luns() != "[]"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("closed %v, LUNs %v", c.Closed(), r.luns())
		}
	}
}
