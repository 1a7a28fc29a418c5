package client

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
	"keel/diag/inspect"
)

// maxAttrs is how many attributes of a line are shown.
const maxAttrs = 64

// LogLine is a line of a paravisor's log. Its texts are printable.
type LogLine struct {
	Seq     uint64 // counts the lines from 1
	Time    time.Time
	Level   slog.Level
	Message string
	Attrs   []LogAttr
	Lost    uint64 // lines before this one that are lost
}

// LogAttr is a value of a line.
type LogAttr struct {
	Key, Value  string
	Sensitivity inspect.Sensitivity
	Withheld    bool // the value is private, and the guest confidential
}

// logLevels are the levels of the log as messages have them.
var logLevels = []struct {
	proto diagpb.LogLevel
	level slog.Level
}{
	{diagpb.LogLevel_LOG_LEVEL_ERROR, slog.LevelError},
	{diagpb.LogLevel_LOG_LEVEL_WARN, slog.LevelWarn},
	{diagpb.LogLevel_LOG_LEVEL_INFO, slog.LevelInfo},
	{diagpb.LogLevel_LOG_LEVEL_DEBUG, slog.LevelDebug},
}

// Logs hands the lines of the paravisor's log that have a level, or a higher one, to
// each, oldest first, from the one after number after. With on it goes on until each fails
// or ctx ends. Errors: ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost, and
// those of each and ctx.
func (c *Client) Logs(ctx context.Context, least slog.Level, after uint64, on bool, each func(*LogLine) error) error {
	request := &diagpb.LogsRequest{Follow: on, After: after, Least: diagpb.LogLevel_LOG_LEVEL_DEBUG}
	for _, l := range logLevels {
		if least >= l.level {
			request.Least = l.proto
			break
		}
	}
	return follow(ctx, c, "Logs/Logs", request, func(m *diagpb.LogRecord) error {
		line := &LogLine{
			Seq: m.GetSeq(), Time: time.Unix(0, m.GetTimeNs()), Level: slog.LevelDebug, Message: diagpb.Printable(m.GetMessage()), Lost: m.GetLost(),
		}
		for _, l := range logLevels {
			if m.GetLevel() == l.proto {
				line.Level = l.level
			}
		}
		for _, a := range m.GetAttrs()[:min(len(m.GetAttrs()), maxAttrs)] {
			line.Attrs = append(line.Attrs, LogAttr{
				Key: diagpb.Printable(a.GetKey()), Value: diagpb.Printable(a.GetValue()),
				Sensitivity: diagpb.ToSensitivity(a.GetSensitivity()), Withheld: a.GetWithheld(),
			})
		}
		return each(line)
	})
}

// KernelMessage is one of the kernel beneath the paravisor. Its text is printable.
type KernelMessage struct {
	Seq      uint64        // counts the messages
	Time     time.Duration // since the kernel started
	Level    uint32        // of syslog: 0 (emergency) to 7 (debug)
	Facility uint32
	Text     string
}

// Kmsg hands the messages of the kernel beneath the paravisor to each, oldest first. With
// on it goes on until each fails or ctx ends. Errors: as Logs.
func (c *Client) Kmsg(ctx context.Context, on bool, each func(*KernelMessage) error) error {
	return follow(ctx, c, "Logs/Kmsg", &diagpb.KmsgRequest{Follow: on}, func(m *diagpb.KmsgRecord) error {
		us := min(m.GetTimeUs(), uint64((1<<63-1)/time.Microsecond))
		return each(&KernelMessage{
			Seq: m.GetSeq(), Time: time.Duration(us) * time.Microsecond, Level: m.GetLevel(), Facility: m.GetFacility(), Text: diagpb.Printable(m.GetText()),
		})
	})
}

// Metrics returns the state tree as OpenMetrics text, with what may be seen of it.
// Nothing in it is checked but that it is printable text of at most 256 KiB. Errors:
// ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	var answer *diagpb.MetricsResponse
	err := c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) (err error) {
		answer, err = diagpb.NewLogsClient(conn).Metrics(ctx, &diagpb.MetricsRequest{})
		return err
	})
	if err != nil {
		return "", err
	}
	text := string(answer.GetText())
	if !utf8.ValidString(text) || len(text) > maxFrame {
		return "", fmt.Errorf("%w: no text", ErrAnswer)
	}
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			return "", fmt.Errorf("%w: the text has the character %U", ErrAnswer, r)
		}
	}
	return text, nil
}

// maxSettings is how many settings are shown.
const maxSettings = 256

// Setting is how something of a paravisor is set. Its texts are printable.
type Setting struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Values   string `json:"values,omitempty"` // which there are, in words
	Doc      string `json:"doc"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

func setting(m *diagpb.Setting) *Setting {
	return &Setting{
		Name: diagpb.Printable(m.GetName()), Value: diagpb.Printable(m.GetValue()), Values: diagpb.Printable(m.GetValues()),
		Doc: diagpb.Printable(m.GetDoc()), ReadOnly: m.GetReadOnly(),
	}
}

// Settings lists what can be set, or cannot. Errors: as Metrics.
func (c *Client) Settings(ctx context.Context) ([]*Setting, error) {
	var answer *diagpb.SettingsResponse
	err := c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) (err error) {
		answer, err = diagpb.NewLogsClient(conn).Settings(ctx, &diagpb.SettingsRequest{})
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []*Setting
	for _, m := range answer.GetSettings()[:min(len(answer.GetSettings()), maxSettings)] {
		out = append(out, setting(m))
	}
	return out, nil
}

// Update sets something and returns how it is set then. Errors: ErrPath for what there is
// not, ErrRequest for a value that it cannot have, ErrRefused for what can only be read
// and by policy, and those of Metrics.
func (c *Client) Update(ctx context.Context, name, value string) (*Setting, error) {
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return nil, fmt.Errorf("%w: %q is no UTF-8", ErrRequest, name+"="+value)
	}
	var answer *diagpb.UpdateResponse
	err := c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) (err error) {
		answer, err = diagpb.NewLogsClient(conn).Update(ctx, &diagpb.UpdateRequest{Name: name, Value: value})
		return err
	})
	if err != nil {
		return nil, err
	}
	return setting(answer.GetSetting()), nil
}
