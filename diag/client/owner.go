package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/owner"
)

// Owner signs calls that change something. Confidential guests want that.
type Owner struct {
	Key ed25519.PrivateKey
	// Instance is the VM that is meant, from evidence that was verified. With zeros any VM
	// of the owner's may be behind the name: the host chooses.
	Instance owner.Instance
}

// Sign makes a client sign every call that changes something, from the next one on.
func (c *Client) Sign(o *Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner = o
}

// commanding returns how calls that change something are made.
func (c *Client) commanding() []ttrpc.ClientOpts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner == nil {
		return nil
	}
	return []ttrpc.ClientOpts{ttrpc.WithUnaryClientInterceptor(c.owner.sign)}
}

// sign signs a request as it is about to be sent, over a nonce of the VM's.
func (o *Owner) sign(ctx context.Context, request *ttrpc.Request, response *ttrpc.Response, info *ttrpc.UnaryClientInfo, send ttrpc.Invoker) error {
	nonce, err := nonce(ctx, send)
	if err != nil {
		return err
	}
	s := owner.Statement{Instance: o.Instance, Request: sha256.Sum256(request.GetPayload()), Method: strings.TrimPrefix(info.FullMethod, "/")}
	copy(s.Nonce[:], nonce.GetNonce())
	if s.Instance == (owner.Instance{}) {
		copy(s.Instance[:], nonce.GetInstance())
	}
	request.Metadata = append(request.Metadata, &ttrpc.KeyValue{Key: owner.Metadata, Value: s.Sign(o.Key)})
	return send(ctx, request, response)
}

// nonce asks for a nonce.
func nonce(ctx context.Context, send ttrpc.Invoker) (*diagpb.NonceResponse, error) {
	var response ttrpc.Response
	if err := send(ctx, &ttrpc.Request{Service: "keel.diag.v1.Owner", Method: "Nonce"}, &response); err != nil {
		return nil, err
	}
	if response.GetStatus().GetCode() != int32(codes.OK) {
		return nil, status.ErrorProto(response.GetStatus())
	}
	n := &diagpb.NonceResponse{}
	if err := proto.Unmarshal(response.GetPayload(), n); err != nil {
		return nil, status.Error(codes.Internal, "no nonce in the answer")
	}
	if len(n.GetNonce()) != owner.NonceSize || len(n.GetInstance()) != owner.InstanceSize {
		return nil, status.Error(codes.Internal, fmt.Sprintf("a nonce of %d bytes", len(n.GetNonce())))
	}
	return n, nil
}

// Journal writes all that there is of the paravisor's log and its kernel's, as lines of
// JSON. Of a confidential guest it is an age file, for the owner. Errors: ErrRefused,
// ErrBusy, ErrUnknown, ErrAnswer, ErrLost, and those of w.
func (c *Client) Journal(ctx context.Context, w io.Writer) error {
	return c.file(ctx, "Owner/Journal", &diagpb.JournalRequest{}, maxJournal, w)
}

// maxJournal bounds a log, in bytes: far above what a paravisor keeps.
const maxJournal = 64 << 20

// Sealed tells whether a stream of data is encrypted to the owner, by its first bytes.
func Sealed(data []byte) bool { return bytes.HasPrefix(data, []byte(owner.Header)) }
