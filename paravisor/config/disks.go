package config

import (
	"fmt"
	"math/bits"

	"google.golang.org/protobuf/encoding/protojson"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// fronts translates the enumeration; zero means the default.
var fronts = map[configpb.DiskFront]Front{
	configpb.DiskFront_DISK_FRONT_UNSPECIFIED: FrontVirtioSCSI,
	configpb.DiskFront_DISK_FRONT_VIRTIO_SCSI: FrontVirtioSCSI,
	configpb.DiskFront_DISK_FRONT_STORVSC:     FrontStorVSC,
}

// checkDisks checks each disk, and that no two of them collide.
func checkDisks(c *Config, m *configpb.Config) error {
	if n, most := len(m.GetDisks()), MaxDisks*int(Fronts); n > most {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use at most %d", most), "%d disks are too many", n)
	}
	type unit struct {
		front Front
		lun   int
	}
	units, serials := map[unit]bool{}, map[string]bool{}
	for i, p := range m.GetDisks() {
		d, err := disk(i, p)
		if err != nil {
			return err
		}
		if u := (unit{d.Front, d.LUN}); units[u] {
			return bad(handoff.OutcomeBadConfig, "give each disk its own", "disks[%d] has lun = %d of another disk", i, d.LUN)
		}
		units[unit{d.Front, d.LUN}] = true
		for _, s := range d.Serials {
			if serials[s] {
				return bad(handoff.OutcomeBadConfig, "use a controller once", "disks[%d] has the controller %q of another disk", i, s)
			}
			serials[s] = true
		}
		c.Disks = append(c.Disks, d)
	}
	return nil
}

// disk checks one disk by itself.
func disk(i int, p *configpb.Disk) (Disk, error) {
	d := Disk{Serials: p.GetSerials(), LUN: int(p.GetLun()), ReadOnly: p.GetReadOnly(), DVD: p.GetDvd(), Chunk: p.GetChunkBytes()}
	var ok bool
	if d.Front, ok = fronts[p.GetFront()]; !ok {
		return d, bad(handoff.OutcomeBadConfig, "use one of the named fronts", "disks[%d] has the unknown front %d", i, p.GetFront())
	}
	if p.GetLun() >= MaxDisks {
		return d, bad(handoff.OutcomeBadConfig, fmt.Sprintf("use 0 to %d", MaxDisks-1), "disks[%d] has lun = %d", i, p.GetLun())
	}
	if n := len(d.Serials); n < 1 || n > MaxStripe {
		return d, bad(handoff.OutcomeBadConfig, fmt.Sprintf("name 1 to %d", MaxStripe), "disks[%d] has %d controllers", i, n)
	}
	for _, s := range d.Serials {
		if s == "" || len(s) > MaxSerial || unprintable(s) >= 0 {
			return d, bad(handoff.OutcomeBadConfig, fmt.Sprintf("use 1 to %d printable characters", MaxSerial),
				"disks[%d] has a serial number that no controller can have", i)
		}
	}
	stripe := len(d.Serials) > 1
	if stripe && (d.Chunk < MinChunk || d.Chunk > MaxChunk || bits.OnesCount32(d.Chunk) != 1) || !stripe && d.Chunk != 0 {
		return d, bad(handoff.OutcomeBadConfig, fmt.Sprintf("use a power of two from %d to %d, and only for a stripe", MinChunk, MaxChunk),
			"disks[%d] has chunkBytes = %d", i, d.Chunk)
	}
	if stripe && d.DVD {
		return d, bad(handoff.OutcomeBadConfig, "use one controller", "disks[%d] is a DVD over several controllers", i)
	}
	d.ReadOnly = d.ReadOnly || d.DVD
	return d, nil
}

// MarshalDisk checks one disk and writes it as ParseDisk reads it.
func MarshalDisk(d Disk) ([]byte, error) {
	p := disksToProto([]Disk{d})[0]
	if _, err := disk(0, p); err != nil {
		return nil, err
	}
	return protojson.Marshal(p)
}

// ParseDisk reads a disk that comes while the guest runs, and checks it as the
// configuration's. Whether it collides with another one is for the caller to see.
func ParseDisk(data []byte) (Disk, error) {
	var p configpb.Disk
	opts := protojson.UnmarshalOptions{RecursionLimit: 4}
	if err := opts.Unmarshal(data, &p); err != nil {
		return Disk{}, bad(handoff.OutcomeBadConfig, "let the `keel` that built the image write it", "%s", oneLine(err))
	}
	return disk(0, &p)
}

// disksToProto is the inverse of checkDisks.
func disksToProto(disks []Disk) []*configpb.Disk {
	var out []*configpb.Disk
	for _, d := range disks {
		p := &configpb.Disk{
			Serials: d.Serials, Front: -1, Lun: uint32(d.LUN), ReadOnly: d.ReadOnly, Dvd: d.DVD, ChunkBytes: d.Chunk,
		}
		for name, front := range fronts {
			if front == d.Front && name != configpb.DiskFront_DISK_FRONT_UNSPECIFIED {
				p.Front = name
			}
		}
		out = append(out, p)
	}
	return out
}
