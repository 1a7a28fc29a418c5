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

// seals translates the enumeration; zero means the default.
var seals = map[configpb.StateSeal]Seal{
	configpb.StateSeal_STATE_SEAL_UNSPECIFIED: SealNone,
	configpb.StateSeal_STATE_SEAL_NONE:        SealNone,
	configpb.StateSeal_STATE_SEAL_HOST_KEY:    SealHostKey,
	configpb.StateSeal_STATE_SEAL_HARDWARE:    SealHardware,
	configpb.StateSeal_STATE_SEAL_RELEASED:    SealReleased,
}

// checkTPM checks the TPM, and that its state is on no disk of the guest's.
func checkTPM(c *Config, m *configpb.Config) error {
	p := m.GetTpm()
	if p == nil {
		return nil
	}
	t := &TPM{StateSerial: p.GetStateSerial(), Key: p.GetHostKey(), KeyServer: p.GetKeyServerKey(), Reset: p.GetResetState()}
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
	if t.Seal, ok = seals[p.GetSeal()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named kinds", "tpm has the unknown seal %d", p.GetSeal())
	}
	c.TPM = t
	return checkSeal(c, t)
}

// checkSeal checks that the state has what seals it, and nothing else.
func checkSeal(c *Config, t *TPM) error {
	if (t.StateSerial == "") != (t.Seal == SealNone) {
		return bad(handoff.OutcomeBadConfig, "give a stateSerial and what seals it, or neither", "tpm has the stateSerial %q and the seal %v", t.StateSerial, t.Seal)
	}
	if t.Reset && t.Seal == SealNone {
		return bad(handoff.OutcomeBadConfig, "add a stateSerial", "tpm has a resetState without a state")
	}
	if (t.Seal == SealHardware || t.Seal == SealReleased) && c.Isolation == IsolationNone {
		return bad(handoff.OutcomeBadConfig, "add isolation", "tpm has the seal %v without a TEE", t.Seal)
	}
	if t.Seal == SealHardware && c.Isolation != IsolationSNP {
		return bad(handoff.OutcomeBadConfig, "use SNP, or another seal", "tpm has the seal %v with isolation %v, which derives no keys", t.Seal, c.Isolation)
	}
	for _, k := range []struct {
		name string
		key  []byte
		seal Seal
	}{{"hostKey", t.Key, SealHostKey}, {"keyServerKey", t.KeyServer, SealReleased}} {
		want := 0
		if t.Seal == k.seal {
			want = KeySize
		}
		if len(k.key) != want {
			return bad(handoff.OutcomeBadConfig, fmt.Sprintf("use %d", want), "tpm has a %s of %d bytes with the seal %v", k.name, len(k.key), t.Seal)
		}
	}
	return nil
}

// tpmToProto is the inverse of checkTPM.
func tpmToProto(t *TPM) *configpb.TPM {
	if t == nil {
		return nil
	}
	p := &configpb.TPM{Interface: -1, Seal: -1, StateSerial: t.StateSerial, HostKey: t.Key, KeyServerKey: t.KeyServer, ResetState: t.Reset}
	for name, i := range interfaces {
		if i == t.Interface && name != configpb.TPMInterface_TPM_INTERFACE_UNSPECIFIED {
			p.Interface = name
		}
	}
	for name, s := range seals {
		if s == t.Seal && name != configpb.StateSeal_STATE_SEAL_UNSPECIFIED {
			p.Seal = name
		}
	}
	return p
}
