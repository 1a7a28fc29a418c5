package server

import (
	"bytes"
	"context"
	"time"

	"keel/diag/diagpb"
	"keel/diag/profile"
)

// pieceWriter sends what is written to it.
type pieceWriter struct{ send func(*diagpb.FilePiece) error }

// Write sends bytes.
func (p pieceWriter) Write(b []byte) (int, error) {
	if err := sendAll(p.send, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Profile takes a profile. One of what is now takes its turn as a request does: it holds
// all goroutines up for a moment.
func (s programs) Profile(ctx context.Context, r *diagpb.ProfileRequest, send func(*diagpb.FilePiece) error) error {
	d := time.Duration(r.GetMilliseconds()) * time.Millisecond
	if profile.Timed(r.GetKind()) {
		return explain(profile.Write(ctx, r.GetKind(), d, pieceWriter{send}))
	}
	if err := s.turn(ctx); err != nil {
		return err
	}
	var b bytes.Buffer
	err := profile.Write(ctx, r.GetKind(), d, &b)
	s.turned()
	if err != nil {
		return explain(err)
	}
	return sendAll(send, b.Bytes())
}

// Trace takes an execution trace.
func (s programs) Trace(ctx context.Context, r *diagpb.TraceRequest, send func(*diagpb.FilePiece) error) error {
	cut, err := profile.Trace(ctx, time.Duration(r.GetMilliseconds())*time.Millisecond, pieceWriter{send})
	if err != nil {
		return explain(err)
	}
	if cut != "" {
		return send(&diagpb.FilePiece{Cut: cut})
	}
	return nil
}
