package client

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
)

// file writes what comes as the pieces of a file, up to a bound.
func (c *Client) file(ctx context.Context, method string, request proto.Message, most uint64, w io.Writer) error {
	var total uint64
	cut := ""
	err := follow(ctx, c, method, request, func(p *diagpb.FilePiece) error {
		n := uint64(len(p.GetData()))
		if p.GetZeros() > most || total+n+p.GetZeros() > most {
			return fmt.Errorf("%w: more than %d bytes", ErrAnswer, most)
		}
		total += n + p.GetZeros()
		if p.GetCut() != "" {
			cut = oneLine(p.GetCut())
		}
		if n > 0 {
			if _, err := w.Write(p.GetData()); err != nil {
				return err
			}
		}
		return writeZeros(w, int64(p.GetZeros()))
	})
	if err == nil && cut != "" {
		err = fmt.Errorf("%w: %s", ErrCut, cut)
	}
	return err
}

// sparse is a file that can have holes.
type sparse interface {
	io.Seeker
	Truncate(size int64) error
}

// writeZeros writes zeros, as a hole if w is a file.
func writeZeros(w io.Writer, n int64) error {
	if f, ok := w.(sparse); ok && n > 0 {
		at, err := f.Seek(n, io.SeekCurrent)
		if err != nil {
			return err
		}
		return f.Truncate(at)
	}
	zeros := make([]byte, min(n, 64<<10))
	for n > 0 {
		part, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(part)
	}
	return nil
}
