package boot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"keel/boot/handoff"
	"keel/diag/owner"
)

// newc returns an archive with files, each a name and its contents.
func newc(files ...[2]string) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for _, f := range append(files, [2]string{"TRAILER!!!"}) {
		b.WriteString(newcMagic)
		for i := range 13 {
			fmt.Fprintf(&b, "%08X", map[int]int{6: len(f[1]), 11: len(f[0]) + 1}[i])
		}
		b.WriteString(f[0] + "\x00")
		pad()
		b.WriteString(f[1])
		pad()
	}
	return b.Bytes()
}

func testOwner(t *testing.T) owner.Keys {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := owner.ParseRecipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return owner.Keys{Recipient: r, Signer: signer}
}

// TestOwner: an image shows its owner's keys, whatever is before and behind them, and
// hardware measures each of them.
func TestOwner(t *testing.T) {
	k := testOwner(t)
	o := testOptions(t)
	program := [2]string{"bin/paravisor", strings.Repeat("program", 5000)}
	seen := map[string]string{}
	for name, keys := range map[string]owner.Keys{"none": {}, "recipient": {Recipient: k.Recipient}, "signer": {Signer: k.Signer}, "both": k, "other": testOwner(t)} {
		o.Initramfs = newc(program, [2]string{handoff.FileManifest, "00  bin/paravisor\n" + keys.Manifest()}, [2]string{"init", "bin/paravisor"})
		res := mustBuild(t, o)
		s, err := Open(res.IGVM)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := s.Describe(&out); err != nil {
			t.Fatal(err)
		}
		if r := keys.Recipient; (r != nil) != strings.Contains(out.String(), "owner age key") || r != nil && s.Owner.Recipient != r.String() {
			t.Errorf("%s: %+v\n%s", name, s.Owner, out.String())
		}
		if (keys.Signer != nil) != strings.Contains(out.String(), "owner ssh key  ssh-ed25519 AAAA") {
			t.Errorf("%s: %+v\n%s", name, s.Owner, out.String())
		}
		all, err := Measure(res.IGVM, Isolated, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if before, ok := seen[m.Digest.String()]; ok {
				t.Errorf("%s: %s and %s measure the same", m.Platform, before, name)
			}
			seen[m.Digest.String()] = name
		}
	}
	o.Initramfs = newc([2]string{handoff.FileManifest, "owner signer 00\n"})
	if _, err := Open(mustBuild(t, o).IGVM); !errors.Is(err, owner.ErrKeys) {
		t.Errorf("keys that make no sense: %v", err)
	}
}

// FuzzArchived reads any archive. What is found is in it.
func FuzzArchived(f *testing.F) {
	good := newc([2]string{"a", "first"}, [2]string{handoff.FileManifest, "x"}, [2]string{handoff.FileManifest, "last"})
	if got := archived(good, handoff.FileManifest); string(got) != "last" {
		f.Fatalf("%q", got)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(newcMagic + strings.Repeat("f", 13*8)))
	f.Add([]byte(newcMagic + strings.Repeat("g", 13*8)))
	f.Add(bytes.ReplaceAll(good, []byte("00000004"), []byte("FFFFFFFF")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if got := archived(archive, handoff.FileManifest); !bytes.Contains(archive, got) {
			t.Errorf("%q", got)
		}
	})
}
