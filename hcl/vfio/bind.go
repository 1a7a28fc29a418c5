package vfio

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"keel/hcl"
)

// driverName is VFIO's driver for PCI functions.
const driverName = "vfio-pci"

// settleTime is how long a function that was just plugged in may take. The kernel
// lists it before it has a group, and lets no driver have it until it is complete.
const (
	settleTime   = 2 * time.Second
	settlePeriod = 5 * time.Millisecond
)

// OpenOptions say how a function is taken over.
type OpenOptions struct {
	// Unbind takes the function away from another driver. Without it, a function
	// that another driver has is refused.
	Unbind bool
	// Peers are the addresses of other functions that the caller takes over too.
	// Those in the function's IOMMU group are bound along with it.
	Peers []string
}

// take binds a function, and its peers of one IOMMU group, to vfio-pci, and returns
// the group's number. mine tells which other functions are open already.
func (m Machine) take(address string, o OpenOptions, mine func(address string) bool) (int, error) {
	if err := checkAddress(address); err != nil {
		return NoGroup, err
	}
	// The group is looked at first: a function without one keeps its driver.
	group := NoGroup
	err := m.settled(func() (done bool, err error) {
		group, err = m.groupOf(address)
		return group != NoGroup, err
	})
	if err != nil {
		return NoGroup, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	if group == NoGroup {
		return NoGroup, fmt.Errorf("%w: %s", ErrNoIOMMU, address)
	}
	others, err := m.others(address)
	if err != nil {
		return NoGroup, err
	}
	for _, c := range others {
		if !slices.Contains(o.Peers, c.Address) && !mine(c.Address) {
			return NoGroup, fmt.Errorf("%w: group %d of %s holds %s too", ErrGroup, group, address, c.Address)
		}
	}
	if err := m.bind(address, o.Unbind); err != nil {
		return NoGroup, err
	}
	for _, c := range others {
		if err := m.bind(c.Address, o.Unbind); err != nil {
			return NoGroup, fmt.Errorf("%w: group %d of %s: %w", ErrGroup, group, address, err)
		}
	}
	return group, nil
}

// others lists the functions that share the IOMMU group of one. Bridges are left
// out: they serve the functions behind them, and the kernel lets no driver have one
// that would give it a say in the group.
func (m Machine) others(address string) ([]Candidate, error) {
	entries, err := os.ReadDir(m.function(address, "iommu_group/devices"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	var list []Candidate
	for _, e := range entries {
		if e.Name() == address {
			continue
		}
		// What is no PCI function is nobody's peer and so refused.
		c, err := m.candidate(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrGroup, err)
		}
		if c.Class&classMask != classBridge {
			list = append(list, c)
		}
	}
	return list, nil
}

// bind gives a function to vfio-pci, and to it alone from now on.
func (m Machine) bind(address string, unbind bool) error {
	driver, err := linkName(m.function(address, "driver"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBind, err)
	}
	if driver == driverName {
		return nil
	}
	if driver != "" && !unbind {
		return fmt.Errorf("%w: %w: %s is bound to %s", ErrBind, ErrBusy, address, driver)
	}
	if _, err := os.Stat(m.sysfs("bus/pci/drivers/" + driverName)); err != nil {
		return fmt.Errorf("%w: %w: the kernel has no %s: %w", ErrBind, hcl.ErrNotSupported, driverName, err)
	}
	// The override comes first: no other driver gets in between.
	if err := m.write(m.function(address, "driver_override"), driverName); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBind, address, err)
	}
	if driver != "" {
		if err := m.write(m.function(address, "driver/unbind"), address); err != nil {
			return fmt.Errorf("%w: unbinding %s from %s: %w", ErrBind, address, driver, err)
		}
	}
	if err := m.write(m.sysfs("bus/pci/drivers_probe"), address); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBind, address, err)
	}
	// Probing reports no failure of the driver. One that came too early is made up for
	// by the kernel, which heeds the override.
	err = m.settled(func() (done bool, err error) {
		driver, err = linkName(m.function(address, "driver"))
		return driver != "", err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBind, err)
	}
	if driver != driverName {
		return fmt.Errorf("%w: %s refused %s", ErrBind, driverName, address)
	}
	return nil
}

// settled asks until what is asked for is done, or had the time for it.
func (m Machine) settled(ask func() (done bool, err error)) error {
	for deadline := time.Now().Add(cmp.Or(m.settle, settleTime)); ; time.Sleep(settlePeriod) {
		if done, err := ask(); done || err != nil || time.Now().After(deadline) {
			return err
		}
	}
}
