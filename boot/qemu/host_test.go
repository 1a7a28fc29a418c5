package qemu

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"keel/boot/handoff"
)

// hostFiles makes a host's file system of paths and contents.
func hostFiles(files map[string]string) fstest.MapFS {
	fs := fstest.MapFS{}
	for name, data := range files {
		fs[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return fs
}

const (
	amd   = "processor\t: 0\nflags\t\t: fpu vme svm sse\nbugs\t: none\n"
	intel = "processor\t: 0\nflags\t\t: fpu vme vmx sse\n"
	plain = "processor\t: 0\nflags\t\t: fpu vme svm_lock vmxnet\nvmx flags\t: vnmi\n"

	amdNested   = "sys/module/kvm_amd/parameters/nested"
	intelNested = "sys/module/kvm_intel/parameters/nested"
)

func TestChooseAccel(t *testing.T) {
	absent := func() error { return os.ErrNotExist }
	denied := func() error { return os.ErrPermission }
	fine := func() error { return nil }
	tests := map[string]struct {
		files map[string]string
		open  func() error
		want  Accel  // of auto
		why   string // part of why kvm is refused
	}{
		"AMD":             {map[string]string{"proc/cpuinfo": amd, amdNested: "1\n"}, fine, AccelKVM, ""},
		"Intel":           {map[string]string{"proc/cpuinfo": intel, intelNested: "Y\n"}, fine, AccelKVM, ""},
		"no device":       {map[string]string{"proc/cpuinfo": amd, amdNested: "1\n"}, absent, AccelTCG, "file does not exist"},
		"not allowed":     {map[string]string{"proc/cpuinfo": amd, amdNested: "1\n"}, denied, AccelTCG, "permission denied"},
		"no flag":         {map[string]string{"proc/cpuinfo": plain, amdNested: "1\n"}, fine, AccelTCG, "neither svm nor vmx"},
		"nested off":      {map[string]string{"proc/cpuinfo": amd, amdNested: "0\n"}, fine, AccelTCG, `/sys/module/kvm_amd/parameters/nested is "0"`},
		"nested N":        {map[string]string{"proc/cpuinfo": intel, intelNested: "N\n"}, fine, AccelTCG, `kvm_intel/parameters/nested is "N"`},
		"other's module":  {map[string]string{"proc/cpuinfo": intel, amdNested: "1\n"}, fine, AccelTCG, "file does not exist"},
		"no proc":         {nil, fine, AccelTCG, "cpuinfo"},
		"no flags at all": {map[string]string{"proc/cpuinfo": ""}, fine, AccelTCG, "neither svm nor vmx"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host := hostFiles(tt.files)
			if got, err := chooseAccel(AccelAuto, host, tt.open); got != tt.want || err != nil {
				t.Errorf("auto: %s, %v", got, err)
			}
			if got, err := chooseAccel(AccelTCG, host, tt.open); got != AccelTCG || err != nil {
				t.Errorf("tcg: %s, %v", got, err)
			}
			_, err := chooseAccel(AccelKVM, host, tt.open)
			if tt.why == "" && err != nil || tt.why != "" && (OutcomeOf(err) != handoff.OutcomeHostRefused || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("kvm: %v", err)
			}
		})
	}
}

func TestCheckMemory(t *testing.T) {
	tests := map[string]struct {
		meminfo string
		want    handoff.Outcome
	}{
		"enough":     {"MemTotal: 1 kB\nMemAvailable:   132096 kB\n", handoff.OutcomePoweroff},
		"a bit less": {"MemAvailable:   132095 kB\n", handoff.OutcomeTooLittleMemory},
		"no line":    {"MemTotal: 1 kB\n", handoff.OutcomeHostRefused},
		"no number":  {"MemAvailable: many\n", handoff.OutcomeHostRefused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkMemory(MinMemory, vmMemory(MinMemory, nil, 1, false), hostFiles(map[string]string{"proc/meminfo": tt.meminfo}))
			if got := OutcomeOf(err); err == nil && tt.want != handoff.OutcomePoweroff || err != nil && got != tt.want {
				t.Errorf("%s: %v", got, err)
			}
		})
	}
	if err := checkMemory(MinMemory, vmMemory(MinMemory, nil, 1, false), hostFiles(nil)); OutcomeOf(err) != handoff.OutcomeHostRefused {
		t.Error(err)
	}
}

func TestQEMUVersion(t *testing.T) {
	tests := map[string]struct {
		says, want string // want is the version, or part of the refusal
		good       bool
	}{
		"Debian 12": {"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", "7.2.22", true},
		"Debian 13": {"QEMU emulator version 10.0.2\n", "10.0.2", true},
		"too old":   {"QEMU emulator version 7.1.0\n", "use 7.2 or newer", false},
		"very old":  {"QEMU emulator version 5.2.0 (Debian)\n", "use 7.2 or newer", false},
		"no QEMU":   {"cat (GNU coreutils) 9.1\n", "is not QEMU", false},
		"silent":    {"", "is not QEMU", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := fake(t, "")
			t.Setenv(versionVar, tt.says)
			got, err := qemuVersion(bounded(t), o.QEMU)
			if tt.good && (err != nil || got != tt.want) {
				t.Errorf("%q, %v", got, err)
			}
			if !tt.good && (OutcomeOf(err) != handoff.OutcomeHostRefused || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if _, err := qemuVersion(bounded(t), "/bin/false"); OutcomeOf(err) != handoff.OutcomeHostRefused || !strings.Contains(err.Error(), "reinstall") {
		t.Error(err)
	}
}
