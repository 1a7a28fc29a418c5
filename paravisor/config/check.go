package config

import (
	"fmt"
	"log/slog"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// bad builds the failure of one field.
func bad(o handoff.Outcome, remedy, format string, args ...any) error {
	return &handoff.Failure{Outcome: o, Cause: "configuration: " + fmt.Sprintf(format, args...), Remedy: remedy}
}

// fromProto checks every field against the limits that no policy widens.
func fromProto(m *configpb.Config) (*Config, error) {
	c := &Config{
		GuestName:   m.GetGuestName(),
		Memory:      m.GetMemoryBytes(),
		CommandLine: m.GetCommandLine(),
		KernelSize:  m.GetKernelSize(),
		HasInitrd:   m.GetHasInitrd(),
		InitrdSize:  m.GetInitrdSize(),
		LogJSON:     m.GetLogJson(),
		TraceExits:  m.GetTraceExits(),
		Oracle:      m.GetOracle(),
	}
	// The order decides which of several faults is reported.
	checks := []func(*Config, *configpb.Config) error{
		checkVPs, checkMemory, checkText, checkPayload, checkModes, checkDisks, checkTPM, checkStrict,
	}
	for _, check := range checks {
		if err := check(c, m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func checkVPs(c *Config, m *configpb.Config) error {
	if n := m.GetVps(); n < 1 || n > MaxVPs {
		return bad(handoff.OutcomeBadVPCount, fmt.Sprintf("ask for 1 to %d", MaxVPs), "vps = %d is impossible", n)
	}
	c.VPs = int(m.GetVps())
	return nil
}

func checkMemory(c *Config, _ *configpb.Config) error {
	switch {
	case c.Memory < MinMemory:
		return bad(handoff.OutcomeTooLittleMemory, fmt.Sprintf("give the guest at least %d MiB", MinMemory>>20),
			"memoryBytes = %d is too little for a guest", c.Memory)
	case c.Memory > MaxMemory:
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("give the guest at most %d MiB", MaxMemory>>20),
			"memoryBytes = %d is more than Keel maps", c.Memory)
	case c.Memory%MemoryGranule != 0:
		return bad(handoff.OutcomeBadConfig, "use a multiple of 2 MiB", "memoryBytes = %d is no multiple of 2 MiB", c.Memory)
	}
	return nil
}

func checkText(c *Config, _ *configpb.Config) error {
	if len(c.CommandLine) > MaxCommandLine {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use at most %d bytes", MaxCommandLine),
			"commandLine has %d bytes", len(c.CommandLine))
	}
	if i := unprintable(c.CommandLine); i >= 0 {
		return bad(handoff.OutcomeBadConfig, "use printable ASCII only", "commandLine has the byte %#02x at %d", c.CommandLine[i], i)
	}
	if len(c.GuestName) > MaxGuestName {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use at most %d bytes", MaxGuestName),
			"guestName has %d bytes", len(c.GuestName))
	}
	if i := unprintable(c.GuestName); i >= 0 {
		return bad(handoff.OutcomeBadConfig, "use printable ASCII only", "guestName has the byte %#02x at %d", c.GuestName[i], i)
	}
	return nil
}

// unprintable returns the index of the first byte of s that is no printable
// ASCII, or -1.
func unprintable(s string) int {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return i
		}
	}
	return -1
}

func checkPayload(c *Config, _ *configpb.Config) error {
	switch {
	case c.KernelSize == 0:
		return bad(handoff.OutcomeBadKernel, "name a bzImage or vmlinux", "kernelSize is 0: there is no kernel")
	case c.KernelSize > MaxKernelSize:
		return bad(handoff.OutcomeBadKernel, fmt.Sprintf("use a kernel of at most %d MiB", MaxKernelSize>>20),
			"kernelSize = %d is no kernel's size", c.KernelSize)
	case c.HasInitrd && c.InitrdSize == 0:
		return bad(handoff.OutcomeBadInitrd, "name a cpio archive or leave the initrd out", "initrdSize is 0: the initrd is empty")
	case !c.HasInitrd && c.InitrdSize != 0:
		return bad(handoff.OutcomeBadConfig, "set hasInitrd", "initrdSize = %d without hasInitrd", c.InitrdSize)
	case c.InitrdSize > MaxInitrdSize:
		return bad(handoff.OutcomeBadInitrd, fmt.Sprintf("use an initrd of at most %d MiB", MaxInitrdSize>>20),
			"initrdSize = %d is more than a guest can load", c.InitrdSize)
	}
	return nil
}

// levels, consoles, isolations and stricts translate the enumerations; zero means the default.
var (
	levels = map[configpb.LogLevel]slog.Level{
		configpb.LogLevel_LOG_LEVEL_UNSPECIFIED: slog.LevelInfo,
		configpb.LogLevel_LOG_LEVEL_DEBUG:       slog.LevelDebug,
		configpb.LogLevel_LOG_LEVEL_INFO:        slog.LevelInfo,
		configpb.LogLevel_LOG_LEVEL_WARN:        slog.LevelWarn,
		configpb.LogLevel_LOG_LEVEL_ERROR:       slog.LevelError,
	}
	consoles = map[configpb.ConsoleMode]Console{
		configpb.ConsoleMode_CONSOLE_MODE_UNSPECIFIED: ConsoleBothWays,
		configpb.ConsoleMode_CONSOLE_MODE_BOTH_WAYS:   ConsoleBothWays,
		configpb.ConsoleMode_CONSOLE_MODE_OUTPUT_ONLY: ConsoleOutputOnly,
		configpb.ConsoleMode_CONSOLE_MODE_OFF:         ConsoleOff,
	}
	isolations = map[configpb.Isolation]Isolation{
		configpb.Isolation_ISOLATION_UNSPECIFIED: IsolationNone,
		configpb.Isolation_ISOLATION_NONE:        IsolationNone,
		configpb.Isolation_ISOLATION_SNP:         IsolationSNP,
		configpb.Isolation_ISOLATION_TDX:         IsolationTDX,
	}
	stricts = map[configpb.Strict]Strict{
		configpb.Strict_STRICT_UNSPECIFIED: StrictOff,
		configpb.Strict_STRICT_OFF:         StrictOff,
		configpb.Strict_STRICT_COUNT:       StrictCount,
		configpb.Strict_STRICT_KILL:        StrictKill,
	}
)

// checkModes refuses enumeration values that JSON can carry as bare numbers.
func checkModes(c *Config, m *configpb.Config) error {
	var ok bool
	if c.LogLevel, ok = levels[m.GetLogLevel()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named levels", "logLevel = %d is unknown", m.GetLogLevel())
	}
	if c.Console, ok = consoles[m.GetConsoleMode()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named modes", "consoleMode = %d is unknown", m.GetConsoleMode())
	}
	if c.Isolation, ok = isolations[m.GetIsolation()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named kinds", "isolation = %d is unknown", m.GetIsolation())
	}
	if c.Strict, ok = stricts[m.GetStrict()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named modes", "strict = %d is unknown", m.GetStrict())
	}
	want := DigestSize
	if c.Isolation == IsolationNone {
		want = 0
	}
	if c.LaunchDigest = m.GetLaunchDigest(); len(c.LaunchDigest) != want {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use %d", want), "launchDigest has %d bytes with isolation %v", len(c.LaunchDigest), c.Isolation)
	}
	if c.Oracle && c.Isolation == IsolationNone {
		return bad(handoff.OutcomeBadConfig, "add isolation", "oracle compares what Keel executes, which is nothing")
	}
	return nil
}
