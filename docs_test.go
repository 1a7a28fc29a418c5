package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// called are the commands of the tool in documentation, with what follows on the line.
var called = regexp.MustCompile("`(?:build/)?keel ((?:[a-z-]+ ?)+)([^`\n]*)`")

// TestDocumentation: commands and options that the documentation names are there, and each
// command of keel diag has its section.
func TestDocumentation(t *testing.T) {
	root := rootCommand()
	root.InitDefaultCompletionCmd("completion")
	var sections string
	for _, name := range []string{"README.md", "docs/diag.md", "docs/howto.md", "diag/README.md", "diag/keyserver/README.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "docs/diag.md" {
			sections = string(text)
		}
		for _, m := range called.FindAllStringSubmatch(string(text), -1) {
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || cmd.HasSubCommands() && len(rest) > 0 {
				t.Errorf("%s: %s: no such command: %q (%v)", name, m[0], rest, err)
				continue
			}
			for word := range strings.FieldsSeq(m[1] + m[2]) {
				option, _, _ := strings.Cut(strings.Trim(word, "[]."), "=")
				if option == "--" || option == "-ex" {
					break
				}
				if long, ok := strings.CutPrefix(option, "--"); ok && find(cmd, long) == nil {
					t.Errorf("%s: %s: there is no --%s", name, m[0], long)
				}
			}
		}
	}
	diag, _, err := root.Find([]string{"diag"})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(regexp.MustCompile(`(?m)^## .*$`).FindAllString(sections, -1), " ")
	headings := strings.FieldsFunc(lines, func(r rune) bool { return strings.ContainsRune("#, ", r) })
	for _, cmd := range diag.Commands() {
		if !slices.Contains(headings, cmd.Name()) && cmd.Name() != "help" {
			t.Errorf("docs/diag.md has no section for %s", cmd.Name())
		}
	}
}

// find returns an option of a command, nil where there is none.
func find(cmd *cobra.Command, name string) *pflag.Flag {
	return cmd.Flags().Lookup(strings.Trim(name, "[]|"))
}
