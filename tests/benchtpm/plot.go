package main

import (
	"fmt"
	"math"

	"keel/tests/bench/report"
)

// Geometry of the plot, in pixels.
const (
	plotWidth   = 860
	plotLeft    = 170
	plotRight   = 690
	rowHeight   = 26
	titleHeight = 44
	axisHeight  = 60
	tickStep    = 0.25
)

const (
	colourWorker = "#0072b2"
	colourAid    = "#cccccc"
	colourBound  = "#222222"
)

// plot draws the ratio of every round, a row an operation.
func (r *results) plot() string {
	most := ratioBound
	for _, name := range r.Operations {
		for _, v := range r.ratios(name) {
			most = max(most, v)
		}
	}
	// Where a round was far off, fewer ticks stay apart.
	step := tickStep * max(1, report.NiceStep(most/3))
	most = math.Ceil(most/step) * step
	x := func(v float64) float64 { return plotLeft + v/most*(plotRight-plotLeft) }
	bottom := float64(titleHeight + len(r.Operations)*rowHeight)

	var c report.Canvas
	c.Open(plotWidth, int(bottom)+axisHeight)
	c.Text(12, 24, "start", report.TitleStyle, "Time of the worker over that of swtpm in the same round: left is faster")
	for v := 0.0; v <= most+1e-9; v += step {
		c.Line(x(v), titleHeight, x(v), bottom, colourAid, "")
		c.Text(x(v), bottom+15, "middle", "", fmt.Sprintf("%.2f", v))
	}
	c.Line(x(ratioBound), titleHeight, x(ratioBound), bottom, colourBound, `stroke-width="2" stroke-dasharray="3 2"`)
	for i, name := range r.Operations {
		y := titleHeight + (float64(i)+0.5)*rowHeight
		values := r.ratios(name)
		c.Text(12, y+4, "start", "", name)
		for _, v := range values {
			c.Dot(x(v), y, 4, colourWorker, `fill-opacity="0.4"`)
		}
		if len(values) > 0 {
			m := report.Median(values)
			c.Line(x(m), y-9, x(m), y+9, colourWorker, `stroke-width="3"`)
		}
		c.Text(plotRight+8, y+4, "start", "", spread(values))
	}
	c.Text(12, bottom+42, "start", "", "A dot is a round, a bar the median, the dashed line the bound.")
	c.Add("</svg>")
	return c.String()
}
