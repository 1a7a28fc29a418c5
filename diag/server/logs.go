package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
)

// Bounds of the time between looks at the tree.
const (
	MinInterval     = 100 * time.Millisecond
	MaxInterval     = time.Hour
	defaultInterval = time.Second
)

// logs are the methods of keel.diag.v1.Logs.
type logs struct{ *Server }

func (s logs) methods() map[string]method {
	return map[string]method{"Watch": stream(s.Watch)}
}

// Watch reads the tree again and again. Each look takes its turn as that of a request.
func (s logs) Watch(ctx context.Context, r *diagpb.WatchRequest, send func(*diagpb.InspectResponse) error) error {
	interval := time.Duration(r.GetIntervalMs()) * time.Millisecond
	switch {
	case interval == 0:
		interval = defaultInterval
	case interval < MinInterval, interval > MaxInterval:
		return status.Errorf(codes.InvalidArgument, "an interval of %v: give %v to %v", interval, MinInterval, MaxInterval)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := s.turn(ctx); err != nil {
			return err
		}
		answer, err := s.look(r.GetWhat())
		s.turned()
		if err == nil {
			err = send(answer)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
