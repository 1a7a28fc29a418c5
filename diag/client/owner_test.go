package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"testing"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
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
