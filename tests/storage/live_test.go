package storage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
	"keel/tests/storage/durable"
)

// TestHotplug adds, grows and removes a disk while another one works.
func TestHotplug(t *testing.T) {
	t.Parallel()
	for _, m := range machines(virtio61x4, storvsc61x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			load, added := image(t, 64), image(t, 32)
			r := tool.Start(t, m.flags([]string{load}, ScriptHotplug, "lun=1")...)
			event := func(words string) {
				t.Helper()
				r.Until(t, "event "+words, func() bool { return HasEvent(r.Console(), words) })
			}
			event("ready")
			change(t, r, "--disk-add", m.disk(added))
			event(fmt.Sprintf("appear %d", 32<<20/512))
			if err := os.Truncate(added, 48<<20); err != nil {
				t.Fatal(err)
			}
			change(t, r, "--disk-grow", m.disk(added))
			event(fmt.Sprintf("grow %d", 48<<20/512))
			change(t, r, "--disk-remove", m.disk(added))
			r.Wait(t, handoff.OutcomePoweroff)
			judge(t, r, "hotplug", "load")
		})
	}
}

// change asks for a change of the run.
func change(t *testing.T, r *harness.Run, flag, disk string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, tool.Path, "run", "--name", r.Name, flag, disk).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", flag, err, out)
	}
}

// TestDurability kills QEMU in the middle of writes and looks for what the guest was
// told to be durable.
func TestDurability(t *testing.T) {
	t.Parallel()
	layout := durable.Layout{Jobs: 4, Slots: 256}
	params := []string{fmt.Sprintf("jobs=%d", layout.Jobs), fmt.Sprintf("slots=%d", layout.Slots)}
	some := machines(virtio61x1, storvsc61x4)
	one := func(m machine) bool { return m.VPs == 1 }
	several := slices.DeleteFunc(slices.Clone(some), one)
	some = slices.DeleteFunc(some, func(m machine) bool { return !one(m) })
	kills := len(some) + len(several)
	if harness.Soak() {
		kills = 50
	}
	for i := range kills {
		m := some[i%len(some)]
		if i%5 == 1 { // they are slow
			m = several[i/5%len(several)]
		}
		t.Run(fmt.Sprintf("%d/%s", i+1, m), func(t *testing.T) {
			t.Parallel()
			disk := image(t, int(layout.Bytes()>>20))
			r := tool.Start(t, m.flags([]string{disk}, ScriptDurable, params...)...)
			// Not always at the same moment: some blocks, or every slot several times.
			enough := uint64(20 + i%5*200)
			r.Until(t, "acknowledged blocks", func() bool {
				total := uint64(0)
				for _, n := range durable.Acks(r.Console(), layout.Jobs) {
					total += n
				}
				return total >= enough
			})
			r.KillVM(t)
			r.Wait(t, handoff.OutcomeVMLost)
			f, err := os.Open(disk)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			acks := durable.Acks(r.Console(), layout.Jobs)
			t.Logf("acknowledged: %d", acks)
			if err := durable.Verify(f, layout, acks); err != nil {
				t.Error(err)
			}
		})
	}
}
