package boot

import (
	"os"
	"testing"

	"keel/boot/qemu"
)

// Budgets of DESIGN, section 6, that a single run can tell.
const (
	maxVTL2Memory = 48 << 20 // at 2 VPs
	maxImage      = 16 << 20
)

// checkReport checks what the report of a good run must say.
func checkReport(t *testing.T, r qemu.Report, vps int) {
	t.Helper()
	last := 0.0
	for _, moment := range []struct {
		name string
		ms   *float64
	}{
		{"vtl2_init_ms", r.VTL2InitMS},
		{"paravisor_start_ms", r.ParavisorStartMS},
		{"guest_entry_ms", r.GuestEntryMS},
		{"guest_end_ms", r.GuestEndMS},
	} {
		if moment.ms == nil || *moment.ms <= last {
			t.Errorf("%s is %v after %v", moment.name, moment.ms, last)
			continue
		}
		last = *moment.ms
	}
	if len(r.Exits) == 0 {
		t.Error("the report counts no exits")
	}
	if r.VPs != vps {
		t.Errorf("the report says %d VPs, want %d", r.VPs, vps)
	}
	if r.VTL2MemoryUsedBytes == 0 || r.VTL2MemoryPeakBytes < r.VTL2MemoryUsedBytes {
		t.Errorf("VTL2 uses %d bytes, at most %d", r.VTL2MemoryUsedBytes, r.VTL2MemoryPeakBytes)
	}
	if vps <= 2 && r.VTL2MemoryPeakBytes > maxVTL2Memory {
		t.Errorf("VTL2 needed %d bytes, more than %d", r.VTL2MemoryPeakBytes, maxVTL2Memory)
	}
	info, err := os.Stat(tool.Image)
	if err != nil {
		t.Fatal(err)
	}
	if r.ImageBytes != info.Size() || r.ImageBytes > maxImage {
		t.Errorf("the report says that the image has %d bytes; it has %d and may have %d", r.ImageBytes, info.Size(), maxImage)
	}
	if r.BadEvents != 0 {
		t.Errorf("%d lines on the control channel were no events", r.BadEvents)
	}
}
