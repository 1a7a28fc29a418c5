package client

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
)

// Errors of the methods that act on the guest are ErrRefused, where it is confidential or
// the VM's state does not allow it, ErrRequest, ErrBusy, ErrUnknown and ErrLost.

// Pause stops the guest until Resume, and returns when it stands. was is whether it was
// paused before.
func (c *Client) Pause(ctx context.Context) (was bool, err error) {
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).Pause(ctx, &diagpb.PauseRequest{})
		was = answer.GetWasPaused()
		return err
	})
	return was, err
}

// Resume lets the guest go on. was is whether it was paused.
func (c *Client) Resume(ctx context.Context) (was bool, err error) {
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).Resume(ctx, &diagpb.ResumeRequest{})
		was = answer.GetWasPaused()
		return err
	})
	return was, err
}

// Reset starts the guest over. A paused guest stays paused.
func (c *Client) Reset(ctx context.Context) (paused bool, err error) {
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).Reset(ctx, &diagpb.ResetRequest{})
		paused = answer.GetPaused()
		return err
	})
	return paused, err
}

// NMI interrupts a VP, or all when vp is negative. A paused guest notices when it goes on.
func (c *Client) NMI(ctx context.Context, vp int) (paused bool, err error) {
	request := &diagpb.NMIRequest{Vp: vpOf(vp)}
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).NMI(ctx, request)
		paused = answer.GetPaused()
		return err
	})
	return paused, err
}

// vpOf names a VP in a request, or all.
func vpOf(vp int) *uint32 {
	if vp < 0 {
		return nil
	}
	return new(uint32(min(vp, 1<<30)))
}

// Shutdown presses the guest's power button, or, with force, ends the VM. heard is whether
// the guest listens to the button; a paused guest notices when it goes on.
func (c *Client) Shutdown(ctx context.Context, force bool) (heard, paused bool, err error) {
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).Shutdown(ctx, &diagpb.ShutdownRequest{Force: force})
		heard, paused = answer.GetHeard(), answer.GetPaused()
		return err
	})
	return heard, paused, err
}

// GuestExit is why a VP has left the guest.
type GuestExit struct {
	Time  time.Duration // of the paravisor's monotonic clock
	VP    int
	Kind  string
	Write bool
	Size  int    // bytes of an access
	RIP   uint64 // 0 when it is unknown
	Where uint64 // port, address, or number of the register
	Value uint64 // what moved either way, its first 8 bytes
}

// Exits hands the guest's exits to each, those of a VP or, when vp is negative, of all,
// until the time is over, which 0 never is, each fails or ctx ends. lost is how many came
// between that were not kept. The first call, with or without exits, says that it begins.
func (c *Client) Exits(ctx context.Context, vp int, duration time.Duration, each func(exits []GuestExit, lost uint64) error) error {
	if duration < 0 || duration > 0 && duration < time.Millisecond || duration > 24*time.Hour {
		return fmt.Errorf("%w: a time of %v", ErrRequest, duration)
	}
	request := &diagpb.ExitTraceRequest{DurationMs: uint32(duration.Milliseconds()), Vp: vpOf(vp)}
	return follow(ctx, c, "Control/ExitTrace", request, func(answer *diagpb.ExitTraceResponse) error {
		exits := make([]GuestExit, 0, len(answer.GetExits()))
		for _, e := range answer.GetExits() {
			exits = append(exits, GuestExit{
				Time: time.Duration(e.GetTimeNs()), VP: int(e.GetVp()), Kind: oneLine(e.GetKind()), Write: e.GetWrite(), Size: int(e.GetSize()),
				RIP: e.GetRip(), Where: e.GetWhere(), Value: e.GetValue(),
			})
		}
		return each(exits, answer.GetLost())
	})
}
