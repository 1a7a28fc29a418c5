package peer

import (
	"slices"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	option := func(m Machine, name string) string {
		c := m.Command()
		return c[slices.Index(c, name)+1]
	}
	m := Machine{IRQChip: "on", VPs: 2, Memory: 512 << 20, Append: "console=ttyS0 panic=-1"}
	for name, want := range map[string]string{
		"-accel": "kvm,kernel-irqchip=on", "-cpu": "host", "-smp": "2", "-m": "512M", "-append": m.Append,
	} {
		if got := option(m, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	m.Emulated = true
	if got := option(m, "-cpu"); got != "host,-xsave" {
		t.Errorf("-cpu is %q in an emulated VM", got)
	}
	m.IRQChip = "off"
	if got := option(m, "-cpu"); !strings.Contains(got, ",-tsc-deadline") || !strings.Contains(got, ",-xsave") {
		t.Errorf("-cpu is %q without KVM's interrupt controllers", got)
	}
}

func TestDisk(t *testing.T) {
	m := Machine{IRQChip: "on", VPs: 1, Memory: 512 << 20}
	if c := m.Command(); slices.Contains(c, "-blockdev") {
		t.Errorf("a machine without a disk is %q", c)
	}
	m.Disk = "/dev/nvme0n1"
	c := strings.Join(m.Command(), " ")
	for _, want := range []string{"filename=/dev/nvme0n1,cache.direct=on,aio=native", "virtio-scsi-pci,id=scsi,iothread=disk"} {
		if !strings.Contains(c, want) {
			t.Errorf("no %s in %q", want, c)
		}
	}
}
