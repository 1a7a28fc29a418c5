package config

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"keel/boot/handoff"
)

// good is a configuration that every policy allows.
func good() *Config {
	return &Config{
		GuestName:   "web",
		VPs:         4,
		Memory:      512 << 20,
		CommandLine: "console=ttyS0 panic=-1",
		KernelSize:  8 << 20,
		HasInitrd:   true,
		InitrdSize:  1 << 20,
		LogLevel:    slog.LevelWarn,
		LogJSON:     true,
		Console:     ConsoleOutputOnly,
		Disks: []Disk{
			{Serials: []string{"root"}},
			{Serials: []string{"a", "b"}, LUN: 1, Chunk: 64 << 10},
			{Serials: []string{"disc"}, Front: FrontStorVSC, ReadOnly: true, DVD: true},
		},
		TPM:       &TPM{Interface: TPMTIS, StateSerial: "state", Seal: SealHostKey, Key: make([]byte, KeySize), Reset: true},
		Isolation: IsolationSNP, LaunchDigest: make([]byte, DigestSize),
		Oracle: true, Strict: StrictCount,
	}
}

func TestRoundTrip(t *testing.T) {
	for _, p := range []Policy{Release(), Debug()} {
		want := good()
		data, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(data, p)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", p.Name, got, want)
		}
	}
}

// TestCanonical changes a thing at a time: what the guest can see changes the text, and
// nothing else does.
func TestCanonical(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		seen   bool
	}{
		"nothing":      {func(*Config) {}, false},
		"VPs":          {func(c *Config) { c.VPs++ }, true},
		"memory":       {func(c *Config) { c.Memory++ }, true},
		"fewer disks":  {func(c *Config) { c.Disks = c.Disks[1:] }, true},
		"read-only":    {func(c *Config) { c.Disks[0].ReadOnly = true }, true},
		"chunk":        {func(c *Config) { c.Disks[1].Chunk *= 2 }, true},
		"isolation":    {func(c *Config) { c.Isolation = IsolationNone }, true},
		"strict":       {func(c *Config) { c.Strict = StrictKill }, true},
		"no TPM":       {func(c *Config) { c.TPM = nil }, true},
		"interface":    {func(c *Config) { c.TPM.Interface = TPMCRB }, true},
		"no state":     {func(c *Config) { c.TPM.StateSerial, c.TPM.Seal = "", SealNone }, true},
		"hardware":     {func(c *Config) { c.TPM.Seal = SealHardware }, true},
		"released":     {func(c *Config) { c.TPM.Seal = SealReleased }, true},
		"command line": {func(c *Config) { c.CommandLine = "" }, false},
		"kernel":       {func(c *Config) { c.KernelSize++ }, false},
		"serial":       {func(c *Config) { c.Disks[0].Serials[0] = "other" }, false},
		"key":          {func(c *Config) { c.TPM.Key[0]++ }, false},
		"log":          {func(c *Config) { c.LogJSON = false }, false},
		"oracle":       {func(c *Config) { c.Oracle = false }, false},
	} {
		c := good()
		tc.change(c)
		if same := string(c.Canonical()) == string(good().Canonical()); same == tc.seen {
			t.Errorf("%s: %q", name, c.Canonical())
		}
	}
}

