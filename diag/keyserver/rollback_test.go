package keyserver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"keel/paravisor/keyrelease"
)

// vm is a VM whose key the store has made.
type vm struct {
	t    *testing.T
	s    *store
	name string
	key  [32]byte
}

func newVM(t *testing.T, s *store, name string) *vm {
	t.Helper()
	key, _, err := s.key(name)
	if err != nil {
		t.Fatal(err)
	}
	return &vm{t, s, name, keyrelease.KeyID(key)}
}

// state is the one with a sequence number in a history of the VM's.
func (v *vm) state(sequence uint64, history byte, start bool) *keyrelease.State {
	return &keyrelease.State{Sequence: sequence, Header: [32]byte{byte(sequence), history}, Key: v.key, Start: start}
}

// accepts wants a state to be accepted, and whether as an older one.
func (v *vm) accepts(state *keyrelease.State, floor uint64) {
	v.t.Helper()
	got, older, err := v.s.report(v.name, state)
	if err != nil || got != floor || older != (floor != 0) {
		v.t.Errorf("sequence %d: from %d on, older %t, %v; want %d", state.Sequence, got, older, err, floor)
	}
}

// refuses wants a state to be refused by a rule.
func (v *vm) refuses(state *keyrelease.State, rule string) {
	v.t.Helper()
	floor, older, err := v.s.report(v.name, state)
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || refusal.Rule != rule || floor != 0 || older {
		v.t.Fatalf("sequence %d: from %d on, %t, %v; want rule %s", state.Sequence, floor, older, err, rule)
	}
	oneLine(v.t, err, refusal.Err, "; ")
}

// TestRollback: what is newer is accepted, what is older is not, in this server's life and
// in the next one's.
func TestRollback(t *testing.T) {
	path := keys(t)
	s := open(t, path)
	v := newVM(t, s, "web")
	v.accepts(v.state(0, 1, true), 0)
	v.accepts(v.state(0, 2, true), 0) // nothing was committed: there are no histories yet
	v.accepts(v.state(51, 1, false), 0)
	v.accepts(v.state(51, 1, true), 0)
	v.accepts(v.state(100, 1, false), 0)
	for range 2 {
		for _, start := range []bool{true, false} {
			for _, sequence := range []uint64{0, 1, 51, 99} {
				v.refuses(v.state(sequence, 1, start), RuleRollback)
			}
			v.refuses(v.state(100, 2, start), RuleRollback) // a fork
			v.accepts(v.state(100, 1, start), 0)
		}
		s.close()
		s = open(t, path)
		v.s = s
	}
	// The VM went on, and ended before it could tell.
	v.accepts(v.state(500, 1, true), 0)
	v.refuses(v.state(100, 1, true), RuleRollback)
	other := newVM(t, s, "web2")
	other.accepts(other.state(1, 1, true), 0)

	left, err := os.ReadDir(path)
	if err != nil || len(left) != 4 {
		t.Errorf("%v, %v", left, err)
	}
	for _, e := range left {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// TestAllowRollback: an older state gets in once, also when its VM ends on the way, and all
// that was seen before is old from then on.
func TestAllowRollback(t *testing.T) {
	path := keys(t)
	v := newVM(t, open(t, path), "web")
	_, err := AllowRollback(path, "web")
	oneLine(t, err, ErrAllow, "never")
	v.accepts(v.state(100, 1, false), 0)
	if n, err := AllowRollback(path, "web"); err != nil || n != 100 {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := AllowRollback(path, "web"); err != nil { // twice is once
		t.Fatal(err)
	}
	v.refuses(v.state(51, 1, false), RuleRollback) // a VM that runs has no need of it
	v.accepts(v.state(51, 1, true), 101)
	v.accepts(v.state(51, 1, true), 101) // it had no time to go on
	v.accepts(v.state(102, 2, true), 0)
	for _, old := range []uint64{51, 100, 101} {
		v.refuses(v.state(old, 1, true), RuleRollback)
	}
	v.accepts(v.state(102, 2, true), 0)

	// One that is not needed does not wait for a host to use it.
	if _, err := AllowRollback(path, "web"); err != nil {
		t.Fatal(err)
	}
	v.accepts(v.state(102, 2, true), 0)
	v.refuses(v.state(51, 1, true), RuleRollback)

	// Also to nothing, and to a fork.
	for _, state := range []*keyrelease.State{v.state(0, 1, true), v.state(102, 1, true)} {
		if _, err := AllowRollback(path, "web"); err != nil {
			t.Fatal(err)
		}
		v.accepts(state, 103)
	}
	for name, test := range map[string]struct {
		keys, vm string
		want     error
	}{
		"no name": {path, "../web", ErrAllow}, "stranger": {path, "db", ErrAllow}, "no folder": {filepath.Join(path, "absent"), "web", ErrKeys},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := AllowRollback(test.keys, test.vm)
			oneLine(t, err, test.want, "")
		})
	}
}

// TestOtherKey: a state that the VM's key does not open counts for nothing, in either order.
func TestOtherKey(t *testing.T) {
	path := keys(t)
	s := open(t, path)
	v := newVM(t, s, "web")
	v.accepts(v.state(100, 1, false), 0)
	if err := os.Remove(filepath.Join(path, "web"+keySuffix)); err != nil {
		t.Fatal(err)
	}
	v.refuses(v.state(101, 1, false), RuleKey)
	fresh := newVM(t, s, "web")
	v.refuses(v.state(101, 1, false), RuleKey)
	fresh.accepts(fresh.state(0, 1, true), 0)
	fresh.accepts(fresh.state(2, 1, false), 0)
	fresh.refuses(fresh.state(1, 1, true), RuleRollback)
}

// TestSeenDamaged: a record that is damaged refuses all, and stays as it is.
func TestSeenDamaged(t *testing.T) {
	path := keys(t)
	v := newVM(t, open(t, path), "web")
	v.accepts(v.state(100, 1, false), 0)
	file := filepath.Join(path, "web"+seenSuffix)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), '\n'), "older": bytes.Replace(good, []byte("sequence 100"), []byte("sequence 001"), 1),
		"another VM's": seenFile("db", &seen{key: v.key, sequence: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, sequence := range []uint64{1, 100, 200} {
				_, _, err := v.s.report("web", v.state(sequence, 1, true))
				oneLine(t, err, ErrKeyFile, "backup")
			}
			_, err := AllowRollback(path, "web")
			oneLine(t, err, ErrKeyFile, "backup")
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, content) {
				t.Errorf("%q, %v", after, err)
			}
		})
	}
}

// FuzzSeenFile: a record comes only out of what seenFile has written.
func FuzzSeenFile(f *testing.F) {
	f.Add(seenFile("web", &seen{key: [32]byte{1}, sequence: 51, header: [32]byte{2}}))
	f.Add([]byte("keel seen state 1\nvm web\nkey \nsequence 18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSeenFile(b, "web")
		if err == nil && !bytes.Equal(seenFile("web", s), b) {
			t.Fatalf("%+v out of %q", s, b)
		}
	})
}
