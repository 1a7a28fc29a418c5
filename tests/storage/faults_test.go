package storage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// Faults that the host makes and the guest meets.
const (
	faultRead  = "read"  // of one block
	faultWrite = "write" // to one block
	faultFlush = "flush"
	faultLate  = "late" // no answer until the controller was reset
	faultDead  = "dead" // no answer, whatever is done about it
	faultGone  = "gone" // the controller is pulled out
)

// spoiled is the first sector that cannot be read, or written.
const spoiled = 2048

// Blocks of QEMU: the launcher calls the n-th image and its controller so.
func imageNode(n int) string  { return fmt.Sprintf("image%d", n) }
func controller(n int) string { return fmt.Sprintf("nvme%d", n) }

// TestFaults makes real faults under a disk: QEMU's blkdebug fails requests, a
// throttle lets them wait, a controller is unplugged. The guest must get the right
// errors, another disk of its must not notice.
func TestFaults(t *testing.T) {
	t.Parallel()
	faults := []string{faultRead, faultWrite, faultFlush, faultLate, faultGone}
	if harness.Soak() { // it takes minutes of waiting
		faults = []string{faultRead, faultWrite, faultFlush, faultLate, faultDead, faultGone}
	}
	for _, m := range machines(virtio510x1, storvsc61x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			qmp, extra := harness.NewMonitor(t)
			flags := m.flags([]string{image(t, 16), image(t, 64)}, ScriptFaults, "faults="+strings.Join(faults, ","))
			r := tool.Start(t, append(flags, extra...)...)
			event := func(words string) {
				t.Helper()
				r.Until(t, "event "+words, func() bool { return HasEvent(r.Console(), words) })
			}
			event("ready")
			qmp.Dial(t)
			passing(t, r, qmp)
			for _, f := range faults {
				event("want " + f)
				mend := makeFault(t, r, qmp, f)
				if f == faultLate {
					r.Until(t, "reset of the controller", func() bool { return strings.Contains(r.Log(), "NVMe controller is reset") })
				} else if f != faultGone {
					event("met " + f)
				}
				mend()
				event("over " + f)
			}
			report := r.Wait(t, handoff.OutcomePoweroff)
			judge(t, r, append(faults, "load")...)
			for _, reason := range []string{"scsi-error", "nvme-error", "nvme-timeout", "nvme-reset"} {
				if report.Refused[reason] == 0 {
					t.Errorf("no %s in %v", reason, report.Refused)
				}
			}
		})
	}
}

// TestDriverMissing: a guest that lacks the driver of its disk's front runs, and log
// and report name the disk.
func TestDriverMissing(t *testing.T) {
	t.Parallel()
	for _, m := range machines(storvsc510x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			g := guests[m.Kernel]
			missing := drivers[m.Front][1] // the bus is found
			others := slices.DeleteFunc(slices.Clone(g.Modules(m.Front)), func(module string) bool { return module == missing })
			r := tool.Start(t, append(m.base([]string{image(t, 1)}), "--initrd", g.Tools, "--append", harness.ScriptCmdline(others, ScriptAbsent))...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			judge(t, r, "absent")
			want := "the guest has not used disk 0 of " + m.Front
			if w := report.Warnings; len(w) != 1 || !strings.HasPrefix(w[0], want) {
				t.Errorf("warnings: %q", w)
			}
			if !strings.Contains(r.Log(), want) {
				t.Error("the log does not say so")
			}
		})
	}
}

// passing makes one read and one write of the second disk fail, once: nobody above the
// driver may notice.
func passing(t *testing.T, r *harness.Run, qmp *harness.Monitor) {
	t.Helper()
	mend := insert(t, qmp, 1, map[string]any{"driver": "blkdebug", "image": imageNode(1), "inject-error": []map[string]any{
		{"event": "none", "iotype": "read", "errno": 5, "once": true},
		{"event": "none", "iotype": "write", "errno": 5, "once": true},
	}})
	r.Until(t, "failed requests", func() bool {
		var all []struct {
			QDev  string
			Stats struct {
				Reads  uint64 `json:"failed_rd_operations"`
				Writes uint64 `json:"failed_wr_operations"`
			}
		}
		qmp.Do(t, "query-blockstats", nil, &all)
		for _, b := range all {
			if strings.Contains(b.QDev, controller(1)) {
				return b.Stats.Reads > 0 && b.Stats.Writes > 0
			}
		}
		return false
	})
	mend()
}

// makeFault makes a fault of the first disk and returns what mends it.
func makeFault(t *testing.T, r *harness.Run, qmp *harness.Monitor, fault string) (mend func()) {
	t.Helper()
	rule := map[string]any{"event": "none", "errno": 5}
	switch fault {
	case faultRead, faultWrite:
		rule["iotype"], rule["sector"] = fault, spoiled
	case faultFlush:
		rule["iotype"] = fault
	case faultLate, faultDead:
		// The guest's second read of 256 KiB waits a minute for the first one.
		qmp.Do(t, "object-add", map[string]any{"qom-type": "throttle-group", "id": fault, "limits": map[string]any{"bps-total": 4096}}, nil)
		return insert(t, qmp, 0, map[string]any{"driver": "throttle", "throttle-group": fault, "file": imageNode(0)})
	case faultGone:
		qmp.Do(t, "device_del", map[string]any{"id": controller(0)}, nil)
		return func() {
			r.Until(t, "end of the controller", func() bool {
				var devices []struct{ Name string }
				qmp.Do(t, "qom-list", map[string]any{"path": "/machine/peripheral"}, &devices)
				for _, d := range devices {
					if d.Name == controller(0) {
						return false
					}
				}
				return true
			})
		}
	}
	return insert(t, qmp, 0, map[string]any{"driver": "blkdebug", "image": imageNode(0), "inject-error": []map[string]any{rule}})
}

// insert puts a filter between a controller and its image and returns what takes it
// away again. What the filter holds back ends then.
func insert(t *testing.T, qmp *harness.Monitor, disk int, filter map[string]any) (remove func()) {
	t.Helper()
	const name = "fault"
	filter = maps.Clone(filter)
	filter["node-name"] = name
	qmp.Do(t, "blockdev-add", filter, nil)
	use := func(node string) {
		qmp.Do(t, "qom-set", map[string]any{"path": "/machine/peripheral/" + controller(disk), "property": "drive", "value": node}, nil)
	}
	use(name)
	return func() {
		use(imageNode(disk))
		qmp.Do(t, "blockdev-del", map[string]any{"node-name": name}, nil)
	}
}
