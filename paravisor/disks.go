package paravisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/paravisor/config"
	"keel/translate/blk"
	"keel/translate/scsi"
)

// diskPatience bounds the wait for controllers that the host has promised, and for
// the requests of one that it wants back.
const diskPatience = 20 * time.Second

// disks are what the guest sees of the host's NVMe controllers.
type disks struct {
	controllers *controllers
	targets     [config.Fronts]*scsi.Controller // nil for a front that is not there
	counts      []func(refusals)                // what each front has refused
	log         *slog.Logger
	capturing   atomic.Bool // a capture is under way

	mu    sync.Mutex
	units []*unit
}

// unit is a disk of the guest's.
type unit struct {
	config.Disk
	slot   *blk.Slot
	warned bool // the log says that the guest has not used it
}

// use says where the controllers are.
func (d *disks) use(c *controllers) {
	d.controllers, c.lost = c, d.lost
}

// addAll makes the disks of the configuration. A disk that cannot be made ends the
// run: a guest without it would look like success.
func (d *disks) addAll(list []config.Disk) error {
	ctx, cancel := context.WithTimeout(context.Background(), diskPatience)
	defer cancel()
	for _, c := range list {
		if err := d.add(ctx, c); err != nil {
			return &handoff.Failure{
				Outcome: handoff.OutcomeBadDisk, Err: err, Remedy: "see the paravisor's log (--log), and give each disk with --disk",
				Cause: fmt.Sprintf("disk %d of %v cannot be made", c.LUN, c.Front),
			}
		}
	}
	return nil
}

// add shows the guest a disk.
func (d *disks) add(ctx context.Context, c config.Disk) error {
	target := d.targets[c.Front]
	if target == nil {
		return fmt.Errorf("the guest was started without a %v controller", c.Front)
	}
	disk, err := d.compose(ctx, &c)
	if err != nil {
		return err
	}
	kind := scsi.Disk
	if c.DVD {
		kind = scsi.DVD
	}
	u := &unit{Disk: c, slot: blk.NewSlot(disk, c.ReadOnly)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := target.Add(uint16(c.LUN), kind, u.slot); err != nil {
		return err
	}
	d.units = append(d.units, u)
	info := u.slot.Info()
	d.log.Info("the guest has a disk", inspect.PublicAttr("front", c.Front), inspect.PublicAttr("lun", c.LUN), inspect.PublicAttr("serials", c.Serials),
		inspect.PublicAttr("blocks", info.Blocks), inspect.PublicAttr("block_size", info.BlockSize), inspect.PublicAttr("read_only", info.ReadOnly))
	return nil
}

// compose makes one disk of the controllers that a configuration names.
func (d *disks) compose(ctx context.Context, c *config.Disk) (blk.Disk, error) {
	found, err := d.controllers.wait(ctx, c.Serials)
	if err != nil {
		return nil, err
	}
	var members []blk.Disk
	for _, a := range found {
		namespaces := a.Namespaces()
		if len(namespaces) == 0 {
			return nil, fmt.Errorf("the controller %q has no namespace that can be used", a.Serial())
		}
		members = append(members, namespaces[0])
	}
	if len(members) == 1 {
		return members[0], nil
	}
	size := members[0].Info().BlockSize
	if c.Chunk < size {
		return nil, fmt.Errorf("a chunk of %d bytes is less than a block of %d", c.Chunk, size)
	}
	return blk.NewStripe(c.Chunk/size, members...)
}

// find returns the unit that matches, nil when there is none. With drop it is the
// guest's no more.
func (d *disks) find(drop bool, match func(*unit) bool) *unit {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.units, match)
	if i < 0 {
		return nil
	}
	u := d.units[i]
	if drop {
		d.units = slices.Delete(d.units, i, i+1)
	}
	return u
}

// unusedPatience is how long a guest may take to find its disks before the log says
// that it does not.
const unusedPatience = 2 * time.Minute

// unused says which disks the guest has never sent a command: one without the driver
// of a front boots as if there were no disk.
func (d *disks) unused() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, u := range d.units {
		if !d.targets[u.Front].Reached(uint16(u.LUN)) {
			out = append(out, u.unused())
		}
	}
	return out
}

func (u *unit) unused() string {
	return fmt.Sprintf("the guest has not used disk %d of %v (%s); load its driver in the guest, or use another front",
		u.LUN, u.Front, strings.Join(u.Serials, ", "))
}

// warn logs them, each once.
func (d *disks) warn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.units {
		if !u.warned && !d.targets[u.Front].Reached(uint16(u.LUN)) {
			u.warned = true
			d.log.Warn("the guest does not use a disk", inspect.PublicAttr("cause", u.unused()))
		}
	}
}

// of matches the unit of the same controllers.
func of(c *config.Disk) func(*unit) bool {
	return func(u *unit) bool { return slices.Equal(u.Serials, c.Serials) }
}

func errNoDisk(c *config.Disk) error {
	return fmt.Errorf("the guest has no disk of the controllers %q", c.Serials)
}

// remove takes a disk from the guest and gives its controllers back.
func (d *disks) remove(c *config.Disk) error {
	u := d.find(true, of(c))
	if u == nil {
		return errNoDisk(c)
	}
	// The target may have dropped it when the host took the controller away.
	if err := d.targets[u.Front].Remove(uint16(u.LUN)); err != nil {
		d.log.Warn("the disk was gone before", inspect.PublicAttr("lun", u.LUN), inspect.PublicAttr("error", err))
	}
	err := d.controllers.release(u.Serials)
	u.slot.Remove()
	return err
}

// lost takes a disk away whose controller went without a word. The guest's requests
// end.
func (d *disks) lost(serial string) {
	u := d.find(true, func(u *unit) bool { return slices.Contains(u.Serials, serial) })
	if u != nil {
		u.slot.Remove()
	}
}

// hold lets the guest's requests to a disk wait and gives its controllers back.
func (d *disks) hold(ctx context.Context, c *config.Disk) error {
	u := d.find(false, of(c))
	if u == nil {
		return errNoDisk(c)
	}
	if err := u.slot.Hold(ctx); err != nil {
		return fmt.Errorf("requests did not end: %w", err)
	}
	return d.controllers.release(u.Serials)
}

// resume goes on with controllers that were plugged in again.
func (d *disks) resume(ctx context.Context, c *config.Disk) error {
	u := d.find(false, of(c))
	if u == nil {
		return errNoDisk(c)
	}
	disk, err := d.compose(ctx, &u.Disk)
	if err != nil {
		return err
	}
	u.slot.Replace(disk)
	return nil
}

// command does what the launcher asks about a disk.
func (d *disks) command(kind handoff.CommandKind, c config.Disk) error {
	ctx, cancel := context.WithTimeout(context.Background(), diskPatience)
	defer cancel()
	switch kind {
	case handoff.CommandDiskAdd:
		return d.add(ctx, c)
	case handoff.CommandDiskRemove:
		return d.remove(&c)
	case handoff.CommandDiskHold:
		return d.hold(ctx, &c)
	case handoff.CommandDiskResume:
		return d.resume(ctx, &c)
	default:
		return fmt.Errorf("%q is no command about a disk", kind)
	}
}

// close gives all controllers back, in order: what the guest wrote is on its way to
// stable storage.
func (d *disks) close() {
	if err := d.controllers.close(); err != nil {
		d.log.Warn("a controller did not shut down in order", inspect.PublicAttr("error", err))
	}
}
