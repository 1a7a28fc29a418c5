package main

import (
	"os"
	"time"

	"keel/boot/handoff"
	"keel/hcl/sys"
	"keel/tests/bench/peer"
)

const (
	samplePeriod = 250 * time.Millisecond // as the paravisor's
	pageSize     = 4096
)

// usage keeps account of the VM's memory as the paravisor does: all that there is,
// less what is free and what belongs to the guest.
type usage struct {
	total, guest uint64 // bytes
	last, peak   uint64
}

// newUsage starts an account. The guest's kernel and initrd count as the guest's:
// Keel moves them from the host into guest memory and keeps no file of them.
func newUsage(guest uint64) (*usage, error) {
	h, err := handoff.Read(handoff.SysDir)
	if err != nil {
		return nil, err
	}
	u := &usage{total: h.RAMBytes, guest: guest}
	for _, path := range []string{peer.KernelPath, peer.InitrdPath} {
		s, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		u.guest += uint64(s.Size())
	}
	return u, nil
}

// sample takes the account now.
func (u *usage) sample() error {
	free, err := sys.FreePages()
	if err != nil {
		return err
	}
	u.last = u.total - u.guest - free*pageSize
	u.peak = max(u.peak, u.last)
	return nil
}
