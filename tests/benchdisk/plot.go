package main

import (
	"fmt"
	"math"

	"keel/tests/bench/report"
)

// Geometry of the plot, in pixels.
const (
	plotWidth   = 900
	plotLeft    = 330
	plotRight   = 740
	rowHeight   = 22
	groupGap    = 14
	titleHeight = 44
	axisHeight  = 64
	tickStep    = 0.25
)

// Colours that stay apart in grey and for most who see colours differently.
var colours = map[string]string{keelVirtio: "#222222", keelStorVSC: "#0072b2", peerVirtio: "#d55e00"}

const colourAid = "#cccccc"

// plot draws, for each job, every round of every side as a share of the limit.
func (r *results) plot() string {
	jobs, shown := r.jobs(), sides[1:]
	most := 1.0
	for _, j := range jobs {
		for _, side := range shown {
			for _, v := range r.ratios(side, limit, j.Name) {
				most = max(most, v)
			}
		}
	}
	most = math.Ceil(most/tickStep) * tickStep
	x := func(v float64) float64 { return plotLeft + v/most*(plotRight-plotLeft) }
	group := len(shown)*rowHeight + groupGap
	bottom := float64(titleHeight + len(jobs)*group)

	var c report.Canvas
	c.Open(plotWidth, int(bottom)+axisHeight)
	c.Text(12, 24, "start", report.TitleStyle, "I/Os per second, over those of NVMe in VTL2 in the same round: right is faster")
	for v := 0.0; v <= most+1e-9; v += tickStep {
		c.Line(x(v), titleHeight, x(v), bottom, colourAid, "")
		c.Text(x(v), bottom+15, "middle", "", fmt.Sprintf("%.2f", v))
	}
	c.Line(x(1), titleHeight, x(1), bottom, "#222222", `stroke-width="1.5"`)
	for i, j := range jobs {
		top := float64(titleHeight + i*group)
		c.Text(12, top+18, "start", `font-weight="bold"`, titles[j.Name])
		if v, ok := bounds[j.Name]; ok {
			c.Line(x(v), top+3, x(v), top+float64(2*rowHeight), "#222222", `stroke-width="2" stroke-dasharray="3 2"`)
		}
		for k, side := range shown {
			y := top + (float64(k)+0.5)*rowHeight
			values := r.ratios(side, limit, j.Name)
			c.Text(plotLeft-10, y+4, "end", "", side)
			for _, v := range values {
				c.Dot(x(v), y, 4, colours[side], `fill-opacity="0.4"`)
			}
			if len(values) > 0 {
				m := report.Median(values)
				c.Line(x(m), y-8, x(m), y+8, colours[side], `stroke-width="3"`)
			}
			c.Text(plotRight+8, y+4, "start", "", spread(values))
		}
	}
	c.Text(plotLeft, bottom+42, "start", "", "A dot is a round, a bar the median, a dashed line the bound for Keel (DESIGN, section 6).")
	c.Add("</svg>")
	return c.String()
}
