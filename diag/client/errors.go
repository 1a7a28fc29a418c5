package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/vsock"
)

// Errors of a Client. They come with one line about the cause.
var (
	ErrNoVM     = errors.New("no such VM runs")                  // or not any more
	ErrNotReady = errors.New("the VM does not take diagnostics") // it still starts, or its paravisor has no service
	ErrLost     = errors.New("the VM does not answer")           // any more
	ErrRequest  = errors.New("impossible request")
	ErrPath     = errors.New("nothing to see") // there is no such field, or it is private
	ErrRefused  = errors.New("the VM refuses") // by policy, or because of its state
	ErrBusy     = errors.New("the VM has too much to do")
	ErrUnknown  = errors.New("the VM's Keel does not know the request") // it is an older one
	ErrAnswer   = errors.New("the VM's answer makes no sense")
)

// explain turns an error of a call into one of this package's.
func (c *Client) explain(err error) error {
	var kind error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, vsock.ErrNoSocket):
		kind = ErrNoVM
	case errors.Is(err, vsock.ErrNoPort):
		kind = ErrNotReady
	}
	if kind != nil {
		return fmt.Errorf("%w: %q: %w", kind, c.target, err)
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %q: %w", ErrLost, c.target, err)
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		kind = ErrRequest
	case codes.NotFound:
		kind = ErrPath
	case codes.FailedPrecondition, codes.PermissionDenied:
		kind = ErrRefused
	case codes.ResourceExhausted:
		kind = ErrBusy
	case codes.Unimplemented:
		kind = ErrUnknown
	case codes.DeadlineExceeded, codes.Canceled, codes.Unavailable:
		kind = ErrLost
	default:
		kind = ErrAnswer
	}
	return fmt.Errorf("%w: %s", kind, oneLine(st.Message()))
}

// maxMessage bounds what a VM says in an error, in bytes.
const maxMessage = 512

// oneLine makes a text of a VM one line that does a terminal no harm.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxMessage)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
