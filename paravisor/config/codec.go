package config

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// Parse reads the bytes of the fw_cfg file opt/keel/config, checks them and
// bounds them by the policy p. Every error is a *handoff.Failure.
func Parse(data []byte, p Policy) (*Config, error) {
	switch {
	case len(data) == 0:
		return nil, bad(handoff.OutcomeBadConfig, "start the VM with `keel run`", "the fw_cfg file %s is missing or empty", handoff.FileConfig)
	case len(data) > MaxSize:
		return nil, bad(handoff.OutcomeBadConfig, fmt.Sprintf("use at most %d", MaxSize), "%d bytes are too many", len(data))
	}
	var m configpb.Config
	// The schema nests three times; a deeper text cannot be one of ours.
	opts := protojson.UnmarshalOptions{RecursionLimit: 8}
	if err := opts.Unmarshal(data, &m); err != nil {
		return nil, bad(handoff.OutcomeBadConfig, "let the `keel` that built the image write it", "%s", oneLine(err))
	}
	c, err := fromProto(&m)
	if err != nil {
		return nil, err
	}
	if err := p.allow(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Marshal checks c and writes it as Parse reads it. The policy is not known to
// the host; Parse applies it. Every error is a *handoff.Failure.
func Marshal(c *Config) ([]byte, error) {
	m := toProto(c)
	if _, err := fromProto(m); err != nil {
		return nil, err
	}
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, bad(handoff.OutcomeBadConfig, "use printable ASCII only", "%s", oneLine(err))
	}
	return data, nil
}

// toProto is the inverse of fromProto. Negative numbers become numbers that
// fromProto refuses.
func toProto(c *Config) *configpb.Config {
	m := &configpb.Config{
		GuestName:    c.GuestName,
		Vps:          uint32(c.VPs),
		MemoryBytes:  c.Memory,
		CommandLine:  c.CommandLine,
		KernelSize:   c.KernelSize,
		HasInitrd:    c.HasInitrd,
		InitrdSize:   c.InitrdSize,
		LogJson:      c.LogJSON,
		TraceExits:   c.TraceExits,
		Oracle:       c.Oracle,
		Disks:        disksToProto(c.Disks),
		Tpm:          tpmToProto(c.TPM),
		LaunchDigest: c.LaunchDigest,
	}
	m.LogLevel, m.ConsoleMode = nameOf(levels, c.LogLevel), nameOf(consoles, c.Console)
	m.Isolation, m.Strict = nameOf(isolations, c.Isolation), nameOf(stricts, c.Strict)
	return m
}

// nameOf is the inverse of a table of check.go: zero stands for the default and is no
// name; -1, which is refused, for a value that has none.
func nameOf[E ~int32, V comparable](table map[E]V, v V) E {
	for name, value := range table {
		if value == v && name != 0 {
			return name
		}
	}
	return -1
}

// oneLine returns the text of a protojson error fit for one line of a
// terminal: the text may quote the host's bytes.
func oneLine(err error) string {
	const most = 200 // bytes; a name may be as long as the file
	s := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	s = strings.TrimPrefix(s, "proto: ")
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
