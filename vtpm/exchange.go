package vtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"keel/diag/inspect"
	"keel/vtpm/wire"
)

// startTimeout bounds how long a command waits for a new worker to be started.
const startTimeout = 30 * time.Second

// Everything here has the turn.

// start starts a worker with the state as it is here.
func (t *TPM) start(ctx context.Context) error {
	proc, err := t.cfg.Start(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWorker, err)
	}
	t.proc, t.replies, t.seq = proc, wire.NewReader(proc.Socket(0)), 1
	var f wire.Frame
	if err = setTimeout(proc.Socket(0), t.cfg.Timeout); err == nil {
		f, err = t.exchange(&wire.Frame{Kind: wire.Init, Seq: t.seq, Permanent: t.permanent, Volatile: t.volatile})
	}
	switch {
	case err != nil:
		t.lose(err)
		return err
	case f.Status == wire.BadState:
		err := fmt.Errorf("%w: %d bytes", ErrState, len(t.permanent))
		t.lose(err)
		return err
	case f.Status != wire.OK || len(f.Volatile) == 0 || len(f.Permanent) == 0 && len(t.permanent) == 0:
		err := fmt.Errorf("%w: it starts with status %d", ErrWorker, f.Status)
		t.lose(err)
		return err
	}
	pending := t.repeats
	if err := t.keep(&f); err != nil {
		t.drop(nil)
		return err
	}
	t.repeats = pending // the worker's state is that before them
	if err := t.repeat(); err != nil {
		return err
	}
	t.count.starts.Add(1)
	return nil
}

// execute runs the command of t.job and appends the response to b.
func (t *TPM) execute(b []byte) []byte {
	switch j := &t.job; {
	case len(j.command) == 0 || len(j.command) > MaxBuffer:
		return appendResponse(b, RCCommandSize)
	case j.locality >= Localities:
		return appendResponse(b, RCLocality)
	case t.undone >= maxRollbacks:
		return appendResponse(b, RCFailure)
	case t.unsound && !needsNoNV(j.command) && !t.recommit():
		return appendResponse(b, RCNVUnavailable)
	}
	if err := t.ready(); err != nil {
		t.cfg.Log.Error("vTPM: there is no worker", inspect.PublicAttr("error", err))
		return appendResponse(b, RCFailure)
	}
	f := wire.Frame{Kind: wire.Execute, Locality: t.job.locality, Body: t.job.command, Effect: t.effect(t.job.command)}
	if !t.announce(&f) {
		return appendResponse(b, RCCanceled)
	}
	r, err := t.exchange(&f)
	if err == nil && (r.Status != wire.OK || !wellFormed(r.Body)) {
		err = fmt.Errorf("%w: status %d, %d bytes of response", ErrWorker, r.Status, len(r.Body))
	}
	if err != nil {
		t.lose(err)
		return appendResponse(b, RCFailure)
	}
	if err := t.keep(&r); err != nil {
		// The worker's memory is ahead of the store: the command is undone, as if it had
		// never been sent. The next worker starts from the state before it.
		t.cfg.Log.Error("vTPM: a command is undone", "code", fmt.Sprintf("%#x", code(t.job.command)), inspect.PublicAttr("error", err))
		t.count.rollbacks.Add(1)
		t.undone++
		t.drop(nil)
		return appendResponse(b, RCNVUnavailable)
	}
	if f.Effect == wire.Repeats && len(r.Volatile) == 0 && code(r.Body) == 0 {
		t.repeats = append(t.repeats, repeat{f.Locality, slices.Clone(f.Body)})
	}
	return append(b, r.Body...)
}

