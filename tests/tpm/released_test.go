package tpm

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot"
	"keel/paravisor/gueststate"
	"keel/tests/harness"
)

// keyServer is a "keel keyserver" with its files.
type keyServer struct {
	dir, key string // key is its public one
}

func newKeyServer(t *testing.T) keyServer {
	t.Helper()
	s := keyServer{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool.Path, "keyserver", "keygen", filepath.Join(s.dir, "signing.pem")).Output()
	if err != nil {
		t.Fatal(err)
	}
	s.key = strings.TrimSpace(string(out))
	return s
}

func (s keyServer) socket() string { return filepath.Join(s.dir, "s") }

// serve starts the server with a policy for one VM, until stop is called.
func (s keyServer) serve(t *testing.T, vm, measurement string) (stop func()) {
	t.Helper()
	policy, err := json.Marshal(map[string]any{"version": 1, "vms": []any{map[string]any{
		"name": vm, "measurements": map[string]any{"snp": []string{measurement}}, "allow_emulated": true,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "policy.json")
	if err := os.WriteFile(file, policy, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(tool.Path, "keyserver", "--listen", s.socket(), "--policy", file, "--keys", filepath.Join(s.dir, "keys"),
		"--signing-key", filepath.Join(s.dir, "signing.pem"), "--allow-emulated")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
		_ = cmd.Wait()                       // and its log says why
		t.Logf("key server: %s", log.String())
	}
	for end := time.Now().Add(harness.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(s.socket()); err == nil {
			return stop
		}
		if time.Now().After(end) {
			stop()
			t.Fatal("the key server does not listen")
		}
	}
}

// allowRollback is the operator's word.
func (s keyServer) allowRollback(t *testing.T, vm string) {
	t.Helper()
	if out, err := exec.Command(tool.Path, "keyserver", "allow-rollback", "--keys", filepath.Join(s.dir, "keys"), vm).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestReleased: the state's key comes from a server, for the image that its policy names.
// Without it no guest starts, and the state stays as it is; so it does when the host brings
// an older state back.
func TestReleased(t *testing.T) {
	t.Parallel()
	image, err := boot.Measure(tool.Image, []string{"snp"}, false)
	if err != nil {
		t.Fatal(err)
	}
	d, s := newDisk(t), newKeyServer(t)
	flags := func(boot string) []string {
		return d.flags(append(machine{crbOldSNP}.flags(ScriptState, "boot="+boot),
			"--tpm-seal", "released", "--key-server", s.socket(), "--key-server-key", s.key))
	}
	empty := d.read(t)
	stop := s.serve(t, d.name, image[0].Digest.String())
	machine{crbOldSNP}.script(t, flags("1"), "leave", "found", "identity", "pcrs")
	old := d.read(t)
	machine{crbOldSNP}.script(t, flags("2"), "found", "identity", "pcrs")
	newest := d.read(t)

	d.write(t, old)
	d.refused(t, flags("2"), "must not be used", "rule rollback", "older", "allow-rollback")
	if harness.Soak() { // tests/keyrelease has it without a VM
		d.refused(t, append(flags("2"), gueststate.ResetOption), "rule rollback", "empty")
		d.write(t, empty)
		d.refused(t, flags("1"), "rule rollback", "empty")
		d.write(t, old)
		s.allowRollback(t, d.name)
		machine{crbOldSNP}.script(t, flags("2"), "found", "identity", "pcrs")
		d.write(t, newest)
		d.refused(t, flags("2"), "rule rollback", "older")
	}
	stop()
	d.refused(t, flags("3"), "key server")

	stop = s.serve(t, d.name, strings.Repeat("ab", 48))
	d.refused(t, flags("3"), "measurement")
	stop()
}
