package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
)

// Times of a stream.
const (
	pingPeriod = time.Minute     // between signs of life; the service waits two minutes for one
	silence    = 2 * time.Minute // after which a VM that does not even answer those is lost
)

// maxFrame bounds the data of a frame: a message, and what an answer has around it.
const maxFrame = frame.MaxMessage + 4<<10

// message is a pointer to a message.
type message[T any] interface {
	*T
	proto.Message
}

// follow calls a method with a stream of answers, "Service/Method", and hands each to
// each, in order, until the stream ends, each fails, or ctx ends. The message is each's
// to keep; nothing in it is checked. The stream has a connection of its own: to end that
// is the only way in which a client can end a stream, and a slow client, for whom the VM
// waits ten seconds at a time, delays nobody else.
func follow[A any, P message[A]](ctx context.Context, c *Client, method string, request proto.Message, each func(P) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.extra(ctx)
	if err != nil {
		return c.explain(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // whoever waits for the VM is told by that
	err = send(conn, followed, frame.RemoteClosed, method, request)
	if err == nil {
		go ping(ctx, conn)
		in := incoming{conn: conn}
		for err == nil {
			var data []byte
			if data, err = in.next(); err == nil {
				a := P(new(A))
				if proto.Unmarshal(data, a) != nil {
					return fmt.Errorf("%w: no message", ErrAnswer)
				}
				if err := each(a); err != nil {
					return err
				}
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errEnd):
		return nil
	case errors.Is(err, ErrAnswer):
		return err
	}
	return c.explain(err)
}

// extra makes another connection.
func (c *Client) extra(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	return c.dial(ctx)
}

// followed is the stream of a connection that is asked for; the others are pings.
const followed = 1

// send sends a request of a method, "Service/Method".
func send(conn net.Conn, stream uint32, flags byte, method string, request proto.Message) error {
	payload, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	service, name, _ := strings.Cut(method, "/")
	b, err := proto.Marshal(&ttrpc.Request{Service: "keel.diag.v1." + service, Method: name, Payload: payload})
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write(frame.Append(nil, frame.Head{Stream: stream, Type: frame.Request, Flags: flags}, b))
	return err
}

// ping shows the VM at times that the client is there. What is wrong with the connection
// its reader sees.
func ping(ctx context.Context, conn net.Conn) {
	tick := time.NewTicker(pingPeriod)
	defer tick.Stop()
	for stream := uint32(followed + 2); ; stream += 2 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if send(conn, stream, 0, "Diag/Ping", &diagpb.PingRequest{}) != nil {
			return
		}
	}
}

// incoming reads the frames of a stream.
type incoming struct {
	conn net.Conn
	buf  []byte // of the last frame
	done bool
}

// errEnd is the good end of a stream.
var errEnd = errors.New("the stream has ended")

// next returns the next message, which is good until the one after it. Errors: errEnd, a
// status, ErrAnswer, and those of the connection.
func (in *incoming) next() ([]byte, error) {
	for !in.done {
		h, data, err := in.frame()
		switch {
		case err != nil:
			return nil, err
		case h.Stream != followed:
			continue
		case h.Type == frame.Response:
			var r ttrpc.Response
			switch {
			case proto.Unmarshal(data, &r) != nil:
				return nil, fmt.Errorf("%w: no response", ErrAnswer)
			case r.GetStatus().GetCode() != int32(codes.OK):
				return nil, status.ErrorProto(r.GetStatus())
			}
			return nil, errEnd
		case h.Type != frame.Data:
			return nil, fmt.Errorf("%w: a frame of type %d", ErrAnswer, h.Type)
		}
		in.done = h.Ends()
		if h.Flags&frame.NoData == 0 {
			return data, nil
		}
	}
	return nil, errEnd
}

// frame reads one frame.
func (in *incoming) frame() (h frame.Head, data []byte, err error) {
	if err := in.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return h, nil, err
	}
	var head [frame.HeadBytes]byte
	if _, err := io.ReadFull(in.conn, head[:]); err != nil {
		return h, nil, err
	}
	if h = frame.Parse(&head); h.Length > maxFrame {
		return h, nil, fmt.Errorf("%w: a frame of %d bytes", ErrAnswer, h.Length)
	}
	if n := int(h.Length); n > cap(in.buf) {
		in.buf = make([]byte, n)
	}
	data = in.buf[:h.Length]
	_, err = io.ReadFull(in.conn, data)
	return h, data, err
}
