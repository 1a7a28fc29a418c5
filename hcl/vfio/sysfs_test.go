package vfio

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keel/hcl"
)

const (
	classNVMe   = 0x010802
	classEther  = 0x020000
	addressNVMe = "0000:00:03.0"
)

func TestFind(t *testing.T) {
	tr, m := newTree(t)
	tr.add("0000:01:00.0", classNVMe, "vfio-pci", 7)
	tr.add(addressNVMe, classNVMe, "", NoGroup)
	tr.add("0000:00:02.0", classEther, "", 2)
	tr.dir("bus/pci/devices/10000:00:00.0") // of a 32-bit domain
	got, err := m.Find(classNVMe, 0xffffff)
	if err != nil {
		t.Fatal(err)
	}
	want := []Candidate{
		{addressNVMe, 0x1b36, 0x10, classNVMe, "", NoGroup, 0},
		{"0000:01:00.0", 0x1b36, 0x10, classNVMe, "vfio-pci", 7, 0},
	}
	if len(got) == 2 && (got[0].Instance == 0 || got[0].Instance == got[1].Instance) {
		t.Errorf("instances %d and %d", got[0].Instance, got[1].Instance)
	}
	for i := range got {
		got[i].Instance = 0
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
	if all, err := m.Find(0, 0); err != nil || len(all) != 3 {
		t.Errorf("a mask of zero found %d, %v", len(all), err)
	}
	if mass, err := m.Find(0x01ffff, 0xff0000); err != nil || len(mass) != 2 {
		t.Errorf("mass storage: %d, %v", len(mass), err)
	}
}

func TestFindRefuses(t *testing.T) {
	for name, spoil := range map[string]func(tr *tree){
		"class of 32 bits": func(tr *tree) { tr.file("bus/pci/devices/"+addressNVMe+"/class", "0x01080200") },
		"class decimal":    func(tr *tree) { tr.file("bus/pci/devices/"+addressNVMe+"/class", "67586") },
		"vendor long":      func(tr *tree) { tr.file("bus/pci/devices/"+addressNVMe+"/vendor", "0x"+strings.Repeat("1", 1000)) },
		"group": func(tr *tree) {
			tr.link("../../../kernel/iommu_groups/-1", "bus/pci/devices/"+addressNVMe+"/iommu_group")
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr, m := newTree(t)
			tr.add(addressNVMe, classNVMe, "", NoGroup)
			spoil(tr)
			if got, err := m.Find(0, 0); !errors.Is(err, ErrFind) {
				t.Errorf("found %v, %v; want ErrFind", got, err)
			}
		})
	}
	if _, err := (Machine{Sysfs: t.TempDir()}).Find(0, 0); !errors.Is(err, ErrFind) {
		t.Errorf("no PCI bus: %v", err)
	}
}

