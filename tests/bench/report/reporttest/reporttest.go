// Package reporttest looks at plots for tests.
package reporttest

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// Dots counts the dots of a plot, which must be well formed and without numbers that are
// none.
func Dots(tb testing.TB, svg string) (dots int) {
	tb.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			tb.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			dots++
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		tb.Error("the plot has numbers that are none")
	}
	return dots
}
