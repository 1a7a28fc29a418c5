// Package kernelcfg builds the Linux kernel that VTL2 runs: pinned Debian source,
// config fragments in this folder, assertions on the resulting configuration, and a
// cache keyed by everything that goes in. It also fetches the stock kernels that
// serve as guests. It is build-side code and never part of the guest image.
package kernelcfg

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// ErrFlavour says that the name is none of Flavours.
var ErrFlavour = errors.New("kernelcfg: unknown flavour")

// Flavour names one set of config fragments.
type Flavour string

// The flavours. Only Release goes into a measured image.
const (
	Release Flavour = "release" // base + kvm
	Debug   Flavour = "debug"   // base + kvm + debug
	HyperV  Flavour = "hyperv"  // base + hyperv; built, not booted
	Bench   Flavour = "bench"   // base + kvm + bench; for what Keel is compared with, not for Keel
)

// Flavours lists them all.
var Flavours = []Flavour{Release, Debug, HyperV, Bench}

//go:embed fragments/*.config
var fragments embed.FS

// parts lists the fragments of each flavour in the order in which they apply.
var parts = map[Flavour][]string{
	Release: {"base", "kvm"},
	Debug:   {"base", "kvm", "debug"},
	HyperV:  {"base", "hyperv"},
	Bench:   {"base", "kvm", "bench"},
}

// ownFolders are those of the source that hold what only this flavour has.
var ownFolders = map[Flavour][]string{
	HyperV: {"arch/x86/hyperv/", "arch/x86/kernel/cpu/", "drivers/clocksource/", "drivers/hv/", "net/vmw_vsock/"},
}

// ParseFlavour turns a word of the command line into a Flavour, or ErrFlavour.
func ParseFlavour(s string) (Flavour, error) {
	if _, ok := parts[Flavour(s)]; !ok {
		return "", fmt.Errorf("%w %q: one of release, debug, hyperv, bench", ErrFlavour, s)
	}
	return Flavour(s), nil
}

// Fragment returns the merged request of a flavour: a later fragment overrides an
// earlier one.
func Fragment(f Flavour) (Config, error) {
	names, ok := parts[f]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrFlavour, f)
	}
	merged := Config{}
	for _, name := range names {
		text, err := fragments.ReadFile("fragments/" + name + ".config")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		// A slip in a fragment would silently turn something off.
		c, err := ParseConfig(strings.NewReader(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%s.config: %w", name, err)
		}
		maps.Copy(merged, c)
	}
	return merged, nil
}
