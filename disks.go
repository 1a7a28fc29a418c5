package main

import (
	"context"
	"path/filepath"

	"keel/boot/qemu"
	"keel/paravisor/config"
)

// loadDisks reads what disks were asked for.
func (f *runFlags) loadDisks() error {
	for _, text := range f.disks {
		d, err := parseDisk(text)
		if err != nil {
			return err
		}
		f.Disks = append(f.Disks, d)
	}
	f.DiskConfig = func(d *qemu.Disk) ([]byte, error) { return config.MarshalDisk(configDisk(d)) }
	return nil
}

// parseDisk reads the value of --disk. The launcher of a live VM may have another
// working directory: files get their whole names.
func parseDisk(text string) (qemu.Disk, error) {
	d, err := qemu.ParseDisk(text)
	if err != nil {
		return d, err
	}
	for i, file := range d.Files {
		if d.Files[i], err = filepath.Abs(file); err != nil {
			return d, err
		}
	}
	return d, nil
}

// configDisks says the guest's disks to the paravisor.
func configDisks(disks []qemu.Disk) []config.Disk {
	var out []config.Disk
	for i := range disks {
		if !disks[i].Hidden {
			out = append(out, configDisk(&disks[i]))
		}
	}
	return out
}

func configDisk(d *qemu.Disk) config.Disk {
	c := config.Disk{Serials: d.Serials, LUN: d.LUN, ReadOnly: d.ReadOnly, DVD: d.DVD, Chunk: uint32(d.Chunk)}
	if d.Front == qemu.FrontStorVSC {
		c.Front = config.FrontStorVSC
	}
	return c
}

// changes tells whether the command changes a VM that runs instead of starting one.
func (f *runFlags) changes() bool { return f.diskAdd != "" || f.diskRemove != "" || f.diskGrow != "" }

// change asks the launcher of a live VM, in the order of removal, growth, addition.
func (f *runFlags) change(ctx context.Context) error {
	for _, c := range []struct {
		kind qemu.ChangeKind
		disk string
	}{
		{qemu.ChangeDiskRemove, f.diskRemove}, {qemu.ChangeDiskGrow, f.diskGrow}, {qemu.ChangeDiskAdd, f.diskAdd},
	} {
		if c.disk == "" {
			continue
		}
		d, err := parseDisk(c.disk)
		if err != nil {
			return err
		}
		if err := qemu.Ask(ctx, f.Name, qemu.Change{Kind: c.kind, Disk: d}); err != nil {
			return err
		}
	}
	return nil
}
