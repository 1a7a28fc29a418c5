package paravisor

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/hcl/sys"
)

// maxCommand bounds a line from the launcher, in bytes.
const maxCommand = 16 << 10

// control is the channel to the launcher.
type control struct {
	mu  sync.Mutex
	w   io.Writer
	log *slog.Logger
}

// send writes one event. A launcher that is gone is no reason to stop.
func (c *control) send(e handoff.Event) {
	e.TimeMS = sys.SincePowerOn()
	line, err := json.Marshal(e)
	if err == nil {
		c.mu.Lock()
		_, err = c.w.Write(append(line, '\n'))
		c.mu.Unlock()
	}
	if err != nil {
		c.log.Error("cannot send an event", inspect.PublicAttr("event", e.Event), inspect.PublicAttr("error", err))
	}
}

// serve hands commands to do until the channel or ctx ends. What is not a
// command is counted in the log and dropped.
func (c *control) serve(ctx context.Context, r io.Reader, do func(handoff.Command)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxCommand), maxCommand)
	for lines.Scan() && ctx.Err() == nil {
		var command handoff.Command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			c.log.Warn("refused a malformed command", inspect.PublicAttr("error", err))
			continue
		}
		do(command)
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		c.log.Warn("the control channel ended", inspect.PublicAttr("error", err))
	}
}
