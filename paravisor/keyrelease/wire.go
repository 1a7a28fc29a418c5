package keyrelease

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"time"
)

// DefaultPatience is how long an end waits for what is due next.
const DefaultPatience = 30 * time.Second

// wire is one end of an exchange. It remembers all that was said.
type wire struct {
	conn     net.Conn
	patience time.Duration // for each message
	gone     error         // what it means that the other end has left
	said     hash.Hash     // over all messages, both ways
}

func newWire(conn net.Conn, patience time.Duration, gone error) *wire {
	if patience <= 0 {
		patience = DefaultPatience
	}
	return &wire{conn: conn, patience: patience, gone: gone, said: sha512.New()}
}

// sum returns the hash of all that was said so far.
func (w *wire) sum() []byte { return w.said.Sum(nil) }

// send writes a message.
func (w *wire) send(k kind, body []byte) error {
	b := append(header(k, len(body)), body...)
	w.said.Write(b)
	return w.write(k, b)
}

func (w *wire) write(k kind, b []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
		return w.failed(k, err)
	}
	if _, err := w.conn.Write(b); err != nil {
		return w.failed(k, err)
	}
	return nil
}

// receive reads a message of one of the kinds that are due. The message is not among what
// was said yet: see hear.
func (w *wire) receive(due ...kind) (k kind, head [headerSize]byte, body []byte, err error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(w.patience)); err != nil {
		return 0, head, nil, w.failed(due[0], err)
	}
	if n, err := io.ReadFull(w.conn, head[:]); err != nil {
		if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
			err = errShort
		}
		return 0, head, nil, w.failed(due[0], err)
	}
	k, length, err := parseHeader(head, due...)
	if err != nil {
		return 0, head, nil, err
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errShort
		}
		return 0, head, nil, w.failed(k, err)
	}
	return k, head, body, nil
}

// hear adds a message to what was said.
func (w *wire) hear(head [headerSize]byte, body []byte) {
	w.said.Write(head[:])
	w.said.Write(body)
}

var errShort = errors.New("ends too early")

// failed turns an error of the connection into one of this package.
func (w *wire) failed(k kind, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: no %v within %v; see that it runs and is not overloaded", ErrSlow, k, w.patience)
	case errors.Is(err, errShort):
		return fmt.Errorf("%w: %v %w; see the log of the other end", ErrMalformed, k, errShort)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the connection was closed instead of a %v; see that the server runs, and its log", w.gone, k)
	}
	return fmt.Errorf("%w: %v: %w; see that the server runs, and its log", w.gone, k, err)
}
