package main

import (
	"keel/hcl/pci"
	"keel/hcl/vfio"
	"keel/paravisor"
	"keel/vtl/guestmem"
)

// classNVMe is the class of NVMe controllers: mass storage, non-volatile memory,
// NVM Express (PCI Code and ID Assignment 1.11 §1.2.1).
const (
	classNVMe = 0x010802
	classMask = 0xffffff
)

// devices are the functions that the host assigned, through VFIO.
type devices struct{ domain *vfio.Domain }

// assign makes the address space of all functions, with the guest's memory in it, unless
// it is nil, at the guest's own addresses.
func assign(memory *guestmem.Memory) (paravisor.Devices, error) {
	domain, err := vfio.NewDomain(vfio.Options{})
	if err != nil {
		return nil, err
	}
	if memory == nil {
		return devices{domain}, nil
	}
	var regions []vfio.Region
	for _, r := range memory.Regions() {
		mapping, err := memory.Slice(r.GPA, int(r.Size()))
		if err != nil {
			return nil, err
		}
		regions = append(regions, vfio.Region{IOVA: uint64(r.GPA), Memory: mapping})
	}
	return devices{domain}, domain.MapGuest(regions)
}

// NVMe lists the NVMe controllers.
func (devices) NVMe() ([]paravisor.Assigned, error) {
	candidates, err := vfio.Find(classNVMe, classMask)
	var out []paravisor.Assigned
	for _, c := range candidates {
		out = append(out, paravisor.Assigned{Address: c.Address, Instance: c.Instance})
	}
	return out, err
}

// Open takes a controller over.
func (d devices) Open(address string) (pci.Function, error) {
	f, err := d.domain.Open(address, vfio.OpenOptions{})
	if err != nil {
		return nil, err // not a nil *Function in an interface
	}
	return f, nil
}
