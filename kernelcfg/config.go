package kernelcfg

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// ErrConfig says that a configuration cannot be parsed, or is not what it must be.
var ErrConfig = errors.New("kernelcfg: kernel configuration")

// Config holds the values of a .config by symbol without CONFIG_: "y", a number, a
// quoted string, or "n" for "is not set". Absent symbols count as "n".
type Config map[string]string

// ParseConfig reads the format that Kconfig writes.
func ParseConfig(r io.Reader) (Config, error) {
	c := Config{}
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			// Kconfig writes an "off" as a comment; other comments say nothing.
			symbol, off := strings.CutSuffix(line, " is not set")
			symbol, named := strings.CutPrefix(symbol, "# CONFIG_")
			if off && named && symbol != "" {
				c[symbol] = "n"
			}
			continue
		}
		symbol, value, ok := strings.Cut(line, "=")
		// Kconfig never writes an empty value: strings have quotes.
		name, prefixed := strings.CutPrefix(symbol, "CONFIG_")
		if !ok || !prefixed || name == "" || value == "" {
			return nil, fmt.Errorf("%w: line %d is no assignment: %q", ErrConfig, n, line)
		}
		c[name] = value
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

// value returns a symbol's value with "n" for an absent one.
func (c Config) value(symbol string) string {
	if v, ok := c[symbol]; ok {
		return v
	}
	return "n"
}

// String writes the configuration sorted by symbol: the same set of values always
// gives the same text, which the build cache hashes.
func (c Config) String() string {
	var b strings.Builder
	for _, symbol := range slices.Sorted(maps.Keys(c)) {
		if c[symbol] == "n" {
			fmt.Fprintf(&b, "# CONFIG_%s is not set\n", symbol)
		} else {
			fmt.Fprintf(&b, "CONFIG_%s=%s\n", symbol, c[symbol])
		}
	}
	return b.String()
}
