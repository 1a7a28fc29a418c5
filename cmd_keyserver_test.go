package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/keyrelease"
)

// releasePolicy accepts an emulated VM "web".
var releasePolicy = `{"version":1,"vms":[{"name":"web","allow_emulated":true,"measurements":{"snp":["` + strings.Repeat("ab", 48) + `"]}}]}`

// keyFolder makes an empty folder for keys.
func keyFolder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// newSigningKey is what "keel keyserver keygen" makes and prints.
func newSigningKey(t *testing.T) (path, public string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "signing")
	var out bytes.Buffer
	cmd := keyserverCommand()
	cmd.SetArgs([]string{"keygen", path})
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return path, strings.TrimSpace(out.String())
}

func TestKeygen(t *testing.T) {
	path, public := newSigningKey(t)
	if key, err := readPublicKey(public); err != nil || hex.EncodeToString(key) != public {
		t.Errorf("%q: %v", public, err)
	}
	cmd := keyserverCommand()
	cmd.SetArgs([]string{"keygen", path})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
		t.Errorf("the second time: %v", err)
	}
}

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestKeyserver serves on a Unix socket, also in the place of one that was left, until it
// is told to end.
func TestKeyserver(t *testing.T) {
	signing, public := newSigningKey(t)
	f := keyserverFlags{
		listen: filepath.Join(t.TempDir(), "socket"), policy: file(t, "policy", releasePolicy), keys: keyFolder(t), signingKey: signing,
		allowEmulated: true, logJSON: true,
	}
	server, err := hex.DecodeString(public)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var out, log buffer
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.run(ctx, &out, &log) }()
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), "\n"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not listen")
			}
		}
		if !strings.Contains(out.String(), public) || !strings.Contains(out.String(), f.listen) {
			t.Errorf("it says %q", out.String())
		}
		second := f
		second.keys = keyFolder(t)
		if err := second.run(t.Context(), &out, &log); qemu.OutcomeOf(err) != handoff.OutcomeHostRefused {
			t.Errorf("a second server on one socket: %v", err)
		}
		client := keyrelease.Client{VM: "nobody", Server: server, Evidence: func([]byte) ([]byte, error) { return nil, nil }}
		_, err := client.Release(ctx, dialKeyServer(t, f.listen))
		if err == nil || !strings.Contains(err.Error(), "rule vms") {
			t.Errorf("%v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), `"rule":"vms"`) || !strings.Contains(log.String(), "proves nothing") {
			t.Errorf("log %s", log.String())
		}
		// A server that is killed leaves its socket.
		leaveSocket(t, f.listen)
	}
}

func TestKeyserverRefused(t *testing.T) {
	signing, _ := newSigningKey(t)
	policy := file(t, "policy", releasePolicy)
	absent := filepath.Join(t.TempDir(), "absent")
	shared := keyFolder(t)
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*keyserverFlags)
		want   handoff.Outcome
		says   string
	}{
		"no address":       {func(f *keyserverFlags) { f.listen = "" }, handoff.OutcomeUsage, "--listen"},
		"no policy":        {func(f *keyserverFlags) { f.policy = "" }, handoff.OutcomeUsage, "--policy"},
		"no folder":        {func(f *keyserverFlags) { f.keys = "" }, handoff.OutcomeUsage, "--keys"},
		"no signing key":   {func(f *keyserverFlags) { f.signingKey = "" }, handoff.OutcomeUsage, "--signing-key"},
		"odd address":      {func(f *keyserverFlags) { f.listen = "here" }, handoff.OutcomeUsage, "HOST:PORT"},
		"not its address":  {func(f *keyserverFlags) { f.listen = "192.0.2.1:1" }, handoff.OutcomeHostRefused, "192.0.2.1"},
		"file for socket":  {func(f *keyserverFlags) { f.listen = policy }, handoff.OutcomeHostRefused, policy},
		"absent policy":    {func(f *keyserverFlags) { f.policy = absent }, handoff.OutcomeBadConfig, absent},
		"malformed policy": {func(f *keyserverFlags) { f.policy = file(t, "bad", `{"vms":{}}`) }, handoff.OutcomeBadConfig, "policy"},
		"not allowed":      {func(f *keyserverFlags) { f.allowEmulated = false }, handoff.OutcomeBadConfig, "--allow-emulated"},
		"absent folder":    {func(f *keyserverFlags) { f.keys = absent }, handoff.OutcomeBadState, absent},
		"open folder":      {func(f *keyserverFlags) { f.keys = shared }, handoff.OutcomeBadState, "0755"},
		"absent key":       {func(f *keyserverFlags) { f.signingKey = absent }, handoff.OutcomeUsage, "keygen"},
		"no key":           {func(f *keyserverFlags) { f.signingKey = file(t, "nokey", "x") }, handoff.OutcomeUsage, "signing key"},
	} {
		t.Run(name, func(t *testing.T) {
			f := keyserverFlags{listen: "127.0.0.1:0", policy: policy, keys: keyFolder(t), signingKey: signing, allowEmulated: true}
			test.change(&f)
			var out bytes.Buffer
			err := f.run(t.Context(), &out, &out)
			if err == nil || qemu.OutcomeOf(err) != test.want || out.Len() > 0 {
				t.Fatalf("%v, want %s; it says %q", err, test.want, out.String())
			}
			if s := err.Error(); !strings.Contains(s, test.says) || !strings.Contains(s, "; ") || strings.Contains(s, "\n") {
				t.Errorf("%q is not one line with a remedy and %q", s, test.says)
			}
		})
	}
	if b, err := os.ReadFile(policy); err != nil || string(b) != releasePolicy {
		t.Errorf("the policy is %q, %v", b, err)
	}
}

// TestAllowRollback needs a VM that has reported a state.
func TestAllowRollback(t *testing.T) {
	keys := keyFolder(t)
	damaged := "keel seen state 1\nvm db\n"
	if err := os.WriteFile(filepath.Join(keys, "db.seen"), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want handoff.Outcome
		says string
	}{
		"no folder":      {[]string{"web"}, handoff.OutcomeUsage, "--keys"},
		"never reported": {[]string{"--keys", keys, "web"}, handoff.OutcomeUsage, `"web"`},
		"no name":        {[]string{"--keys", keys, "../web"}, handoff.OutcomeUsage, "letters"},
		"absent folder":  {[]string{"--keys", filepath.Join(keys, "absent"), "web"}, handoff.OutcomeBadState, "absent"},
		"damaged record": {[]string{"--keys", keys, "db"}, handoff.OutcomeBadState, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			err := execute(t.Context(), append([]string{"keyserver", "allow-rollback"}, test.args...))
			if err == nil || qemu.OutcomeOf(err) != test.want {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if s := err.Error(); !strings.Contains(s, test.says) || !strings.Contains(s, "; ") || strings.Contains(s, "\n") {
				t.Errorf("%q is not one line with a remedy and %q", s, test.says)
			}
		})
	}
	if left, err := os.ReadDir(keys); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// dialKeyServer connects as the launcher does.
func dialKeyServer(t *testing.T, addr string) func(context.Context) (net.Conn, error) {
	t.Helper()
	network, address, err := handoff.ParseKeyServer(addr)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, address) }
}

// leaveSocket makes a socket on which nobody listens.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}
