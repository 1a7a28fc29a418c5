package keyrelease

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/diag/keyserver"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
)

// machine is a VM with a state disk, which its host may exchange.
type machine struct {
	*vm
	s    *running
	disk string
	keys string // the server's folder
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{vm: newVM(t, "web"), disk: filepath.Join(t.TempDir(), "state"), keys: folder(t)}
	l, dial := tcp(t)
	m.s = start(t, m.keys, l, dial, parsePolicy(t, entryOf("web")), nil)
	m.put(make([]byte, gueststate.MinDisk))
	return m
}

// put is what the host does.
func (m *machine) put(b []byte) {
	m.tb.Helper()
	if err := os.WriteFile(m.disk, b, 0o600); err != nil {
		m.tb.Fatal(err)
	}
}

func (m *machine) get() []byte {
	m.tb.Helper()
	return must[[]byte](m.tb)(os.ReadFile(m.disk))
}

// run is a run of the VM: it has its key released and its state confirmed, and commits.
func (m *machine) run(reset bool, commits ...string) (report gueststate.Report, err error) {
	m.tb.Helper()
	key, err := m.ask(m.s.dial)
	if err != nil {
		return report, err
	}
	tell := func(mark gueststate.Mark, start bool) (floor uint64, err error) {
		return m.client().Report(m.tb.Context(), m.s.dial,
			&keyrelease.State{Sequence: mark.Sequence, Header: mark.Header, Key: keyrelease.KeyID(key), Start: start})
	}
	f := must[*gueststate.File](m.tb)(gueststate.OpenFile(m.disk, true))
	defer f.Close()
	store, err := gueststate.Open(f, gueststate.Options{
		VM: "web", Provider: must[gueststate.Provider](m.tb)(gueststate.ReleasedKey(key)), Reset: reset,
		Confirm: func(mark gueststate.Mark) (uint64, error) { return tell(mark, true) },
	})
	if err != nil {
		return report, err
	}
	if _, err := tell(store.Mark(), true); err != nil {
		return report, err
	}
	for _, c := range commits {
		if err := store.Commit([]byte(c)); err != nil {
			return report, err
		}
	}
	_, err = tell(store.Mark(), false)
	return store.Report(), err
}

// refused wants a run to be refused over its state, which stays as it is.
func (m *machine) refused(reset bool, says string) {
	m.tb.Helper()
	before := m.get()
	_, err := m.run(reset)
	oneLine(m.tb, err, keyrelease.ErrRefused, "rule rollback", says, "allow-rollback")
	if !bytes.Equal(m.get(), before) {
		m.tb.Error("the refused state was changed")
	}
}

// ran wants a run to go well.
func (m *machine) ran(reset bool, commits ...string) gueststate.Report {
	m.tb.Helper()
	return must[gueststate.Report](m.tb)(m.run(reset, commits...))
}

// TestRollback has a host that brings back what the state was once, an empty disk, a fork,
// and tells the VM to give the state up.
func TestRollback(t *testing.T) {
	m := newMachine(t)
	empty := m.get()
	m.ran(false, "a", "b")
	old := m.get()
	m.ran(false, "c")
	newest := m.get()

	m.put(old)
	m.refused(false, "older")
	m.refused(true, "empty")
	m.put(empty)
	m.refused(false, "empty")
	if log := m.s.log.String(); strings.Count(log, "rule=rollback") != 3 {
		t.Errorf("log %s", log)
	}
	m.put(newest)
	m.ran(false) // without a commit
	m.ran(false, "d")

	m.put(newest) // two VMs from one state
	m.refused(false, "older")
}

// TestUnreported: what a VM committed before its power failed, and never reported, is fine.
func TestUnreported(t *testing.T) {
	m := newMachine(t)
	m.ran(false, "a")
	key := must[[]byte](t)(m.ask(m.s.dial))
	f := must[*gueststate.File](t)(gueststate.OpenFile(m.disk, true))
	store := must[*gueststate.Store](t)(gueststate.Open(f, gueststate.Options{VM: "web", Provider: must[gueststate.Provider](t)(gueststate.ReleasedKey(key))}))
	for range 10 {
		if err := store.Commit([]byte("unreported")); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	m.ran(false)
}

// TestAllowedRollback: with the operator's word an older state, none, or a new one gets in
// once. All that was seen before is old from then on, also what is newer than what got in.
func TestAllowedRollback(t *testing.T) {
	for name, change := range map[string]struct {
		disk  func(empty, old []byte) []byte
		reset bool
	}{
		"older":       {func(_, old []byte) []byte { return old }, false},
		"empty":       {func(empty, _ []byte) []byte { return empty }, false},
		"reset":       {func(_, old []byte) []byte { return old }, true},
		"empty reset": {func(empty, _ []byte) []byte { return empty }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			empty := m.get()
			m.ran(false, "a", "b")
			old := m.get()
			m.ran(false, "c", "d", "e")
			between := m.get()
			m.ran(false, "f")
			newest := m.get()

			m.put(change.disk(empty, old))
			m.refused(change.reset, "")
			must[uint64](t)(keyserver.AllowRollback(m.keys, "web"))
			if r := m.ran(change.reset, "g"); r.Spliced || r.Raised != (name == "older") {
				t.Errorf("%v", r)
			}
			r := m.ran(false) // without another word
			if r.Spliced || r.Recovered {
				t.Errorf("%v", r)
			}
			for _, b := range [][]byte{old, between, newest} {
				m.put(b)
				m.refused(false, "older")
			}
		})
	}
}
