package keyserver

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"keel/diag/attest/claims"
	"keel/paravisor/keyrelease"
)

// Limits of a policy.
const (
	MaxVMs        = 1024
	maxListed     = 16      // measurements of a kind, and configurations, of one VM
	maxPolicy     = 8 << 20 // bytes of its file
	policyVersion = 1

	measurementSize = 48
	configSize      = 32
	teeSVNSize      = 16
)

// policyFile is the policy as it is written down.
type policyFile struct {
	Version int      `json:"version"` // 1
	VMs     []policy `json:"vms"`
}

// policy is one VM's entry of the file.
type policy struct {
	Name           string              `json:"name"`
	Measurements   map[string][]string `json:"measurements"` // by kind of TEE, hexadecimal: what 'keel image measure' prints
	AllowEmulated  bool                `json:"allow_emulated"`
	AllowDebug     bool                `json:"allow_debug"`
	MinTCB         map[string]string   `json:"min_tcb"`        // by kind: "snp" TCB_VERSION of 8 bytes, "tdx" TEE_TCB_SVN of 16
	Configurations []string            `json:"configurations"` // SHA-256 as 'keel attest' prints it; none: any
}

// Policy says which VM gets its key for which evidence.
type Policy struct{ vms map[string]*rules }

// rules are what the evidence of one VM must keep.
type rules struct {
	measurements   map[string][][]byte
	emulated       bool
	debug          bool
	minTCB         uint64
	minSVN         []byte
	configurations [][32]byte
}

// VMs returns how many VMs the policy has.
func (p *Policy) VMs() int { return len(p.vms) }

// ReadPolicy reads a policy from its file. Its errors are ErrPolicy.
func ReadPolicy(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; name a readable file", ErrPolicy, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w; name a readable file", ErrPolicy, err)
	}
	return ParsePolicy(b)
}

// ParsePolicy checks a policy. Its errors are ErrPolicy.
func ParsePolicy(b []byte) (*Policy, error) {
	bad := func(remedy, format string, args ...any) (*Policy, error) {
		return nil, fmt.Errorf("%w: %s; %s", ErrPolicy, keyrelease.Line(fmt.Sprintf(format, args...)), remedy)
	}
	if len(b) > maxPolicy {
		return bad(fmt.Sprintf("use at most %d", maxPolicy), "it has more bytes than any")
	}
	var f policyFile
	if err := decodeStrict(b, &f); err != nil {
		return bad("see diag/keyserver/README.md for what there is", "%v", err)
	}
	if f.Version != policyVersion {
		return bad(fmt.Sprintf("write \"version\": %d", policyVersion), "version %d is unknown", f.Version)
	}
	if len(f.VMs) < 1 || len(f.VMs) > MaxVMs {
		return bad(fmt.Sprintf("list 1 to %d", MaxVMs), "%d VMs", len(f.VMs))
	}
	p := &Policy{vms: make(map[string]*rules, len(f.VMs))}
	for i := range f.VMs {
		vm := &f.VMs[i]
		if err := keyrelease.CheckName(vm.Name); err != nil {
			return bad("correct it", "VM %d: %v", i, err)
		}
		if p.vms[vm.Name] != nil {
			return bad("remove one of them", "two VMs %q", vm.Name)
		}
		r, err := vm.rules()
		if err != nil {
			return bad("correct it", "VM %q: %v", vm.Name, err)
		}
		p.vms[vm.Name] = r
	}
	return p, nil
}

// rules checks an entry.
func (p *policy) rules() (*rules, error) {
	r := &rules{measurements: map[string][][]byte{}, emulated: p.AllowEmulated, debug: p.AllowDebug}
	if len(p.Measurements) == 0 {
		return nil, fmt.Errorf("measurements are missing: without any no image would be accepted")
	}
	for kind, list := range p.Measurements {
		if kind != claims.KindSNP && kind != claims.KindTDX {
			return nil, fmt.Errorf("measurements.%s: there are %s and %s", kind, claims.KindSNP, claims.KindTDX)
		}
		if len(list) < 1 || len(list) > maxListed {
			return nil, fmt.Errorf("measurements.%s: %d of them; list 1 to %d", kind, len(list), maxListed)
		}
		for _, digits := range list {
			m, err := unhex(digits, measurementSize)
			if err != nil {
				return nil, fmt.Errorf("measurements.%s: %w", kind, err)
			}
			r.measurements[kind] = append(r.measurements[kind], m)
		}
	}
	for kind, digits := range p.MinTCB {
		var err error
		switch kind {
		case claims.KindSNP:
			var b []byte
			b, err = unhex(strings.TrimPrefix(digits, "0x"), 8)
			for _, digit := range b {
				r.minTCB = r.minTCB<<8 | uint64(digit)
			}
		case claims.KindTDX:
			r.minSVN, err = unhex(digits, teeSVNSize)
		default:
			err = fmt.Errorf("there are %s and %s", claims.KindSNP, claims.KindTDX)
		}
		if err != nil {
			return nil, fmt.Errorf("min_tcb.%s: %w", kind, err)
		}
	}
	if len(p.Configurations) > maxListed {
		return nil, fmt.Errorf("%d configurations; list at most %d", len(p.Configurations), maxListed)
	}
	for _, digits := range p.Configurations {
		c, err := unhex(digits, configSize)
		if err != nil {
			return nil, fmt.Errorf("configurations: %w", err)
		}
		r.configurations = append(r.configurations, [32]byte(c))
	}
	return r, nil
}

// unhex decodes a number of bytes.
func unhex(digits string, size int) ([]byte, error) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%.20q of %d characters is not %d bytes in hexadecimal digits", digits, len(digits), size)
	}
	return b, nil
}

// check refuses rules that the server itself was not allowed to follow.
func (p *Policy) check(allowEmulated, allowDebug bool) error {
	for name, r := range p.vms {
		switch {
		case r.emulated && !allowEmulated:
			return fmt.Errorf("%w: VM %q has allow_emulated, which proves nothing; remove it, or start the server with --allow-emulated", ErrPolicy, name)
		case r.debug && !allowDebug:
			return fmt.Errorf("%w: VM %q has allow_debug, which lets its host read the key; remove it, or start the server with --allow-debug", ErrPolicy, name)
		}
	}
	return nil
}
