package server

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/kmsg"
	"keel/diag/metrics"
)

// LogsConfig is what the service Logs tells of.
type LogsConfig struct {
	// Journal is the paravisor's log.
	Journal *journal.Journal
	// Kmsg reads the kernel's log as kmsg.Read does.
	Kmsg func(ctx context.Context, follow bool, each func(kmsg.Record) error) error
	// Settings are what can be set.
	Settings Settings
}

// Bounds of the time between looks at the tree.
const (
	MinInterval     = 100 * time.Millisecond
	MaxInterval     = time.Hour
	defaultInterval = time.Second
)

// logs are the methods of keel.diag.v1.Logs.
type logs struct{ *Server }

func (s logs) methods() map[string]method {
	return map[string]method{
		"Logs": stream(s.Logs), "Kmsg": stream(s.Kmsg), "Watch": stream(s.Watch),
		"Metrics": unary(s.Metrics), "Settings": unary(s.Settings), "Update": unary(s.Update),
	}
}

// least is the sensitivity that the client may see.
func (s *Server) least() inspect.Sensitivity {
	if s.config.Confidential {
		return inspect.Public
	}
	return inspect.Private
}

// levels are those of the log, from the least on.
var levels = []struct {
	proto diagpb.LogLevel
	level slog.Level
}{
	{diagpb.LogLevel_LOG_LEVEL_DEBUG, slog.LevelDebug},
	{diagpb.LogLevel_LOG_LEVEL_INFO, slog.LevelInfo},
	{diagpb.LogLevel_LOG_LEVEL_WARN, slog.LevelWarn},
	{diagpb.LogLevel_LOG_LEVEL_ERROR, slog.LevelError},
}

// Logs reads the journal.
func (s logs) Logs(ctx context.Context, r *diagpb.LogsRequest, send func(*diagpb.LogRecord) error) error {
	if _, ok := diagpb.LogLevel_name[int32(r.GetLeast())]; !ok {
		return status.Errorf(codes.InvalidArgument, "level %d is unknown", r.GetLeast())
	}
	lost := uint64(0)
	for after := r.GetAfter(); ; {
		record, gone, ok, err := s.config.Logs.Journal.Next(ctx, after, r.GetFollow())
		if err != nil || !ok {
			return err
		}
		after = record.Seq
		lost += gone
		m := s.record(&record)
		if m.GetLevel() < r.GetLeast() {
			continue
		}
		m.Lost, lost = lost, 0
		if err := send(m); err != nil {
			return err
		}
	}
}

// record returns a line as the client may see it.
func (s *Server) record(r *journal.Record) *diagpb.LogRecord {
	m := &diagpb.LogRecord{
		Seq: r.Seq, TimeNs: r.Time.UnixNano(), Message: strings.ToValidUTF8(r.Message, "?"), Level: levels[0].proto,
	}
	for _, l := range levels {
		if r.Level >= l.level {
			m.Level = l.proto
		}
	}
	for _, a := range r.Attrs {
		out := &diagpb.LogAttr{Key: strings.ToValidUTF8(a.Key, "?"), Sensitivity: diagpb.FromSensitivity(a.Sensitivity)}
		if out.Withheld = a.Sensitivity < s.least(); !out.Withheld {
			out.Value = strings.ToValidUTF8(a.Value, "?")
		}
		m.Attrs = append(m.Attrs, out)
	}
	return m
}

// Kmsg reads the log of the kernel.
func (s logs) Kmsg(ctx context.Context, r *diagpb.KmsgRequest, send func(*diagpb.KmsgRecord) error) error {
	if s.config.Logs.Kmsg == nil {
		return status.Error(codes.FailedPrecondition, "there is no kernel log")
	}
	return s.config.Logs.Kmsg(ctx, r.GetFollow(), func(r kmsg.Record) error {
		return send(&diagpb.KmsgRecord{
			Seq: r.Seq, TimeUs: uint64(r.Time.Microseconds()), Level: uint32(r.Level), Facility: r.Facility, Text: strings.ToValidUTF8(r.Text, "?"),
		})
	})
}

// Metrics writes the tree as OpenMetrics text.
func (s logs) Metrics(context.Context, *diagpb.MetricsRequest) (*diagpb.MetricsResponse, error) {
	root, err := inspect.Look(s.config.Root, "", MaxDepth)
	if err != nil {
		return nil, err
	}
	seen, _ := root.Redact(s.least()) // the root is public
	text := metrics.Text(&seen)
	if len(text) > maxAnswer-1024 {
		return nil, status.Errorf(codes.ResourceExhausted, "the metrics have %d bytes, too many for one answer", len(text))
	}
	return &diagpb.MetricsResponse{Text: []byte(text), ContentType: metrics.ContentType}, nil
}

// Watch reads the tree again and again. Each look takes its turn as that of a request.
func (s logs) Watch(ctx context.Context, r *diagpb.WatchRequest, send func(*diagpb.InspectResponse) error) error {
	interval := time.Duration(r.GetIntervalMs()) * time.Millisecond
	switch {
	case interval == 0:
		interval = defaultInterval
	case interval < MinInterval, interval > MaxInterval:
		return status.Errorf(codes.InvalidArgument, "an interval of %v: give %v to %v", interval, MinInterval, MaxInterval)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		done, err := s.looking(ctx)
		if err != nil {
			return err
		}
		answer, err := s.look(r.GetWhat())
		done()
		if err == nil {
			err = send(answer)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
