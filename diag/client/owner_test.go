package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/kmsg"
	"keel/diag/owner"
	"keel/diag/server"
)

// TestSign: a call that changes something has a nonce of the VM's under its signature; a
// VM without an owner has none to give.
func TestSign(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]owner.Keys{"owned": {Signer: public}, "nobody's": {}} {
		v := start(t, filepath.Join(t.TempDir(), "s"), server.Config{Root: &part{}, Owner: keys})
		c := dial(t, v.path)
		c.Sign(&Owner{Key: private})
		err := c.once(t.Context(), func(ctx context.Context, conn *ttrpc.Client) error {
			_, err := diagpb.NewDiagClient(conn).Inspect(ctx, &diagpb.InspectRequest{})
			return err
		})
		if n := v.server.Stats().Requests; keys.Signer != nil && (err != nil || n != 2) || keys.Signer == nil && (!errors.Is(err, ErrRefused) || n != 1) {
			t.Errorf("%s: %v after %d requests", name, err, n)
		}
	}
}

// guest is one that can be dumped, and paused.
type guest struct {
	server.Control
	pauses int
}

func (g *guest) Pause(context.Context) (bool, error) { g.pauses++; return false, nil }

func (*guest) Dump(_ context.Context, send func(*diagpb.FilePiece) error) error {
	return errors.Join(send(&diagpb.FilePiece{Data: []byte("head"), Zeros: 7996}), send(&diagpb.FilePiece{Data: []byte("tail"), Zeros: 996}))
}

// owned serves a guest of an owner.
func owned(t *testing.T, confidential bool) (*Client, *age.X25519Identity, *guest, *Owner) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := owner.Keys{Signer: public}
	if keys.Recipient, err = owner.ParseRecipient(id.Recipient().String()); err != nil {
		t.Fatal(err)
	}
	j, g := &journal.Journal{}, &guest{}
	log := slog.New(j.Handler(slog.NewTextHandler(io.Discard, nil), true))
	log.Info("a line", "value", "a secret", inspect.PublicAttr("lun", 3))
	v := start(t, filepath.Join(t.TempDir(), "s"), server.Config{
		Root: &part{}, Confidential: confidential, Owner: keys, Control: g, Capture: fakeCapture, Logs: server.LogsConfig{
			Journal: j,
			Kmsg: func(_ context.Context, _ bool, each func(kmsg.Record) error) error {
				return each(kmsg.Record{Time: time.Second, Level: 6, Text: "of the kernel"})
			},
		},
	})
	return dial(t, v.path), id, g, &Owner{Key: private}
}

// TestOwned: what is private comes as it is, or, of a confidential guest, for the owner
// alone, and is the same then.
func TestOwned(t *testing.T) {
	for _, confidential := range []bool{false, true} {
		c, id, _, _ := owned(t, confidential)
		files := map[string]*bytes.Buffer{"dump": {}, "capture": {}, "journal": {}}
		for name, take := range map[string]func(w *bytes.Buffer) error{
			"dump": func(w *bytes.Buffer) error { return c.Dump(t.Context(), w) },
			"capture": func(w *bytes.Buffer) error {
				return c.PacketCapture(t.Context(), CaptureOptions{Length: time.Second}, func(p Piece) error {
					w.Write(p.PCAPNG)
					return nil
				})
			},
			"journal": func(w *bytes.Buffer) error { return c.Journal(t.Context(), w) },
		} {
			if err := take(files[name]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if Sealed(files[name].Bytes()) != confidential {
				t.Errorf("%s begins with %.40q", name, files[name].Bytes())
			}
			if confidential {
				r, err := age.Decrypt(files[name], id)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				b, err := io.ReadAll(r)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				files[name] = bytes.NewBuffer(b)
			}
		}
		dump := append(append(append([]byte("head"), make([]byte, 7996)...), "tail"...), make([]byte, 996)...)
		if got := files["dump"].Bytes(); !bytes.Equal(got, dump) {
			t.Errorf("a dump of %d bytes", len(got))
		}
		if got := files["capture"].Bytes(); !bytes.Equal(got, bytes.Repeat(block, 4)) {
			t.Errorf("a capture of %d bytes", len(got))
		}
		lines := strings.Split(strings.TrimSpace(files["journal"].String()), "\n")
		for _, l := range lines {
			if !json.Valid([]byte(l)) {
				t.Errorf("%s is no JSON", l)
			}
		}
		if len(lines) != 2 || !strings.Contains(lines[0], `{"key":"value","value":"a secret","private":true},{"key":"lun","value":"3"}`) ||
			!strings.Contains(lines[1], `"text":"of the kernel"`) {
			t.Errorf("%q", lines)
		}
	}
}

// TestCommand: a confidential guest hears its owner.
func TestCommand(t *testing.T) {
	c, _, g, o := owned(t, true)
	if _, err := c.Pause(t.Context()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "its owner has not signed") || g.pauses != 0 {
		t.Errorf("%v", err)
	}
	c.Sign(o)
	if _, err := c.Pause(t.Context()); err != nil || g.pauses != 1 {
		t.Errorf("%v", err)
	}
	o.Instance[0] = 1
	if _, err := c.Pause(t.Context()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "another VM") || g.pauses != 1 {
		t.Errorf("%v", err)
	}
}
