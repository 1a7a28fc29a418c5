package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"keel/boot/handoff"
)

// addDisk plugs the controllers of a new disk in and has Keel show it.
func (l *live) addDisk(ctx context.Context, d Disk) error {
	d.Serials = nil
	all := append(slices.Clone(l.disks), d)
	if err := NameDisks(all); err != nil {
		return err
	}
	d = all[len(all)-1]
	var plugged []controller
	for i, file := range d.Files {
		port, ok := l.freePort(plugged)
		if !ok {
			return errors.Join(badDisk(nil, "start the VM with a disk, and remove those that are not needed",
				"the VM has no free port: %d are taken", l.ports), l.pull(ctx, plugged))
		}
		c := controller{number: l.next, port: port, file: file, serial: d.Serials[i], disk: &d}
		l.next++
		if err := l.plug(ctx, c); err != nil {
			return errors.Join(err, l.pull(ctx, plugged))
		}
		plugged = append(plugged, c)
	}
	if err := l.tell(ctx, handoff.CommandDiskAdd, &d); err != nil {
		return errors.Join(err, l.pull(ctx, plugged))
	}
	l.disks, l.ctls = all, append(l.ctls, plugged...)
	return nil
}

// removeDisk has Keel take a disk away and pulls its controllers.
func (l *live) removeDisk(ctx context.Context, d Disk) error {
	i, mine, err := l.find(d)
	if err != nil {
		return err
	}
	if err := l.tell(ctx, handoff.CommandDiskRemove, &l.disks[i]); err != nil {
		return err
	}
	err = l.pull(ctx, mine)
	l.disks = slices.Delete(slices.Clone(l.disks), i, i+1)
	l.drop(mine)
	return err
}

// growDisk shows the guest the new size of a disk. NVMe as QEMU emulates it has one
// size from start to end: the controllers are exchanged while the guest's requests
// wait.
func (l *live) growDisk(ctx context.Context, d Disk) error {
	i, mine, err := l.find(d)
	if err != nil {
		return err
	}
	disk := &l.disks[i]
	if err := l.tell(ctx, handoff.CommandDiskHold, disk); err != nil {
		return err
	}
	err = l.replug(ctx, mine)
	if err == nil {
		err = l.tell(ctx, handoff.CommandDiskResume, disk)
	}
	if err != nil {
		// The guest must not wait for ever.
		return errors.Join(err, l.removeDisk(ctx, *disk))
	}
	return nil
}

// replug pulls controllers and plugs them in again.
func (l *live) replug(ctx context.Context, mine []controller) error {
	if err := l.pull(ctx, mine); err != nil {
		return err
	}
	l.drop(mine)
	for _, c := range mine {
		c.number = l.next
		l.next++
		if err := l.plug(ctx, c); err != nil {
			return err
		}
		l.ctls = append(l.ctls, c)
	}
	return nil
}

// find returns the live disk with the same files.
func (l *live) find(d Disk) (i int, mine []controller, err error) {
	i = slices.IndexFunc(l.disks, func(o Disk) bool { return !o.Hidden && slices.Equal(o.Files, d.Files) })
	if i < 0 {
		return 0, nil, badDisk(nil, "name the file as it was named when the disk came", "the VM has no disk %q", d.Files)
	}
	for _, c := range l.ctls {
		if slices.Contains(l.disks[i].Serials, c.serial) {
			c.disk = &l.disks[i]
			mine = append(mine, c)
		}
	}
	return i, mine, nil
}

// drop forgets controllers that were pulled.
func (l *live) drop(pulled []controller) {
	l.ctls = slices.DeleteFunc(l.ctls, func(c controller) bool {
		return slices.ContainsFunc(pulled, func(p controller) bool { return p.number == c.number })
	})
}

// freePort returns a root port that no controller has.
func (l *live) freePort(plugged []controller) (int, bool) {
	for p := range l.ports {
		taken := func(c controller) bool { return c.port == p }
		if !slices.ContainsFunc(l.ctls, taken) && !slices.ContainsFunc(plugged, taken) {
			return p, true
		}
	}
	return 0, false
}

// plug gives the VM one controller.
func (l *live) plug(ctx context.Context, c controller) error {
	m := &l.session.monitor
	if err := m.do(ctx, "blockdev-add", c.image()); err != nil {
		return badDisk(err, "make the file usable", "QEMU cannot open %s", c.file)
	}
	if err := m.do(ctx, "device_add", c.device()); err != nil {
		return errors.Join(badDisk(err, "", "QEMU cannot plug %s in", c.file), l.forget(ctx, c))
	}
	return nil
}

// pull takes controllers from the VM.
func (l *live) pull(ctx context.Context, ctls []controller) error {
	var errs []error
	for _, c := range ctls {
		err := l.session.monitor.unplug(ctx, c.name())
		if err == nil {
			err = l.forget(ctx, c)
		}
		if err != nil {
			errs = append(errs, badDisk(err, "", "QEMU cannot unplug %s", c.file))
		}
	}
	return errors.Join(errs...)
}

// forget closes the image of a controller that is gone.
func (l *live) forget(ctx context.Context, c controller) error {
	err := l.session.monitor.do(ctx, "blockdev-del", map[string]any{"node-name": c.node()})
	if err != nil {
		return fmt.Errorf("closing %s: %w", c.file, err)
	}
	return nil
}
