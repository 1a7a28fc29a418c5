package config

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// lie is what becomes of one false value of a field, in an isolated VM. Without an
// outcome it is taken: then it changes the configuration that evidence and PCR 1 show
// (Canonical), or there is a reason why the host gains nothing by it.
type lie struct {
	field   string // path in the schema
	tell    func(*configpb.Config)
	outcome handoff.Outcome
	reason  string
}

// lies has one row for every field at least. A field without one fails the test.
var lies = []lie{
	{"guest_name", func(c *configpb.Config) { c.GuestName = "other" }, "", "SMBIOS has it, and PCR 1 with it"},
	{"guest_name", func(c *configpb.Config) { c.GuestName = "a\nb" }, handoff.OutcomeBadConfig, ""},
	{"vps", func(c *configpb.Config) { c.Vps = 1 }, "", ""},
	{"vps", func(c *configpb.Config) { c.Vps = 0 }, handoff.OutcomeBadVPCount, ""},
	{"vps", func(c *configpb.Config) { c.Vps = 1 << 31 }, handoff.OutcomeBadVPCount, ""},
	{"memory_bytes", func(c *configpb.Config) { c.MemoryBytes *= 2 }, "", ""},
	{"memory_bytes", func(c *configpb.Config) { c.MemoryBytes = 1 }, handoff.OutcomeTooLittleMemory, ""},
	{"memory_bytes", func(c *configpb.Config) { c.MemoryBytes = 1<<64 - 1 }, handoff.OutcomeBadConfig, ""},
	{"command_line", func(c *configpb.Config) { c.CommandLine = "init=/bin/sh" }, "", "PCR 12 has it"},
	{"command_line", func(c *configpb.Config) { c.CommandLine = "a\x00init=/bin/sh" }, handoff.OutcomeBadConfig, ""},
	{"kernel_size", func(c *configpb.Config) { c.KernelSize++ }, "", "the file has the size that counts, and PCR 4 its bytes"},
	{"kernel_size", func(c *configpb.Config) { c.KernelSize = 1 << 40 }, handoff.OutcomeBadKernel, ""},
	{"has_initrd", func(c *configpb.Config) { c.HasInitrd, c.InitrdSize = false, 0 }, "", "PCR 9 has the initrd, or none"},
	{"has_initrd", func(c *configpb.Config) { c.HasInitrd = false }, handoff.OutcomeBadConfig, ""},
	{"initrd_size", func(c *configpb.Config) { c.InitrdSize++ }, "", "the file has the size that counts, and PCR 9 its bytes"},
	{"initrd_size", func(c *configpb.Config) { c.InitrdSize = 1 << 40 }, handoff.OutcomeBadInitrd, ""},
	{"log_level", func(c *configpb.Config) { c.LogLevel = configpb.LogLevel_LOG_LEVEL_ERROR }, "", "Keel says less"},
	{"log_level", func(c *configpb.Config) { c.LogLevel = configpb.LogLevel_LOG_LEVEL_DEBUG }, handoff.OutcomeBadConfig, ""},
	{"log_json", func(c *configpb.Config) { c.LogJson = !c.LogJson }, "", "the same words in another form"},
	{"console_mode", func(c *configpb.Config) { c.ConsoleMode = configpb.ConsoleMode_CONSOLE_MODE_BOTH_WAYS }, "", ""},
	{"console_mode", func(c *configpb.Config) { c.ConsoleMode = 99 }, handoff.OutcomeBadConfig, ""},
	{"trace_exits", func(c *configpb.Config) { c.TraceExits = true }, handoff.OutcomeBadConfig, ""},
	{"disks", func(c *configpb.Config) { c.Disks = c.Disks[1:] }, "", ""},
	{"disks.serials", func(c *configpb.Config) { c.Disks[0].Serials = []string{"other"} }, "", "the host names its disks, and could exchange their contents as well"},
	{"disks.serials", func(c *configpb.Config) { c.Disks[0].Serials = []string{"state"} }, handoff.OutcomeBadConfig, ""},
	{"disks.front", func(c *configpb.Config) { c.Disks[0].Front, c.Disks[0].Lun = configpb.DiskFront_DISK_FRONT_STORVSC, 9 }, "", ""},
	{"disks.front", func(c *configpb.Config) { c.Disks[0].Front = 99 }, handoff.OutcomeBadConfig, ""},
	{"disks.lun", func(c *configpb.Config) { c.Disks[0].Lun = 7 }, "", ""},
	{"disks.lun", func(c *configpb.Config) { c.Disks[0].Lun = 1 << 20 }, handoff.OutcomeBadConfig, ""},
	{"disks.read_only", func(c *configpb.Config) { c.Disks[0].ReadOnly = true }, "", ""},
	{"disks.dvd", func(c *configpb.Config) { c.Disks[0].Dvd, c.Disks[0].ReadOnly = true, true }, "", ""},
	{"disks.chunk_bytes", func(c *configpb.Config) { c.Disks[1].ChunkBytes *= 2 }, "", ""},
	{"disks.chunk_bytes", func(c *configpb.Config) { c.Disks[1].ChunkBytes = 1 }, handoff.OutcomeBadConfig, ""},
	{"tpm", func(c *configpb.Config) { c.Tpm = nil }, "", ""},
	{"tpm.interface", func(c *configpb.Config) { c.Tpm.Interface = configpb.TPMInterface_TPM_INTERFACE_CRB }, "", ""},
	{"tpm.interface", func(c *configpb.Config) { c.Tpm.Interface = 99 }, handoff.OutcomeBadConfig, ""},
	{"tpm.state_serial", func(c *configpb.Config) { c.Tpm.StateSerial = "other" }, "", "what seals the state decides whether it opens"},
	{"tpm.state_serial", func(c *configpb.Config) { c.Tpm.StateSerial = "" }, handoff.OutcomeBadConfig, ""},
	{"tpm.host_key", func(c *configpb.Config) { c.Tpm.HostKey = make([]byte, KeySize) }, handoff.OutcomeBadConfig, ""},
	{"tpm.reset_state", func(c *configpb.Config) { c.Tpm.ResetState = true }, "", "the host can take the state away: the new TPM has other keys, which evidence shows"},
	{"tpm.seal", func(c *configpb.Config) { c.Tpm.Seal, c.Tpm.KeyServerKey = configpb.StateSeal_STATE_SEAL_HARDWARE, nil }, "", ""},
	{"tpm.seal", func(c *configpb.Config) { c.Tpm.Seal = configpb.StateSeal_STATE_SEAL_NONE }, handoff.OutcomeBadConfig, ""},
	{"tpm.key_server_key", func(c *configpb.Config) { c.Tpm.KeyServerKey[0]++ }, "", ""},
	{"tpm.key_server_key", func(c *configpb.Config) { c.Tpm.KeyServerKey = c.Tpm.KeyServerKey[1:] }, handoff.OutcomeBadConfig, ""},
	{"oracle", func(c *configpb.Config) { c.Oracle = false }, "", "it runs in VTL2, and changes nothing that the guest sees"},
	{"strict", func(c *configpb.Config) { c.Strict = configpb.Strict_STRICT_OFF }, "", ""},
	{"strict", func(c *configpb.Config) { c.Strict = 99 }, handoff.OutcomeBadConfig, ""},
	{"isolation", func(c *configpb.Config) { c.Isolation = configpb.Isolation_ISOLATION_NONE }, handoff.OutcomeBadConfig, ""},
	{"isolation", func(c *configpb.Config) {
		c.Isolation, c.LaunchDigest, c.Oracle, c.Tpm, c.Strict = configpb.Isolation_ISOLATION_NONE, nil, false, nil, configpb.Strict_STRICT_OFF
	}, "", ""},
	{"isolation", func(c *configpb.Config) { c.Isolation = 99 }, handoff.OutcomeBadConfig, ""},
	{"launch_digest", func(c *configpb.Config) { c.LaunchDigest[0]++ }, "", "the emulated evidence shows it; a real TEE measures"},
	{"launch_digest", func(c *configpb.Config) { c.LaunchDigest = nil }, handoff.OutcomeBadConfig, ""},
}