// ready starts a worker where there is none, or none any more.
func (t *TPM) ready() error {
	if t.proc != nil {
		select {
		case <-t.proc.Ended():
			t.lose(fmt.Errorf("%w: it ended while idle", ErrWorker))
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return t.start(ctx)
}

// announce gives a command its number and lets cancels through from here on. It returns
// false where one came before.
func (t *TPM) announce(f *wire.Frame) bool {
	t.seq++
	f.Seq = t.seq
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancelled {
		return false
	}
	t.sentTo, t.sentSeq = t.proc.Socket(1), t.seq
	return true
}

// sendCancel tells the worker to cancel. It never waits: there is one cancel a command,
// so that only a worker that reads none lets them pile up, and it loses them.
//
// Preconditions: t.mu is held, t.sentTo is not nil.
func (t *TPM) sendCancel() {
	b, err := wire.Append(nil, &wire.Frame{Kind: wire.Cancel, Seq: t.sentSeq})
	if err != nil {
		return
	}
	conn, err := t.sentTo.SyscallConn()
	if err != nil {
		return
	}
	// An error is that of a worker that ended, which the command's own end shows.
	_ = conn.Write(func(fd uintptr) bool {
		_ = unix.Send(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
}

// setTimeout bounds how long a read or write of a blocking socket waits.
func setTimeout(socket *os.File, timeout time.Duration) error {
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	var set error
	err = conn.Control(func(fd uintptr) {
		set = errors.Join(unix.SetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.SetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
	})
	return errors.Join(err, set)
}

// exchange sends a frame and returns the Done for it, whose parts are valid until the
// next call.
func (t *TPM) exchange(f *wire.Frame) (wire.Frame, error) {
	fail := func(err error) (wire.Frame, error) { return wire.Frame{}, fmt.Errorf("%w: %w", ErrWorker, err) }
	var err error
	if t.frame, err = wire.Append(t.frame[:0], f); err != nil {
		return fail(err)
	}
	if _, err := t.proc.Socket(0).Write(t.frame); err != nil {
		return fail(err)
	}
	r, err := t.replies.Read()
	switch {
	case err != nil:
		return fail(err)
	case r.Kind != wire.Done || r.Seq != f.Seq:
		return fail(fmt.Errorf("%w: kind %d, number %d for %d", wire.ErrFrame, r.Kind, r.Seq, f.Seq))
	}
	return r, nil
}

// keep makes the states of a Done those of the TPM: permanent state is committed first,
// and when that fails neither is kept.
func (t *TPM) keep(f *wire.Frame) error {
	if len(f.Permanent) > 0 && !bytes.Equal(f.Permanent, t.permanent) {
		if err := t.commit(f.Permanent); err != nil {
			return err
		}
		t.permanent = append(t.permanent[:0], f.Permanent...)
	}
	if len(f.Volatile) > 0 {
		t.volatile = append(t.volatile[:0], f.Volatile...)
		t.repeats = t.repeats[:0]
	}
	t.count.permanent.Store(int64(len(t.permanent)))
	t.count.volatile.Store(int64(len(t.volatile)))
	return nil
}

// commit commits a state.
func (t *TPM) commit(state []byte) error {
	start := time.Now()
	if err := t.cfg.Store.Commit(state); err != nil {
		t.count.commitErrors.Add(1)
		t.unsound = true
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	t.count.commit(time.Since(start))
	t.unsound = false
	return nil
}

// recommit commits the state as it is: a commit that failed may have reached the disk,
// and shows whether the store works again.
func (t *TPM) recommit() bool { return t.commit(t.permanent) == nil }

// lose counts a worker that did not do as it should, and ends it.
func (t *TPM) lose(err error) {
	t.count.lost.Add(1)
	t.drop(err)
}

// drop ends the worker: one that did wrong at once, else once it had the time to end by
// itself.
func (t *TPM) drop(wrong error) {
	proc := t.proc
	if proc == nil {
		return
	}
	t.mu.Lock()
	t.sentTo = nil
	t.mu.Unlock()
	t.proc, t.replies = nil, nil
	if wrong != nil {
		t.cfg.Log.Error("vTPM: the worker is replaced", "error", wrong)
	} else {
		proc.Stop()
		select {
		case <-proc.Ended():
		case <-time.After(closeTimeout):
			t.cfg.Log.Error("vTPM: the worker does not end by itself")
		}
	}
	proc.Kill()
}
