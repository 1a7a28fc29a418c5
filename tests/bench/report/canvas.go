package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Canvas collects the elements of an SVG file. Places and sizes are pixels, styles
// are further attributes of an element.
type Canvas struct{ strings.Builder }

// TitleStyle is how headlines look.
const TitleStyle = `font-size="15" font-weight="bold"`

// Open begins a drawing on white ground; Add("</svg>") ends it.
func (c *Canvas) Open(width, height int) {
	c.Add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#222222">`,
		width, height, width, height)
	c.Add(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
}

// Add writes a line of SVG.
func (c *Canvas) Add(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// Text writes text; anchor is "start", "middle" or "end".
func (c *Canvas) Text(x, y float64, anchor, style, s string) {
	c.Add(`<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`, x, y, anchor, style, html.EscapeString(s))
}

// Line draws a line.
func (c *Canvas) Line(x1, y1, x2, y2 float64, colour, style string) {
	c.Add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" %s/>`, x1, y1, x2, y2, colour, style)
}

// Dot draws a disc.
func (c *Canvas) Dot(x, y, radius float64, colour, style string) {
	c.Add(`<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s" %s/>`, x, y, radius, colour, style)
}

// NiceStep rounds up to 1, 2 or 5 times a power of ten.
func NiceStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if v <= f*unit {
			return f * unit
		}
	}
	return 10 * unit
}
