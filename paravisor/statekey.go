package paravisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"keel/boot/handoff"
	"keel/hcl"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
)

// dialer connects with the key server.
type dialer func(ctx context.Context) (net.Conn, error)

// keyServer is how the key server is reached: to have a key released, and to report a
// state. Strict mode tells the two apart.
type keyServer struct{ release, report dialer }

// errNoWay reports a paravisor that cannot reach key servers at all.
var errNoWay = errors.New("this VM has no way to a key server")

// stateKey returns what seals the TPM's state, and who reports it if a key server released
// that. It comes before the state is touched: its error, a *handoff.Failure, leaves the disk
// as it was.
func stateKey(ctx context.Context, c *config.Config, tee hcl.Attester, server *keyServer, log *slog.Logger) (gueststate.Provider, *reporter, error) {
	var provider gueststate.Provider
	var err error
	switch c.TPM.Seal {
	case config.SealHostKey:
		provider, err = gueststate.HostKey(c.TPM.Key)
	case config.SealHardware:
		var key [32]byte
		if key, err = tee.SealingKey(); err == nil {
			provider, err = gueststate.TEEKey(tee.Kind(), tee.Emulated(), key[:])
		}
	case config.SealReleased:
		return releasedKey(ctx, c, tee, server, log)
	case config.SealNone:
		err = fmt.Errorf("seal %v", c.TPM.Seal)
	}
	if err != nil {
		return nil, nil, badState("the key of the TPM's state is of no use", err)
	}
	return provider, nil, nil
}

// releasedKey has the key server release the key.
func releasedKey(ctx context.Context, c *config.Config, tee hcl.Attester, server *keyServer, log *slog.Logger) (gueststate.Provider, *reporter, error) {
	if server == nil {
		return nil, nil, notReleased(errNoWay, "start it with keel run --key-server ADDR")
	}
	client := &keyrelease.Client{
		VM: c.GuestName, Server: c.TPM.KeyServer,
		Evidence: func(nonce []byte) ([]byte, error) { return attestRelease(tee, c, nonce) },
	}
	key, err := client.Release(ctx, server.release)
	if err != nil {
		return nil, nil, notReleased(err, "") // it names its remedy itself
	}
	provider, err := gueststate.ReleasedKey(key)
	if err != nil {
		return nil, nil, notReleased(err, "ask who runs the key server")
	}
	return provider, &reporter{client: client, dial: server.report, key: keyrelease.KeyID(key), log: log}, nil
}

func notReleased(err error, remedy string) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "the key of the TPM's state is not released", Remedy: remedy, Err: err}
}