func TestAddress(t *testing.T) {
	for a, ok := range map[string]bool{
		"0000:00:03.0": true, "ffff:ff:1f.7": true,
		"": false, "0000:00:03.8": false, "0000:00:03": false, "0000:00:03.0 ": false, "0000:00:3.00": false,
		"000g:00:03.0": false, "../../../etc": false, "0000/00/03.0": false, "0000:0A:03.0": false,
	} {
		if err := checkAddress(a); (err == nil) != ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

func nobody(string) bool { return false }

func TestTake(t *testing.T) {
	const peer, bridge = "0000:00:03.1", "0000:00:1c.0"
	override := "devices/" + addressNVMe + "/driver_override=vfio-pci"
	probe := "drivers_probe=" + addressNVMe
	for _, c := range []struct {
		name   string
		build  func(tr *tree)
		o      OpenOptions
		mine   func(string) bool
		err    error
		writes []string
	}{
		{name: "no driver", build: func(tr *tree) { tr.add(addressNVMe, classNVMe, "", 5) }, writes: []string{override, probe}},
		{name: "bound already", build: func(tr *tree) { tr.add(addressNVMe, classNVMe, "vfio-pci", 5) }},
		{name: "another driver", build: func(tr *tree) { tr.add(addressNVMe, classNVMe, "nvme", 5) }, err: ErrBusy},
		{
			name: "another driver, unbound", build: func(tr *tree) { tr.add(addressNVMe, classNVMe, "nvme", 5) }, o: OpenOptions{Unbind: true},
			writes: []string{override, "devices/" + addressNVMe + "/driver/unbind=" + addressNVMe, probe},
		},
		{name: "no IOMMU", build: func(tr *tree) { tr.add(addressNVMe, classNVMe, "", NoGroup) }, err: ErrNoIOMMU},
		{name: "no driver of VFIO's", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			if err := os.Remove(tr.path("bus/pci/drivers/vfio-pci")); err != nil {
				t.Fatal(err)
			}
		}, err: hcl.ErrNotSupported},
		{name: "vfio-pci refuses", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			tr.refuse = addressNVMe
		}, err: ErrBind, writes: []string{override, probe}},
		{name: "a stranger in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			tr.add(peer, classEther, "", 5)
		}, err: ErrGroup},
		{name: "a stranger of vfio-pci's in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			tr.add(peer, classEther, "vfio-pci", 5)
		}, err: ErrGroup},
		{name: "an open function in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			tr.add(peer, classNVMe, "vfio-pci", 5)
		}, mine: func(a string) bool { return a == peer }, writes: []string{override, probe}},
		{name: "a peer in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "", 5)
			tr.add(peer, classNVMe, "", 5)
		}, o: OpenOptions{Peers: []string{peer}}, writes: []string{
			override, probe, "devices/" + peer + "/driver_override=vfio-pci", "drivers_probe=" + peer,
		}},
		{name: "a peer with another driver", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "vfio-pci", 5)
			tr.add(peer, classNVMe, "nvme", 5)
		}, o: OpenOptions{Peers: []string{peer}}, err: ErrGroup},
		{name: "a bridge in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "vfio-pci", 5)
			tr.add(bridge, 0x060400, "", 5)
		}},
		{name: "a host bridge in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "vfio-pci", 5)
			tr.add(bridge, 0x060000, "", 5)
		}, err: ErrGroup},
		{name: "something else in the group", build: func(tr *tree) {
			tr.add(addressNVMe, classNVMe, "vfio-pci", 5)
			tr.file("kernel/iommu_groups/5/devices/platform", "")
		}, err: ErrGroup},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, m := newTree(t)
			c.build(tr)
			mine := c.mine
			if mine == nil {
				mine = nobody
			}
			group, err := m.take(addressNVMe, c.o, mine)
			if c.err == nil && (err != nil || group != 5) || !errors.Is(err, c.err) {
				t.Errorf("group %d, %v; want %v", group, err, c.err)
			}
			if !slices.Equal(tr.writes, c.writes) {
				t.Errorf("wrote %q, want %q", tr.writes, c.writes)
			}
		})
	}
}

// TestTakeLate takes a function that the kernel has listed and not completed yet.
func TestTakeLate(t *testing.T) {
	tr, m := newTree(t)
	m.settle, tr.late = time.Minute, true
	tr.add(addressNVMe, classNVMe, "", NoGroup)
	time.AfterFunc(20*time.Millisecond, func() { tr.add(addressNVMe, classNVMe, "", 5) })
	if group, err := m.take(addressNVMe, OpenOptions{}, nobody); err != nil || group != 5 {
		t.Errorf("group %d, %v", group, err)
	}
}

func TestTakeRefusesPaths(t *testing.T) {
	tr, m := newTree(t)
	if _, err := m.take("../../../../x", OpenOptions{}, nobody); !errors.Is(err, ErrAddress) || len(tr.writes) > 0 {
		t.Errorf("%v, wrote %q", err, tr.writes)
	}
}

// TestWrite writes to real files: one that is missing must not come to be.
func TestWrite(t *testing.T) {
	tr, _ := newTree(t)
	m := Machine{Sysfs: tr.root}
	tr.file("bus/pci/drivers_probe", "")
	if err := m.write(m.sysfs("bus/pci/drivers_probe"), "x"); err != nil {
		t.Error(err)
	}
	if text, err := readShort(m.sysfs("bus/pci/drivers_probe")); text != "x" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := m.write(m.sysfs("bus/pci/nothing"), "x"); err == nil {
		t.Error("a missing attribute was made")
	}
}
