package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
	"keel/diag/owner"
)

// owners are the methods of keel.diag.v1.Owner.
type owners struct{ *Server }

func (s owners) methods() map[string]method {
	return map[string]method{"Nonce": unary(s.Nonce), "Journal": stream(s.Journal)}
}

// Nonce gives out a number for one signed call.
func (s owners) Nonce(context.Context, *diagpb.NonceRequest) (*diagpb.NonceResponse, error) {
	if s.config.Owner.Signer == nil {
		return nil, status.Error(codes.FailedPrecondition, "the image names no key of an owner who could sign")
	}
	nonce, instance := s.nonces.give(), s.instance()
	return &diagpb.NonceResponse{Nonce: nonce[:], Instance: instance[:], Seconds: uint32(nonceLife / time.Second)}, nil
}

// instance returns what evidence calls this VM.
func (s *Server) instance() (i owner.Instance) {
	if s.config.Instance != nil {
		i = s.config.Instance()
	}
	return i
}

// Why a call is not the owner's. The errors of nonces and of package owner come besides.
var (
	errUnsigned = errors.New("the guest is confidential, and its owner has not signed the call")
	errTwice    = errors.New("the call has more than one signature")
	errInstance = errors.New("the signature is for another VM")
	errMethod   = errors.New("the signature is for another method")
	errRequest  = errors.New("the request differs from the one that was signed")
)

// authorize checks that the owner has signed a call: these bytes, of this method, for this
// VM, now and once. Whatever is right about it, its nonce is used up when the owner signed.
func (s *Server) authorize(ctx context.Context, full string, unmarshal ttrpc.Unmarshaler) error {
	metadata, _ := ttrpc.GetMetadata(ctx)
	texts, _ := metadata.Get(owner.Metadata)
	switch len(texts) {
	case 0:
		return errUnsigned
	case 1:
	default:
		return errTwice
	}
	said, err := owner.ParseSigned(texts[0])
	if err != nil {
		return err
	}
	if err := said.Verify(s.config.Owner.Signer); err != nil {
		return err
	}
	if err := s.nonces.take(said.Nonce); err != nil {
		return err
	}
	// A message without fields keeps all of a request as it came.
	var request diagpb.NonceRequest
	if err := unmarshal(&request); err != nil {
		return errRequest
	}
	switch {
	case said.Instance != s.instance():
		return errInstance
	case said.Method != strings.TrimPrefix(full, "/"):
		return errMethod
	case said.Request != sha256.Sum256(request.ProtoReflect().GetUnknown()):
		return errRequest
	}
	return nil
}
