package server

import (
	"context"
	"errors"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keel/diag/frame"
)

// servicePrefix is before the name of each service.
const servicePrefix = "keel.diag.v1."

// method is one of a service: unary, or one with a stream of answers.
type method struct {
	unary  ttrpc.Method
	stream streamMethod
}

// streamMethod takes a stream's request and returns what serves it until it, or the
// context, ends.
type streamMethod func(ttrpc.StreamServer) (func(context.Context) error, error)

// message is a pointer to a message.
type message[T any] interface {
	*T
	proto.Message
}

// unary makes a method with one answer.
func unary[Q any, P message[Q], A proto.Message](serve func(context.Context, P) (A, error)) method {
	return method{unary: func(ctx context.Context, unmarshal func(any) error) (any, error) {
		q := P(new(Q))
		if err := unmarshal(q); err != nil {
			return nil, err
		}
		return serve(ctx, q)
	}}
}

// stream makes a method with a stream of answers. send waits until the client takes what
// was sent before. serve ends when its context does, and when send fails.
func stream[Q any, P message[Q], A proto.Message](serve func(ctx context.Context, q P, send func(A) error) error) method {
	return method{stream: func(to ttrpc.StreamServer) (func(context.Context) error, error) {
		q := P(new(Q))
		if err := to.RecvMsg(q); err != nil {
			return nil, status.Error(codes.InvalidArgument, "the request is malformed")
		}
		return func(ctx context.Context) error {
			return serve(ctx, q, func(a A) error {
				if n := proto.Size(a); n > frame.MaxMessage {
					return status.Errorf(codes.ResourceExhausted, "a message would have %d bytes, more than %d", n, frame.MaxMessage)
				}
				return to.SendMsg(a)
			})
		}, nil
	}}
}

// absent makes of a method one that is refused: the VM has nothing behind it.
func (m method) absent() method {
	err := status.Error(codes.Unimplemented, "there is nothing behind this method")
	if m.unary != nil {
		return method{unary: func(context.Context, func(any) error) (any, error) { return nil, err }}
	}
	return method{stream: func(ttrpc.StreamServer) (func(context.Context) error, error) { return nil, err }}
}

// register adds a service. Streams, which ttrpc lets nobody intercept, go through follow
// here; unary methods go through call.
func (s *Server) register(name string, methods map[string]method) {
	desc := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{}, Streams: map[string]ttrpc.Stream{}}
	for method, m := range methods {
		if m.unary != nil {
			desc.Methods[method] = m.unary
			continue
		}
		full := "/" + servicePrefix + name + "/" + method
		desc.Streams[method] = ttrpc.Stream{StreamingServer: true, Handler: func(ctx context.Context, to ttrpc.StreamServer) (any, error) {
			return nil, s.follow(ctx, full, to, m.stream)
		}}
	}
	s.ttrpc.RegisterService(servicePrefix+name, desc)
}

// follow surrounds every stream: it asks the policy, bounds their number, and counts.
func (s *Server) follow(ctx context.Context, full string, to ttrpc.StreamServer, m streamMethod) error {
	s.counts.requests.Add(1)
	// The request is taken out first: ttrpc may keep what is left in it.
	out := &sealable{StreamServer: to}
	serve, malformed := m(out)
	need, err := s.check(full)
	if err != nil {
		return err
	}
	if need == sealed {
		out.recipient = s.config.Owner.Recipient
	}
	if malformed != nil {
		s.judge(malformed)
		return malformed
	}
	select {
	case s.open <- struct{}{}:
		defer func() { <-s.open }()
	default:
		s.counts.busy.Add(1)
		return status.Error(codes.ResourceExhausted, "too many streams are open: try again")
	}
	s.counts.streams.Add(1)
	if err = serve(ctx); err == nil {
		err = out.finish()
	}
	if need != nobody {
		err = quiet(err)
	}
	if ctx.Err() == nil && !errors.Is(err, ttrpc.ErrClosed) { // else the client has gone
		s.judge(err)
	}
	return err
}
