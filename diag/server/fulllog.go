package server

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"keel/diag/diagpb"
	"keel/diag/inspect"
	"keel/diag/kmsg"
)

// Lines of a full log.
type (
	logLine struct {
		From    string    `json:"from"` // "paravisor"
		Seq     uint64    `json:"seq"`
		Time    time.Time `json:"time"`
		Level   string    `json:"level"`
		Message string    `json:"message"`
		Attrs   []logAttr `json:"attrs,omitempty"`
		Lost    uint64    `json:"lost,omitempty"` // lines before this one
	}
	logAttr struct {
		Key     string `json:"key"`
		Value   string `json:"value"`
		Private bool   `json:"private,omitempty"`
	}
	kernelLine struct {
		From   string `json:"from"` // "kernel"
		TimeUS int64  `json:"time_us"`
		Level  int    `json:"level"`
		Text   string `json:"text"`
	}
)

// Journal sends the whole log.
func (s owners) Journal(ctx context.Context, _ *diagpb.JournalRequest, send func(*diagpb.FilePiece) error) error {
	var b bytes.Buffer // of lines that were not sent yet
	lines := json.NewEncoder(&b)
	flush := func() error {
		err := send(&diagpb.FilePiece{Data: b.Bytes()})
		b.Reset()
		return err
	}
	add := func(line any) error {
		if err := lines.Encode(line); err != nil || b.Len() < logPiece {
			return err
		}
		return flush()
	}
	for after := uint64(0); s.config.Logs.Journal != nil; {
		r, lost, ok, err := s.config.Logs.Journal.Next(ctx, after, false)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		after = r.Seq
		line := logLine{From: "paravisor", Seq: r.Seq, Time: r.Time.UTC(), Level: strings.ToLower(r.Level.String()), Message: r.Message, Lost: lost}
		for _, a := range r.Attrs {
			line.Attrs = append(line.Attrs, logAttr{a.Key, a.Value, a.Sensitivity != inspect.Public})
		}
		if err := add(line); err != nil {
			return err
		}
	}
	if s.config.Logs.Kmsg != nil {
		if err := s.config.Logs.Kmsg(ctx, false, func(r kmsg.Record) error {
			return add(kernelLine{"kernel", r.Time.Microseconds(), int(r.Level), r.Text})
		}); err != nil {
			return err
		}
	}
	return flush()
}

// logPiece is how much of a log is sent at once, in bytes.
const logPiece = 16 << 10
