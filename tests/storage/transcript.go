package storage

import (
	"regexp"
	"strconv"
	"strings"
)

// Marks on the console.
const (
	markBegin = "KEEL-STORAGE begin "
	markEnd   = "KEEL-STORAGE end "
	markEvent = "KEEL-STORAGE event "
)

// Section is what one command of a script printed.
type Section struct {
	Name   string
	Status int // exit status
	Text   string
}

// Sections returns the commands of a console whose end arrived.
func Sections(console string) []Section {
	var out []Section
	var open *Section
	for line := range strings.Lines(console) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, markBegin); ok {
			open = &Section{Name: name}
			continue
		}
		if open == nil {
			continue
		}
		rest, ok := strings.CutPrefix(line, markEnd)
		name, status, _ := strings.Cut(rest, " ")
		if !ok {
			open.Text += line + "\n"
			continue
		}
		if n, err := strconv.Atoi(status); err == nil && name == open.Name {
			open.Status = n
			out = append(out, *open)
		}
		open = nil
	}
	return out
}

// Events returns what the script said for the host to wait for.
func Events(console string) []string {
	var out []string
	for line := range strings.Lines(console) {
		if rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), markEvent); ok {
			out = append(out, strings.TrimSpace(rest))
		}
	}
	return out
}

// HasEvent tells whether an event that begins with these words has come, whole.
func HasEvent(console, words string) bool {
	// A line under way may still be cut.
	end := strings.LastIndexByte(console, '\n') + 1
	for _, e := range Events(console[:end]) {
		if e == words || strings.HasPrefix(e, words+" ") {
			return true
		}
	}
	return false
}

// identifiers are what differs from image to image: the serial number that the
// launcher makes of a file's name, and names made of it in VPD page 83h. The digits
// after the first group become x, so that their number is still compared.
var identifiers = regexp.MustCompile(`(KEEL|\b0x|vendor specific: )([0-9a-f]{32}|[0-9a-f]{16})\b`)

// Golden returns sections as golden files have them.
func Golden(sections []Section) string {
	var out strings.Builder
	for _, s := range sections {
		text := identifiers.ReplaceAllStringFunc(s.Text, func(found string) string {
			m := identifiers.FindStringSubmatch(found)
			return m[1] + strings.Repeat("x", len(m[2]))
		})
		out.WriteString("== " + s.Name + ": " + strconv.Itoa(s.Status) + "\n" + text)
	}
	return out.String()
}

// Differing returns a golden text in which the sections that other has, too, are those of
// other: what one kernel's driver makes of the same disk.
func Differing(golden, other string) string {
	instead := map[string]string{}
	for _, s := range split(other) {
		name, _, _ := strings.Cut(s, ":")
		instead[name] = s
	}
	var out strings.Builder
	for _, s := range split(golden) {
		name, _, _ := strings.Cut(s, ":")
		if found, ok := instead[name]; ok {
			s = found
		}
		out.WriteString(s)
	}
	return out.String()
}

// split returns the sections of a golden text.
func split(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "== ") || len(out) == 0 {
			out = append(out, "")
		}
		out[len(out)-1] += line
	}
	return out
}