// TestKeyServer changes the server of a released key, which the guest's evidence must show.
func TestKeyServer(t *testing.T) {
	released := func(first byte) *Config {
		c := good()
		c.TPM.Seal, c.TPM.Key, c.TPM.KeyServer = SealReleased, nil, append([]byte{first}, make([]byte, KeySize-1)...)
		return c
	}
	if string(released(1).Canonical()) == string(released(2).Canonical()) {
		t.Error("the key server's key is not measured")
	}
	data, err := Marshal(released(1))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(data, Release()); err != nil || !reflect.DeepEqual(got, released(1)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDefaults(t *testing.T) {
	got, err := Parse([]byte(`{"vps":2,"memoryBytes":"67108864","kernelSize":1}`), Release())
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{VPs: 2, Memory: 64 << 20, KernelSize: 1}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// wantFailure checks that err is a one-line failure with the outcome and that
// it names the cause.
func wantFailure(t *testing.T, err error, o handoff.Outcome, names string) {
	t.Helper()
	var f *handoff.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *handoff.Failure", err)
	}
	if f.Outcome != o {
		t.Errorf("outcome %q, want %q (%v)", f.Outcome, o, err)
	}
	if !strings.Contains(f.Error(), names) {
		t.Errorf("%q does not name %q", f.Error(), names)
	}
	if f.Remedy == "" || strings.ContainsAny(f.Error(), "\r\n") {
		t.Errorf("%q is not one line with a remedy", f.Error())
	}
}

func TestRefusedText(t *testing.T) {
	cases := []struct{ name, text, names string }{
		{"empty", "", "missing or empty"},
		{"huge", strings.Repeat(" ", MaxSize+1), "65537 bytes"},
		{"no JSON", "vps: 1", "invalid value"},
		{"unknown field", `{"vsp":1}`, `"vsp"`},
		{"unknown field that breaks lines", "{\"a\\nb\":1}", "unknown field"},
		{"repeated field", `{"vps":1,"vps":2}`, `"vps"`},
		{"trailing text", `{} {}`, "unexpected token"},
		{"unknown level", `{"logLevel":"LOUD"}`, "LOUD"},
		{"number as text", `{"vps":"many"}`, "vps"},
		{"negative", `{"vps":-1}`, "vps"},
		{"too large for its type", `{"memoryBytes":"18446744073709551616"}`, "memoryBytes"},
		{"deep", strings.Repeat(`{"guestName":`, 100), "line 1"},
		{"not UTF-8", "{\"guestName\":\"\xff\"}", "UTF-8"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text), Debug())
			wantFailure(t, err, handoff.OutcomeBadConfig, c.names)
		})
	}
}

