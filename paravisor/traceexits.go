package paravisor

import (
	"fmt"
	"log/slog"

	"keel/hcl"
)

// logExits returns a function that logs a guest exit as one line, with what it was
// about and the bytes that went either way.
func logExits(log *slog.Logger) func(vp int, e hcl.Exit) {
	return func(vp int, e hcl.Exit) {
		args := []any{"vp", vp, "kind", e.Kind.String(), "rip", fmt.Sprintf("%#x", e.RIP)}
		direction := "read"
		if e.Write {
			direction = "write"
		}
		switch e.Kind {
		case hcl.ExitPIO:
			args = append(args, direction, fmt.Sprintf("%#x", e.Port), "data", fmt.Sprintf("%x", e.Data))
		case hcl.ExitMMIO:
			args = append(args, direction, fmt.Sprintf("%#x", e.GPA), "data", fmt.Sprintf("%x", e.Data))
		case hcl.ExitMSRRead:
			args = append(args, "msr", fmt.Sprintf("%#x", e.MSR))
		case hcl.ExitMSRWrite:
			args = append(args, "msr", fmt.Sprintf("%#x", e.MSR), "value", fmt.Sprintf("%#x", e.Value))
		default: // its name says all
		}
		log.Info("exit", args...)
	}
}