// believed is an honest configuration of an isolated VM that uses every field.
func believed() *configpb.Config {
	c := good()
	c.TPM.Seal, c.TPM.Key, c.TPM.KeyServer, c.TPM.Reset = SealReleased, nil, make([]byte, KeySize), false
	return toProto(c)
}

// TestLies is a host that lies in every field: it is refused by name, or what it changes
// is seen by who verifies the VM, or it is of no use.
func TestLies(t *testing.T) {
	told := map[string]bool{}
	honest := parsed(t, believed())
	if honest.err != nil {
		t.Fatal(honest.err)
	}
	for i, l := range lies {
		told[l.field] = true
		m := believed()
		l.tell(m)
		if proto.Equal(m, believed()) {
			t.Errorf("row %d, %s: it is no lie", i, l.field)
		}
		got := parsed(t, m)
		measured := got.err == nil && !bytes.Equal(got.canonical, honest.canonical)
		f, failed := errors.AsType[*handoff.Failure](got.err)
		switch {
		case l.outcome != "":
			if !failed || f.Outcome != l.outcome || f.Remedy == "" {
				t.Errorf("row %d, %s: %v, want %v", i, l.field, got.err, l.outcome)
			}
		case got.err != nil:
			t.Errorf("row %d, %s: %v", i, l.field, got.err)
		case measured == (l.reason != ""):
			t.Errorf("row %d, %s: measured %v, reason %q", i, l.field, measured, l.reason)
		}
	}
	walk("", (&configpb.Config{}).ProtoReflect().Descriptor(), func(field string) {
		if !told[field] {
			t.Errorf("no lie about the field %s", field)
		}
		delete(told, field)
	})
	for field := range told {
		t.Errorf("a lie about %s, which is no field", field)
	}
}

type parsing struct {
	canonical []byte
	err       error
}

// parsed is what the paravisor of a release image makes of a configuration.
func parsed(t *testing.T, m *configpb.Config) parsing {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, Release())
	if err != nil {
		return parsing{err: err}
	}
	return parsing{canonical: c.Canonical()}
}

// walk calls do with the path of every field of a message.
func walk(path string, m protoreflect.MessageDescriptor, do func(string)) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := path + string(f.Name())
		do(name)
		if f.Message() != nil {
			walk(name+".", f.Message(), do)
		}
	}
}
