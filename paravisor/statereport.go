package paravisor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
)

// Times of reports. What was committed since the last one the host can take back unseen.
const (
	reportPeriod   = time.Minute      // between two while the guest runs
	reportPatience = 10 * time.Second // for each; the last one delays the end of the run
)

// reporter tells the key server how far the TPM's state has come, so that the host cannot
// bring back an older one. A server that does not hear it costs nothing but that: the guest
// neither waits nor ends.
type reporter struct {
	client *keyrelease.Client
	dial   dialer
	key    [32]byte               // keyrelease.KeyID of what seals the state
	newest func() gueststate.Mark // nil until the state is open
	log    *slog.Logger

	mu                      sync.Mutex    // one report at a time
	told                    atomic.Uint64 // sequence number that the server has
	accepted, lost, refused atomic.Uint64
}

// start asks, before the guest runs, whether a state may be used. Its error is a
// *handoff.Failure.
func (r *reporter) start(ctx context.Context, m gueststate.Mark) (floor uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	floor, err = r.report(ctx, m, true)
	switch {
	case errors.Is(err, keyrelease.ErrRefused):
		return 0, &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "the TPM's state must not be used", Err: err}
	case err != nil:
		return 0, &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "nobody knows whether the TPM's state is the newest", Err: err}
	}
	return floor, nil
}

// begin is the end of opening the state: the guest runs with nothing that the server has
// not heard of.
func (r *reporter) begin(ctx context.Context, newest func() gueststate.Mark) error {
	r.newest = newest
	if m := newest(); m.Sequence != r.told.Load() {
		_, err := r.start(ctx, m)
		return err
	}
	return nil
}

// run reports what was committed until ctx ends.
func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(reportPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.tell(ctx)
		}
	}
}

// tell reports what was committed since the last time.
func (r *reporter) tell(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.newest()
	if m.Sequence == r.told.Load() {
		return
	}
	within, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	_, err := r.report(within, m, false)
	switch {
	case err == nil, ctx.Err() != nil: // the run ends, with a report of its own
	case errors.Is(err, keyrelease.ErrRefused):
		r.refused.Add(1)
		r.log.Error("the key server has heard of another state of this TPM: the host runs two of them", "error", err)
	default:
		r.lost.Add(1)
		r.log.Warn("the key server does not know the newest state, and could not tell that it was taken back", "error", err)
	}
}

// report has one exchange. Preconditions: locked.
func (r *reporter) report(ctx context.Context, m gueststate.Mark, start bool) (floor uint64, err error) {
	floor, err = r.client.Report(ctx, r.dial, &keyrelease.State{Sequence: m.Sequence, Header: m.Header, Key: r.key, Start: start})
	if err == nil {
		r.told.Store(m.Sequence)
		r.accepted.Add(1)
	}
	return floor, err
}

// Inspect writes the counters.
func (r *reporter) Inspect(f *inspect.Fields) {
	f.Uint("sequence", inspect.Public, inspect.Count, r.told.Load(), "sequence number of the state that the key server knows")
	f.Uint("accepted", inspect.Public, inspect.Count, r.accepted.Load(), "reports that the key server has taken")
	f.Uint("lost", inspect.Public, inspect.Count, r.lost.Load(), "reports that did not reach it, or were not answered")
	f.Uint("refused", inspect.Public, inspect.Count, r.refused.Load(), "reports, while the guest ran, that it refused")
}
