package main

import (
	"errors"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee"
	"keel/hcl/kvm"
	"keel/hcl/snp"
	"keel/paravisor/config"
)

// open makes the partition that the configuration asks for.
func open(c *config.Config) (hcl.Partition, error) {
	if c.Isolation == config.IsolationNone {
		return kvm.Open()
	}
	raw, err := kvm.OpenRaw()
	if err != nil {
		return nil, err // not a nil *Raw in an interface
	}
	p, err := emulatedSNP(raw, c)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return p, nil
}

// emulatedSNP makes a partition of an emulated SNP machine. Keel's own pages, a VMSA for
// each VP, lie above all memory of the guest.
func emulatedSNP(raw hcl.RawFaults, c *config.Config) (hcl.Partition, error) {
	own := (4<<30 + c.Memory + x86.LargePageSize - 1) &^ (x86.LargePageSize - 1)
	m, err := emutee.NewMachine(raw, emutee.MachineConfig{
		Memory: own + x86.LargePageSize, Own: x86.GPA(own), OwnPages: c.VPs,
	})
	if err != nil {
		return nil, err
	}
	return snp.Open(m)
}
