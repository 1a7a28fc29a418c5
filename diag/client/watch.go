package client

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"keel/diag/diagpb"
)

// inspectRequest checks and makes a request for a part of the tree.
func inspectRequest(path string, depth int) (*diagpb.InspectRequest, error) {
	switch {
	case depth < 0:
		return nil, fmt.Errorf("%w: a depth of %d", ErrRequest, depth)
	case !utf8.ValidString(path):
		return nil, fmt.Errorf("%w: the path %q is no UTF-8", ErrRequest, path)
	}
	return &diagpb.InspectRequest{Path: path, Depth: uint32(min(depth, 1<<30))}, nil
}

// tree makes an answer a part of the tree.
func tree(answer *diagpb.InspectResponse) (*Tree, error) {
	t := &Tree{Confidential: answer.GetConfidential()}
	var err error
	if t.Field, err = diagpb.ToField(answer.GetField()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return t, nil
}

// Watch reads a part of the state tree, as Inspect does, again and again, and hands it to
// each until that fails or ctx ends. The interval is at least 100 ms. Errors: those of
// Inspect, of each and of ctx.
func (c *Client) Watch(ctx context.Context, path string, depth int, interval time.Duration, each func(*Tree) error) error {
	what, err := inspectRequest(path, depth)
	if err != nil {
		return err
	}
	if interval < time.Millisecond || interval > 24*time.Hour {
		return fmt.Errorf("%w: an interval of %v", ErrRequest, interval)
	}
	request := &diagpb.WatchRequest{What: what, IntervalMs: uint32(interval.Milliseconds())}
	return follow(ctx, c, "Logs/Watch", request, func(answer *diagpb.InspectResponse) error {
		t, err := tree(answer)
		if err != nil {
			return err
		}
		return each(t)
	})
}
