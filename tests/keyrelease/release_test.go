package keyrelease

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"keel/diag/attest/claims"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
)

// TestReleased: a VM gets its key, the same one each time, also of a server that was
// started anew, and no other VM's.
func TestReleased(t *testing.T) {
	for name, ends := range map[string]func(*testing.T) (net.Listener, func(context.Context) (net.Conn, error)){
		"pipe": func(*testing.T) (net.Listener, func(context.Context) (net.Conn, error)) {
			p := newPipes()
			return p, p.dial
		},
		"TCP": func(t *testing.T) (net.Listener, func(context.Context) (net.Conn, error)) { t.Helper(); return tcp(t) },
		"Unix": func(t *testing.T) (net.Listener, func(context.Context) (net.Conn, error)) {
			t.Helper()
			return listen(t, "unix", filepath.Join(t.TempDir(), "socket"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys, policy := folder(t), parsePolicy(t, entryOf("web"), entryOf("db"))
			l, dial := ends(t)
			s := start(t, keys, l, dial, policy, nil)
			get := func(s *running, v *vm) []byte {
				t.Helper()
				key, err := v.ask(s.dial)
				if err != nil {
					t.Fatal(err)
				}
				return key
			}
			web, td := newVM(t, "web"), newVM(t, "web")
			td.kind = claims.KindTDX
			first := get(s, web)
			if !bytes.Equal(get(s, web), first) || !bytes.Equal(get(s, td), first) {
				t.Error("the VM gets another key the second time")
			}
			if bytes.Equal(get(s, newVM(t, "db")), first) {
				t.Error("two VMs have one key")
			}
			if _, err := gueststate.ReleasedKey(first); err != nil {
				t.Error(err)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if got := s.Stats(); got.Released != 4 || got.Created != 2 || got.Refused+got.Broken+got.Failed+got.TurnedAway != 0 {
				t.Errorf("%+v", got)
			}
			info, err := os.Stat(filepath.Join(keys, "web.key"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			l, dial = ends(t)
			if !bytes.Equal(get(start(t, keys, l, dial, policy, nil), web), first) {
				t.Error("the VM gets another key of a server that was started anew")
			}
			if log := s.log.String(); strings.Count(log, "\n") != 4 || strings.Count(log, "msg=release vm=") != 4 || strings.Count(log, "EMULATED") != 4 {
				t.Errorf("log %q", log)
			}
			for _, secret := range []string{string(first), hex.EncodeToString(first), string(signer.Seed()), fmt.Sprintf("%d", first)} {
				if strings.Contains(s.log.String(), secret) {
					t.Error("the log has a secret")
				}
			}
		})
	}
}

// TestTogether has many ask at once: one key is made, and all get it.
func TestTogether(t *testing.T) {
	s := serve(t, entryOf("web"))
	const clients = 12
	keys := make([][]byte, clients)
	var all sync.WaitGroup
	for i := range clients {
		v := newVM(t, "web")
		all.Go(func() {
			key, err := v.ask(s.dial)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	all.Wait()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if !bytes.Equal(keys[i], keys[0]) {
			t.Errorf("client %d has another key", i)
		}
	}
	if got := s.Stats(); got.Created != 1 || got.Released != clients {
		t.Errorf("%+v", got)
	}
}

// TestStateSealed seals a state with a released key: no other key opens it.
func TestStateSealed(t *testing.T) {
	s := serve(t, entryOf("web"), entryOf("db"))
	disk := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(disk, make([]byte, gueststate.MinDisk), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(name string) (*gueststate.Store, *gueststate.File, error) {
		t.Helper()
		key, err := newVM(t, name).ask(s.dial)
		if err != nil {
			t.Fatal(err)
		}
		f := must[*gueststate.File](t)(gueststate.OpenFile(disk, true))
		provider := must[gueststate.Provider](t)(gueststate.ReleasedKey(key))
		store, err := gueststate.Open(f, gueststate.Options{VM: "web", Provider: provider})
		return store, f, err
	}
	store, f, err := open("web")
	if err != nil || store.Commit([]byte("secret")) != nil {
		t.Fatal(err)
	}
	f.Close()
	before := must[[]byte](t)(os.ReadFile(disk))
	_, f, err = open("db")
	f.Close()
	oneLine(t, err, gueststate.ErrKey)
	f = must[*gueststate.File](t)(gueststate.OpenFile(disk, true))
	provider := must[gueststate.Provider](t)(gueststate.HostKey(bytes.Repeat([]byte{1}, keyrelease.KeySize)))
	_, err = gueststate.Open(f, gueststate.Options{VM: "web", Provider: provider})
	f.Close()
	oneLine(t, err, gueststate.ErrProvider, `"released"`)
	if !bytes.Equal(must[[]byte](t)(os.ReadFile(disk)), before) {
		t.Error("the refused state was changed")
	}
	store, f, err = open("web")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if content, err := store.Load(); err != nil || string(content) != "secret" {
		t.Errorf("%q, %v", content, err)
	}
}