func TestRefusedValues(t *testing.T) {
	cases := []struct {
		name    string
		spoil   func(*Config)
		outcome handoff.Outcome
		names   string
	}{
		{"no VP", func(c *Config) { c.VPs = 0 }, handoff.OutcomeBadVPCount, "vps = 0"},
		{"17 VPs", func(c *Config) { c.VPs = 17 }, handoff.OutcomeBadVPCount, "vps = 17"},
		{"negative VPs", func(c *Config) { c.VPs = -1 }, handoff.OutcomeBadVPCount, "vps = "},
		{"little memory", func(c *Config) { c.Memory = 62 << 20 }, handoff.OutcomeTooLittleMemory, "memoryBytes"},
		{"much memory", func(c *Config) { c.Memory = 65 << 30 }, handoff.OutcomeBadConfig, "memoryBytes"},
		{"odd memory", func(c *Config) { c.Memory = 65 << 20 }, handoff.OutcomeBadConfig, "2 MiB"},
		{"long command line", func(c *Config) { c.CommandLine = strings.Repeat("a", 2048) }, handoff.OutcomeBadConfig, "2048"},
		{"NUL in command line", func(c *Config) { c.CommandLine = "a\x00b" }, handoff.OutcomeBadConfig, "0x00 at 1"},
		{"newline in command line", func(c *Config) { c.CommandLine = "a\n" }, handoff.OutcomeBadConfig, "0x0a at 1"},
		{"long name", func(c *Config) { c.GuestName = strings.Repeat("a", 65) }, handoff.OutcomeBadConfig, "guestName"},
		{"escape in name", func(c *Config) { c.GuestName = "\x1b[2J" }, handoff.OutcomeBadConfig, "guestName"},
		{"no kernel", func(c *Config) { c.KernelSize = 0 }, handoff.OutcomeBadKernel, "no kernel"},
		{"huge kernel", func(c *Config) { c.KernelSize = 1<<30 + 1 }, handoff.OutcomeBadKernel, "kernelSize"},
		{"empty initrd", func(c *Config) { c.InitrdSize = 0 }, handoff.OutcomeBadInitrd, "empty"},
		{"huge initrd", func(c *Config) { c.InitrdSize = 4<<30 + 1 }, handoff.OutcomeBadInitrd, "initrdSize"},
		{"initrd not announced", func(c *Config) { c.HasInitrd = false }, handoff.OutcomeBadConfig, "hasInitrd"},
		{"nameless level", func(c *Config) { c.LogLevel = slog.LevelInfo + 1 }, handoff.OutcomeBadConfig, "logLevel"},
		{"nameless console", func(c *Config) { c.Console = 9 }, handoff.OutcomeBadConfig, "consoleMode"},
		{"nameless front", func(c *Config) { c.Disks[0].Front = Fronts }, handoff.OutcomeBadConfig, "front"},
		{"high LUN", func(c *Config) { c.Disks[0].LUN = MaxDisks }, handoff.OutcomeBadConfig, "lun = 64"},
		{"LUN twice", func(c *Config) { c.Disks[1].LUN = 0 }, handoff.OutcomeBadConfig, "lun = 0"},
		{"controller twice", func(c *Config) { c.Disks[2].Serials[0] = "b" }, handoff.OutcomeBadConfig, `"b"`},
		{"no controller", func(c *Config) { c.Disks[0].Serials = nil }, handoff.OutcomeBadConfig, "0 controllers"},
		{"wide stripe", func(c *Config) { c.Disks[1].Serials = strings.Split("123456789", "") }, handoff.OutcomeBadConfig, "9 controllers"},
		{"long serial", func(c *Config) { c.Disks[0].Serials[0] = strings.Repeat("s", 21) }, handoff.OutcomeBadConfig, "serial"},
		{"odd chunk", func(c *Config) { c.Disks[1].Chunk = 12 << 10 }, handoff.OutcomeBadConfig, "chunkBytes"},
		{"chunk of one disk", func(c *Config) { c.Disks[0].Chunk = 64 << 10 }, handoff.OutcomeBadConfig, "chunkBytes"},
		{"striped DVD", func(c *Config) { c.Disks[1].DVD = true }, handoff.OutcomeBadConfig, "DVD"},
		{"nameless TPM interface", func(c *Config) { c.TPM.Interface = 7 }, handoff.OutcomeBadConfig, "interface"},
		{"state on a disk", func(c *Config) { c.TPM.StateSerial = "b" }, handoff.OutcomeBadConfig, `"b"`},
		{"long state serial", func(c *Config) { c.TPM.StateSerial = strings.Repeat("s", 21) }, handoff.OutcomeBadConfig, "stateSerial"},
		{"short key", func(c *Config) { c.TPM.Key = c.TPM.Key[1:] }, handoff.OutcomeBadConfig, "31 bytes"},
		{"seal without state", func(c *Config) { c.TPM.StateSerial, c.TPM.Reset = "", false }, handoff.OutcomeBadConfig, "seal host-key"},
		{"key without state", func(c *Config) { c.TPM.StateSerial, c.TPM.Seal, c.TPM.Reset = "", SealNone, false }, handoff.OutcomeBadConfig, "32 bytes"},
		{"reset without state", func(c *Config) { c.TPM.StateSerial, c.TPM.Seal, c.TPM.Key = "", SealNone, nil }, handoff.OutcomeBadConfig, "resetState"},
		{"state without seal", func(c *Config) { c.TPM.Seal = SealNone }, handoff.OutcomeBadConfig, `stateSerial "state"`},
		{"nameless seal", func(c *Config) { c.TPM.Seal = 9 }, handoff.OutcomeBadConfig, "seal"},
		{"two seals", func(c *Config) { c.TPM.Seal = SealHardware }, handoff.OutcomeBadConfig, "hostKey of 32 bytes"},
		{"TEE's key without TEE", func(c *Config) {
			c.Isolation, c.LaunchDigest, c.Oracle = IsolationNone, nil, false
			c.TPM.Seal, c.TPM.Key = SealHardware, nil
		}, handoff.OutcomeBadConfig, "without a TEE"},
		{"TEE's key with TDX", func(c *Config) {
			c.Isolation, c.TPM.Seal, c.TPM.Key = IsolationTDX, SealHardware, nil
		}, handoff.OutcomeBadConfig, "derives no keys"},
		{"released without TEE", func(c *Config) {
			c.Isolation, c.LaunchDigest, c.Oracle = IsolationNone, nil, false
			c.TPM.Seal, c.TPM.Key, c.TPM.KeyServer = SealReleased, nil, make([]byte, KeySize)
		}, handoff.OutcomeBadConfig, "without a TEE"},
		{"released by nobody", func(c *Config) { c.TPM.Seal, c.TPM.Key = SealReleased, nil }, handoff.OutcomeBadConfig, "keyServerKey of 0 bytes"},
		{"short server key", func(c *Config) { c.TPM.Seal, c.TPM.Key, c.TPM.KeyServer = SealReleased, nil, make([]byte, 31) }, handoff.OutcomeBadConfig, "31 bytes"},
		{"server and host key", func(c *Config) { c.TPM.KeyServer = make([]byte, KeySize) }, handoff.OutcomeBadConfig, "keyServerKey of 32 bytes"},
		{"many disks", func(c *Config) { c.Disks = make([]Disk, 129) }, handoff.OutcomeBadConfig, "129 disks"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := good()
			tc.spoil(c)
			_, err := Marshal(c)
			wantFailure(t, err, tc.outcome, tc.names)
			if _, err := fromProto(toProto(c)); err == nil {
				t.Error("the reader accepts it")
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	tight := Policy{Name: "tight", MaxVPs: 2, MaxMemory: 256 << 20, LogLevel: slog.LevelWarn, Console: ConsoleOff}
	fits := Config{VPs: 2, Memory: 256 << 20, KernelSize: 1, LogLevel: slog.LevelWarn, Console: ConsoleOff}
	cases := []struct {
		name    string
		widen   func(*Config)
		outcome handoff.Outcome
		names   string
	}{
		{"vps", func(c *Config) { c.VPs = 3 }, handoff.OutcomeBadVPCount, "refuses vps = 3"},
		{"memory", func(c *Config) { c.Memory += 2 << 20 }, handoff.OutcomeBadConfig, "refuses memoryBytes"},
		{"level", func(c *Config) { c.LogLevel = slog.LevelInfo }, handoff.OutcomeBadConfig, "refuses logLevel = INFO"},
		{"console", func(c *Config) { c.Console = ConsoleOutputOnly }, handoff.OutcomeBadConfig, "refuses consoleMode = output only"},
		{"trace", func(c *Config) { c.TraceExits = true }, handoff.OutcomeBadConfig, "refuses traceExits"},
	}
	parse := func(c Config, p Policy) error {
		t.Helper()
		data, err := Marshal(&c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(data, p)
		return err
	}
	if err := parse(fits, tight); err != nil {
		t.Fatal(err)
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := fits
			tc.widen(&c)
			wantFailure(t, parse(c, tight), tc.outcome, tc.names)
			if err := parse(c, Debug()); err != nil {
				t.Errorf("the debug policy refuses it: %v", err)
			}
		})
	}
	traced := fits
	traced.TraceExits = true
	wantFailure(t, parse(traced, Release()), handoff.OutcomeBadConfig, "release policy")
}

func TestPolicyFor(t *testing.T) {
	const manifest = "00ff  bin/paravisor\n"
	for _, want := range []Policy{Release(), Debug()} {
		if got, err := PolicyFor(want.Name, manifest); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("PolicyFor(%q) = %+v, %v", want.Name, got, err)
		}
	}
	_, err := PolicyFor("lax", manifest)
	wantFailure(t, err, handoff.OutcomeBadImage, `"lax"`)
	signer := "owner signer " + strings.Repeat("01", 32) + "\n"
	if p, err := PolicyFor("release", manifest+signer); err != nil || p.Owner.Manifest() != signer {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = PolicyFor("release", manifest+"owner signer 01\n")
	wantFailure(t, err, handoff.OutcomeBadImage, "owner")
}

func FuzzParse(f *testing.F) {
	data, err := Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"vps":1,"memoryBytes":67108864,"kernelSize":"1e3"}`))
	f.Add([]byte(`{"guestName":null,"logLevel":1}`))
	f.Add([]byte(`{"commandLine":"\u0000"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, Release())
		if err != nil {
			f, ok := errors.AsType[*handoff.Failure](err)
			if !ok {
				t.Fatalf("%v is no failure", err)
			}
			wantFailure(t, err, f.Outcome, "")
			return
		}
		// What is accepted survives the round trip unchanged.
		again, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		c2, err := Parse(again, Release())
		if err != nil || !reflect.DeepEqual(c, c2) {
			t.Fatalf("%+v became %+v, %v", c, c2, err)
		}
	})
}
