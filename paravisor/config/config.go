// Package config reads the configuration that the host passes to the
// paravisor and bounds it by the policy measured into the image.
//
// The host writes protobuf as JSON (configpb/config.proto) with Marshal; the
// paravisor reads it with Parse, which trusts nothing: the size is bounded,
// unknown and repeated fields are refused by name, every value is checked, and
// every error is a *handoff.Failure that names cause and remedy in one line.
package config

//go:generate go run ./cmd/genpb configpb

import (
	"log/slog"
)

// MaxSize bounds the configuration as it travels, in bytes.
const MaxSize = 64 << 10

// Limits that no policy widens.
const (
	MaxVPs         = 16
	MinMemory      = 64 << 20 // bytes
	MaxMemory      = 64 << 30 // bytes
	MemoryGranule  = 2 << 20  // bytes; guest memory is mapped with large pages
	MaxCommandLine = 2047     // bytes; COMMAND_LINE_SIZE of Linux on x86 less its NUL
	MaxGuestName   = 64       // bytes
	MaxKernelSize  = 1 << 30  // bytes
	MaxInitrdSize  = 4 << 30  // bytes
)

// Config is a configuration that has been checked.
type Config struct {
	GuestName   string
	VPs         int
	Memory      uint64 // guest RAM in bytes
	CommandLine string
	KernelSize  uint64 // bytes
	HasInitrd   bool
	InitrdSize  uint64 // bytes, 0 without an initrd
	LogLevel    slog.Level
	LogJSON     bool
	Console     Console
	TraceExits  bool // log every guest exit
}

// Console says what the host may do with the guest's console.
type Console int

// The ways of a console, from the widest to the narrowest.
const (
	ConsoleBothWays   Console = iota // the host reads and types
	ConsoleOutputOnly                // what the host types is dropped
	ConsoleOff                       // nothing travels
)

// String returns the name that messages use.
func (c Console) String() string {
	switch c {
	case ConsoleBothWays:
		return "both ways"
	case ConsoleOutputOnly:
		return "output only"
	case ConsoleOff:
		return "off"
	}
	return "unknown"
}
