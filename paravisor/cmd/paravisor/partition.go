package main

import (
	"crypto/rand"
	"errors"

	"keel/hcl"
	abi "keel/hcl/abi/snp"
	tdxabi "keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee"
	"keel/hcl/emutee/evidence"
	"keel/hcl/emutee/tdxmodule"
	"keel/hcl/kvm"
	"keel/hcl/snp"
	"keel/hcl/tdx"
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
	emulated := emulatedSNP
	if c.Isolation == config.IsolationTDX {
		emulated = emulatedTDX
	}
	p, err := emulated(raw, c)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return p, nil
}

// ownBase is where an emulated machine has Keel's own pages: above all memory of the
// guest, within one large page.
func ownBase(c *config.Config) uint64 {
	return (4<<30 + c.Memory + x86.LargePageSize - 1) &^ (x86.LargePageSize - 1)
}

// emulatedSNP makes a partition of an emulated SNP machine. Keel's own pages are a VMSA
// for each VP.
func emulatedSNP(raw hcl.RawFaults, c *config.Config) (hcl.Partition, error) {
	own := ownBase(c)
	m, err := emutee.NewMachine(raw, emutee.MachineConfig{
		Memory: own + x86.LargePageSize, Own: x86.GPA(own), OwnPages: c.VPs,
	})
	if err != nil {
		return nil, err
	}
	return snp.Open(m)
}

// xfam are the extended features of the TD.
const xfam = tdxabi.XFAM_X87 | tdxabi.XFAM_SSE | tdxabi.XFAM_AVX | tdxabi.XFAM_PK

// crystalHz is the unit in which a TD counts its time stamp frequency (TSC_FREQUENCY).
const crystalHz = 25_000_000

// emulatedTDX makes a partition of an emulated TDX module. Keel's own pages are the enter
// state and the virtual APIC page of each VP.
func emulatedTDX(raw hcl.RawFaults, c *config.Config) (hcl.Partition, error) {
	own := ownBase(c)
	m, err := tdxmodule.NewMachine(raw, tdxmodule.MachineConfig{
		TD: tdxmodule.Config{
			Memory: own + x86.LargePageSize, VMs: 1, VPs: c.VPs,
			XFAM:     xfam,
			TSCUnits: uint16(raw.TSCHz() / crystalHz),
		},
		Own: x86.GPA(own), OwnPages: 2 * c.VPs, Clear: true,
	})
	if err != nil {
		return nil, err
	}
	return tdx.Open(m)
}

// attester returns the emulated TEE that has launched the image.
func attester(c *config.Config, debug bool) (hcl.Attester, error) {
	if c.Isolation == config.IsolationTDX {
		return emulatedPlatform(c, debug)
	}
	return emulatedChip(c, debug)
}

// emulatedPlatform makes the emulated TDX platform.
func emulatedPlatform(c *config.Config, debug bool) (hcl.Attester, error) {
	platform, err := evidence.NewPlatform([]byte(evidence.Secret))
	if err != nil {
		return nil, err
	}
	td := evidence.TD{Attributes: tdxabi.ATTRIBUTES_SEPT_VE_DISABLE, XFAM: xfam}
	if debug {
		td.Attributes |= evidence.AttributeDebug
	}
	copy(td.MRTD[:], c.LaunchDigest)
	return evidence.NewTDXAttester(platform, td), nil
}

// emulatedChip makes the emulated AMD-SP.
func emulatedChip(c *config.Config, debug bool) (hcl.Attester, error) {
	chip, err := evidence.NewChip([]byte(evidence.Secret), evidence.DefaultTCB)
	if err != nil {
		return nil, err
	}
	guest := evidence.SNPGuest{Policy: abi.POLICY_RESERVED_ONE | abi.POLICY_SMT | 1<<abi.POLICY_ABI_MAJOR_SHIFT | 51<<abi.POLICY_ABI_MINOR_SHIFT}
	if debug {
		guest.Policy |= abi.POLICY_DEBUG
	}
	copy(guest.Measurement[:], c.LaunchDigest)
	_, _ = rand.Read(guest.ReportID[:]) // never fails
	return evidence.NewSNPAttester(chip, guest), nil
}
