package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"keel/boot/handoff"
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
	text, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return err
	}
	u.last = u.total - u.guest - freePages(string(text))*pageSize
	u.peak = max(u.peak, u.last)
	return nil
}

// freePages adds up the free pages of all zones and those that CPUs keep at hand.
func freePages(zoneinfo string) uint64 {
	var sum uint64
	for line := range strings.Lines(zoneinfo) {
		var n uint64
		if _, err := fmt.Sscanf(line, " pages free %d", &n); err == nil {
			sum += n
		} else if _, err := fmt.Sscanf(line, " count: %d", &n); err == nil {
			sum += n
		}
	}
	return sum
}
