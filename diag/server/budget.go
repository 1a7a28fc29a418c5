package server

import (
	"context"
	"time"
)

// budget bounds how much time of a processor goes into looks at the state tree: the guest
// runs on the same ones. There is one look at a time, and who asks too often waits.
type budget struct {
	slot  chan struct{} // has an element while somebody looks, or waits to be the next one
	share int64         // one second in so many may be spent
	most  time.Duration // that may be spent at once

	// Of who has the slot.
	credit time.Duration // may be negative after a look
	at     time.Time     // when credit was that much
}

// Of a budget of the usual size. A look takes some milliseconds; to carry its answer, and
// to wake who does, takes the VM as much again, and more where QEMU emulates it.
const (
	budgetShare = 30
	budgetMost  = 500 * time.Millisecond
	// budgetLook is what a look is charged at most: one that takes longer has not worked
	// all that time, but waited for a processor.
	budgetLook = 20 * time.Millisecond
)

func newBudget(share int64, most time.Duration) *budget {
	return &budget{slot: make(chan struct{}, 1), share: share, most: most, credit: most, at: time.Now()}
}

// take waits until one may look.
func (b *budget) take(ctx context.Context) error {
	select {
	case b.slot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	now := time.Now()
	b.credit = min(b.most, b.credit+now.Sub(b.at)/time.Duration(b.share))
	b.at = now
	if b.credit > 0 {
		return nil
	}
	debt := time.NewTimer(time.Duration(b.share) * -b.credit)
	defer debt.Stop()
	select {
	case <-debt.C:
		return nil
	case <-ctx.Done():
		<-b.slot
		return ctx.Err()
	}
}

// give ends a look that took so long.
func (b *budget) give(took time.Duration) {
	b.credit -= took
	<-b.slot
}

// looking waits until the tree may be looked at, within the budget and in turn. The
// caller calls done afterwards.
func (s *Server) looking(ctx context.Context) (done func(), err error) {
	if s.budget.take(ctx) != nil {
		return nil, s.busy(ctx)
	}
	if err := s.turn(ctx); err != nil {
		s.budget.give(0)
		return nil, err
	}
	start := time.Now()
	return func() {
		s.turned()
		s.budget.give(min(time.Since(start), budgetLook))
	}, nil
}
