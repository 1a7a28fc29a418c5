package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/attest/claims"
	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/inspect"
)

// Bounds of requests and answers.
const (
	MaxPath   = 256 // bytes of a path
	MaxDepth  = 16  // levels beneath it
	maxAnswer = frame.MaxMessage
)

// service are the methods of keel.diag.v1.Diag.
type service struct{ *Server }

func (s service) methods() map[string]method {
	return map[string]method{"Ping": unary(s.Ping), "Inspect": unary(s.Inspect), "Attest": unary(s.Attest)}
}

// looks are the unary methods that look at the state tree.
var looks = map[string]bool{"Diag/Inspect": true, "Logs/Metrics": true}

// call surrounds every method: it asks the policy, waits for a turn, bounds the time, and counts.
func (s *Server) call(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	s.counts.requests.Add(1)
	need, err := s.check(info.FullMethod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.times.handler)
	defer cancel()
	begin := s.inTurn
	if looks[strings.TrimPrefix(info.FullMethod, "/"+servicePrefix)] {
		begin = s.looking
	}
	done, err := begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if need == signed {
		if err := s.authorize(ctx, info.FullMethod, unmarshal); err != nil {
			return nil, s.deny(info.FullMethod, err.Error())
		}
		s.counts.signed.Add(1)
	}
	answer, err := method(ctx, func(message any) error {
		if err := unmarshal(message); err != nil {
			return status.Error(codes.InvalidArgument, "the request is malformed")
		}
		return nil
	})
	if need != nobody {
		err = quiet(err)
	}
	s.judge(err)
	return answer, err
}

// turn waits until a request may be answered, and turned says that it was.
func (s *Server) turn(ctx context.Context) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return s.busy(ctx)
	}
}

// inTurn waits for a turn. The caller calls done afterwards.
func (s *Server) inTurn(ctx context.Context) (done func(), err error) { return s.turned, s.turn(ctx) }

// busy refuses a request that did not get its turn, unless its client has gone.
func (s *Server) busy(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	s.counts.busy.Add(1)
	return status.Error(codes.ResourceExhausted, "too many requests are being answered: try again")
}

func (s *Server) turned() { <-s.turns }

// judge counts how a request ended.
func (s *Server) judge(err error) {
	switch status.Code(err) {
	case codes.OK:
	case codes.InvalidArgument, codes.NotFound:
		s.counts.invalid.Add(1)
	default:
		s.counts.refused.Add(1)
	}
}

// Ping does nothing.
func (s service) Ping(context.Context, *diagpb.PingRequest) (*diagpb.PingResponse, error) {
	return &diagpb.PingResponse{}, nil
}

// Inspect reads the tree.
func (s service) Inspect(_ context.Context, r *diagpb.InspectRequest) (*diagpb.InspectResponse, error) {
	return s.look(r)
}

// look answers a request for the tree, with what the client may see.
func (s *Server) look(r *diagpb.InspectRequest) (*diagpb.InspectResponse, error) {
	path := r.GetPath()
	switch {
	case len(path) > MaxPath:
		return nil, status.Errorf(codes.InvalidArgument, "a path of %d bytes: at most %d are read", len(path), MaxPath)
	case r.GetDepth() > MaxDepth:
		return nil, status.Errorf(codes.InvalidArgument, "a depth of %d: at most %d", r.GetDepth(), MaxDepth)
	}
	found, err := inspect.Look(s.config.Root, path, int(r.GetDepth()))
	ok := err == nil
	if ok {
		found, ok = found.Redact(s.least())
	}
	if !ok {
		// The same for what there is not: a name may tell of the guest.
		why := "there is no such field"
		if s.config.Confidential {
			why += ", or it is private, and the guest is confidential"
		}
		return nil, status.Errorf(codes.NotFound, "%s: %q", why, path)
	}
	answer, n := diagpb.Answer(&found, s.config.Confidential)
	if n > maxAnswer {
		return nil, status.Errorf(codes.ResourceExhausted, "the answer would have %d bytes, more than %d: ask for less depth, or a path", n, maxAnswer)
	}
	return answer, nil
}

// Attest makes evidence.
func (s service) Attest(ctx context.Context, r *diagpb.AttestRequest) (*diagpb.AttestResponse, error) {
	n := len(r.GetNonce())
	switch {
	case s.config.Attest == nil:
		return nil, status.Error(codes.FailedPrecondition, "this guest is not confidential")
	case n < claims.MinNonce || n > claims.MaxNonce:
		return nil, status.Errorf(codes.InvalidArgument, "a nonce of %d bytes: give %d to %d", n, claims.MinNonce, claims.MaxNonce)
	}
	evidence, err := s.config.Attest(ctx, r.GetNonce())
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, status.Error(codes.DeadlineExceeded, "the evidence was not there in time")
	case err != nil:
		if s.mayWarn() {
			s.config.Log.Warn("cannot make evidence", inspect.PublicAttr("error", err))
		}
		return nil, status.Error(codes.Internal, fmt.Sprintf("no evidence: %v", err))
	case len(evidence) > claims.MaxEvidence:
		return nil, status.Errorf(codes.Internal, "evidence of %d bytes", len(evidence))
	}
	return &diagpb.AttestResponse{Evidence: evidence}, nil
}
