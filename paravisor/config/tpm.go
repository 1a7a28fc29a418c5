package config

import (
	"fmt"
	"slices"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// interfaces translates the enumeration; zero means the default.
var interfaces = map[configpb.TPMInterface]TPMInterface{
	configpb.TPMInterface_TPM_INTERFACE_UNSPECIFIED: TPMCRB,
	configpb.TPMInterface_TPM_INTERFACE_CRB:         TPMCRB,
	configpb.TPMInterface_TPM_INTERFACE_TIS:         TPMTIS,
}

// checkTPM checks the TPM, and that its state is on no disk of the guest's.
func checkTPM(c *Config, m *configpb.Config) error {
	p := m.GetTpm()
	if p == nil {
		return nil
	}
	t := &TPM{StateSerial: p.GetStateSerial(), Key: p.GetHostKey(), Hardware: p.GetHardwareKey(), Reset: p.GetResetState()}
	var ok bool
	if t.Interface, ok = interfaces[p.GetInterface()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named interfaces", "tpm has the unknown interface %d", p.GetInterface())
	}
	if s := t.StateSerial; len(s) > MaxSerial || unprintable(s) >= 0 {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use 1 to %d printable characters", MaxSerial),
			"tpm has a stateSerial that no controller can have")
	}
	if slices.ContainsFunc(c.Disks, func(d Disk) bool { return slices.Contains(d.Serials, t.StateSerial) }) {
		return bad(handoff.OutcomeBadConfig, "use a controller once", "tpm has the controller %q of a disk", t.StateSerial)
	}
	if t.Hardware && (t.StateSerial == "" || c.Isolation != IsolationSNP) {
		return bad(handoff.OutcomeBadConfig, "use SNP and a stateSerial", "tpm has a hardwareKey without a TEE that derives keys, or without a state")
	}
	want := 0
	if t.StateSerial != "" && !t.Hardware {
		want = KeySize
	}
	if len(t.Key) != want || t.Reset && t.StateSerial == "" {
		return bad(handoff.OutcomeBadConfig, fmt.Sprintf("give a key of %d bytes with a stateSerial, and neither key nor resetState without", KeySize),
			"tpm has a hostKey of %d bytes", len(t.Key))
	}
	c.TPM = t
	return nil
}

// tpmToProto is the inverse of checkTPM.
func tpmToProto(t *TPM) *configpb.TPM {
	if t == nil {
		return nil
	}
	p := &configpb.TPM{Interface: -1, StateSerial: t.StateSerial, HostKey: t.Key, ResetState: t.Reset, HardwareKey: t.Hardware}
	for name, i := range interfaces {
		if i == t.Interface && name != configpb.TPMInterface_TPM_INTERFACE_UNSPECIFIED {
			p.Interface = name
		}
	}
	return p
}
