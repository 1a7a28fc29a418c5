package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"keel/diag/diagpb"
	"keel/diag/inspect"
)

// slow is a tree that takes its time.
type slow time.Duration

func (s slow) Inspect(*inspect.Fields) { time.Sleep(time.Duration(s)) }

// TestBudget: clients who ask without a pause get their share and no more, and leave the
// rest of the service to others.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const look, hour = 10 * time.Millisecond, time.Hour
		s, l := serve(t, Config{Root: slow(look)})
		began := time.Now()
		for range MaxClients - 1 {
			c := l.connect()
			defer c.Close()
			go func() {
				for stream := uint32(1); time.Since(began) < hour; stream += 2 {
					if _, err := c.Write(request(stream, "Inspect", &diagpb.InspectRequest{})); err != nil {
						return
					}
					if _, r, err := answer(c); err != nil || codes.Code(r.GetStatus().GetCode()) != codes.OK {
						t.Errorf("%v, %v", r, err)
						return
					}
				}
			}()
		}
		other := l.connect()
		defer other.Close()
		for i := range uint32(59) {
			time.Sleep(time.Minute)
			asked := time.Now()
			if got := code(t, other, request(2*i+1, "Ping", &diagpb.PingRequest{})); got != codes.OK || time.Since(asked) > time.Second {
				t.Errorf("%v after %v", got, time.Since(asked))
			}
		}
		spent := time.Duration(s.Stats().Requests) * look
		if most := (59*time.Minute)/budgetShare + budgetMost; spent > most+time.Second || spent < most*9/10 {
			t.Errorf("%v of looks, at most %v", spent, most)
		}
		time.Sleep(2 * hour) // for the clients to end
	})
}

// TestBudgetWait: who looks while the VM has no processor for it need not pay for that.
func TestBudgetWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l := serve(t, Config{Root: slow(10 * time.Second)})
		c := l.connect()
		defer c.Close()
		began := time.Now()
		const looks = 20
		for i := range uint32(looks) {
			if got := code(t, c, request(2*i+1, "Inspect", &diagpb.InspectRequest{})); got != codes.OK {
				t.Fatal(got)
			}
		}
		if waited := time.Since(began) - looks*10*time.Second; waited > looks*budgetShare*budgetLook {
			t.Errorf("%v beside the looks themselves", waited)
		}
	})
}

// TestBudgetLeft: who gives up leaves the budget to others.
func TestBudgetLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10, time.Second)
		if err := b.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // while another one looks, and while there is a debt
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := b.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			cancel()
			if len(b.slot) == 1 {
				b.give(3 * time.Second)
			}
		}
		start := time.Now()
		if err := b.take(t.Context()); err != nil || time.Since(start) != 18*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
