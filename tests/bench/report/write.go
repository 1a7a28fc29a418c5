package report

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version returns the first line of what a QEMU says of its version.
func Version(ctx context.Context, qemu string) (string, error) {
	out, err := exec.CommandContext(ctx, qemu, "-version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line, err
}

// Write writes results to a folder, as data, as a table and as a plot, and prints the
// table.
func Write(folder string, results any, markdown, plot string) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"results.json": string(data) + "\n", "results.md": markdown, "results.svg": plot,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	_, err = os.Stdout.WriteString(markdown)
	return err
}
