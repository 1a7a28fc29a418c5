package deb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mirror is one archive address of the apt configuration.
type Mirror struct {
	URI      string // without trailing slash; http or https
	Security bool   // listed for a -security suite
}

// releases are the suite and code names that mark an archive as Debian's own.
// Third-party repositories use these too, but with components other than main
// or with a suffix that suite() does not know.
var releases = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

// Mirrors reads etc/apt/sources.list, sources.list.d/*.list and *.sources below
// root and returns the distinct Debian archives in the order of appearance.
// Errors are ErrSources.
func Mirrors(root string) ([]Mirror, error) {
	dir := filepath.Join(root, "etc/apt")
	lists, _ := filepath.Glob(filepath.Join(dir, "sources.list.d/*.list"))
	stanzas, _ := filepath.Glob(filepath.Join(dir, "sources.list.d/*.sources"))
	var all []Mirror
	for _, file := range append([]string{filepath.Join(dir, "sources.list")}, lists...) {
		text, err := readOptional(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			all = append(all, oneLine(root, line)...)
		}
	}
	for _, file := range stanzas {
		text, err := readOptional(file)
		if err != nil {
			return nil, err
		}
		for _, fields := range deb822(text) {
			all = append(all, stanza(root, fields)...)
		}
	}
	// Main suite and updates usually share one address.
	var out []Mirror
	for _, m := range all {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no http(s) Debian archive in %s: add one to sources.list", ErrSources, dir)
	}
	return out, nil
}

// readOptional treats a missing file as empty: Debian 13 has no sources.list.
func readOptional(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", ErrSources, err)
	}
	return string(b), nil
}

// oneLine parses sources.list(5)'s one-line style: deb [options] uri suite component...
func oneLine(root, line string) []Mirror {
	// A comment may begin anywhere; addresses with a fragment make no sense to apt.
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimSpace(line)
	// deb-src lines begin alike, but need not offer binary packages.
	rest, ok := strings.CutPrefix(line, "deb")
	if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[') {
		return nil
	}
	rest = strings.TrimSpace(rest)
	if strings.HasPrefix(rest, "[") {
		_, after, closed := strings.Cut(rest, "]")
		if !closed {
			return nil
		}
		rest = after
	}
	f := strings.Fields(rest)
	if len(f) < 3 {
		return nil
	}
	return pick(root, f[:1], f[1:2], f[2:])
}

// stanza takes the mirrors from one deb822-style entry.
func stanza(root string, fields map[string]string) []Mirror {
	if strings.EqualFold(fields["enabled"], "no") || strings.EqualFold(fields["enabled"], "false") ||
		!slices.Contains(strings.Fields(fields["types"]), "deb") {
		return nil
	}
	return pick(root, strings.Fields(fields["uris"]), strings.Fields(fields["suites"]), strings.Fields(fields["components"]))
}

// deb822 splits text into stanzas of lower-cased field names and joined values.
func deb822(text string) []map[string]string {
	var out []map[string]string
	current, last := map[string]string{}, ""
	flush := func() {
		if len(current) > 0 {
			out = append(out, current)
		}
		current, last = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"): // does not end a stanza or a field
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t': // continues the field above
			current[last] += " " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			current[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return out
}

// pick keeps the addresses of an entry when it is one of Debian's own suites.
func pick(root string, uris, suites, components []string) []Mirror {
	// All pins are of main, which third parties rarely call theirs.
	if !slices.Contains(components, "main") {
		return nil
	}
	debian, security := false, false
	for _, s := range suites {
		d, sec := suite(s)
		debian, security = debian || d, security || sec
	}
	if !debian {
		return nil
	}
	var out []Mirror
	for _, uri := range uris {
		for _, u := range expand(root, uri) {
			out = append(out, Mirror{URI: strings.TrimRight(u, "/"), Security: security})
		}
	}
	return out
}

// suite tells whether a suite is Debian's own, and whether its security archive.
func suite(s string) (debian, security bool) {
	s = strings.TrimSuffix(s, "/")
	for _, r := range releases {
		tail, ok := strings.CutPrefix(s, r)
		if !ok {
			continue
		}
		switch tail {
		case "", "-updates", "-backports", "-proposed-updates", "-backports-sloppy":
			return true, false
		case "-security", "/updates": // the second form until buster
			return true, true
		}
	}
	return false, false
}

// expand resolves the mirror+file: indirection that Debian's cloud images use;
// other transports than http and https cannot be used here and are dropped.
func expand(root, uri string) []string {
	switch {
	case strings.HasPrefix(uri, "http://"), strings.HasPrefix(uri, "https://"):
		return []string{uri}
	case strings.HasPrefix(uri, "mirror+file:"):
		file := "/" + strings.TrimLeft(strings.TrimPrefix(uri, "mirror+file:"), "/")
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil
		}
		var out []string
		for line := range strings.Lines(string(text)) {
			// A line is an address, optionally followed by priorities and the like.
			if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], "http") {
				out = append(out, f[0])
			}
		}
		return out
	}
	return nil
}
