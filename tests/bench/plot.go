package main

import (
	"fmt"
	"math"
	"strings"

	"keel/tests/bench/report"
)

// Geometry of the plot, in pixels.
const (
	plotWidth   = 900
	labelWidth  = 300
	valueWidth  = 150
	rowHeight   = 24
	titleHeight = 44
	axisHeight  = 44
	plotLeft    = labelWidth
	plotRight   = plotWidth - valueWidth
	ratioSpan   = 5 // powers of two on either side of 1
)

// Colours that stay apart in grey and for most who see colours differently.
const (
	colourOff = "#0072b2"
	colourOn  = "#d55e00"
	colourOwn = "#222222"
	colourSNP = "#009e73"
	colourTDX = "#cc79a7"
	colourBad = "#f6efe9" // behind ratios above 1
	colourAid = "#cccccc"
)

// plot draws two panels: ratios of all measures, and every boot.
func (r *results) plot() string {
	rows := r.rows()
	height := 2*(titleHeight+axisHeight) + (len(rows)+1+len(sides))*rowHeight + 30
	var c report.Canvas
	c.Open(plotWidth, height)
	end := r.plotRatios(&c, rows)
	r.plotBoots(&c, end+20)
	c.Add("</svg>")
	return c.String()
}

// ratioX places a ratio on a logarithmic axis; what lies outside ends at its edge.
func ratioX(v float64) float64 {
	at := min(max(math.Log2(v)/ratioSpan, -1), 1)
	return plotLeft + (at+1)/2*(plotRight-plotLeft)
}

func (r *results) plotRatios(c *report.Canvas, rows []row) (bottom float64) {
	top := float64(titleHeight)
	bottom = top + float64(len(rows))*rowHeight
	c.Text(12, 24, "start", report.TitleStyle, "Keel over nested QEMU: left of 1, Keel is faster or smaller")
	c.Add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, ratioX(1), top, plotRight-ratioX(1), bottom-top, colourBad)
	for p := -ratioSpan; p <= ratioSpan; p++ {
		x := ratioX(math.Exp2(float64(p)))
		c.Line(x, top, x, bottom, colourAid, "")
		c.Text(x, bottom+15, "middle", "", power(p))
	}
	c.Line(ratioX(1), top, ratioX(1), bottom, colourOwn, `stroke-width="1.5"`)
	for i, w := range rows {
		y := top + (float64(i)+0.5)*rowHeight
		m := r.medians(w)
		c.Text(plotLeft-10, y+4, "end", "", fmt.Sprintf("%s, %d VP", w.name, w.vps))
		c.Line(plotLeft, y, plotRight, y, colourAid, `stroke-dasharray="1 4"`)
		if strings.HasPrefix(w.budget, "ratio at most 0.7") {
			c.Line(ratioX(0.7), y-9, ratioX(0.7), y+9, colourOwn, `stroke-width="2"`)
		}
		for _, v := range []struct {
			peer   float64
			colour string
			dy     float64
		}{{m.off, colourOff, -4}, {m.on, colourOn, 4}} {
			if m.keel > 0 && v.peer > 0 {
				c.Dot(ratioX(m.keel/v.peer), y+v.dy, 4.5, v.colour, "")
			}
		}
		for _, v := range []struct {
			isolated float64
			colour   string
			dy       float64
		}{{m.snp, colourSNP, -1.5}, {m.tdx, colourTDX, 1.5}} {
			if m.keel > 0 && v.isolated > 0 {
				c.Dot(ratioX(v.isolated/m.keel), y+v.dy, 4.5, v.colour, "")
			}
		}
		c.Text(plotRight+8, y+4, "start", "", fmt.Sprintf("Keel: %s %s", report.Number(m.keel), w.unit))
	}
	y := bottom + 40
	c.Dot(plotLeft+6, y-4, 4.5, colourOff, "")
	c.Text(plotLeft+16, y, "start", "", "to kernel-irqchip=off")
	c.Dot(plotLeft+166, y-4, 4.5, colourOn, "")
	c.Text(plotLeft+176, y, "start", "", "to kernel-irqchip=on")
	c.Dot(plotLeft-264, y-4, 4.5, colourSNP, "")
	c.Text(plotLeft-254, y, "start", "", "snp,")
	c.Dot(plotLeft-214, y-4, 4.5, colourTDX, "")
	c.Text(plotLeft-204, y, "start", "", "tdx to no isolation")
	c.Line(plotLeft+320, y-12, plotLeft+320, y+4, colourOwn, `stroke-width="2"`)
	c.Text(plotLeft+328, y, "start", "", "budget")
	return y
}

// power writes a power of two, as a fraction where it is one.
func power(p int) string {
	if p < 0 {
		return fmt.Sprintf("1/%d", 1<<-p)
	}
	return fmt.Sprint(1 << p)
}

// plotBoots draws a dot for every boot and a bar at the median of each side.
func (r *results) plotBoots(c *report.Canvas, top float64) {
	userspace := func(s *sample) (float64, bool) { return s.UserspaceMS, true }
	longest := 1.0
	for i := range r.Samples {
		longest = max(longest, r.Samples[i].UserspaceMS)
	}
	step := report.NiceStep(longest / 5)
	longest = math.Ceil(longest/step) * step
	at := func(ms float64) float64 { return plotLeft + ms/longest*(plotRight-plotLeft) }
	c.Text(12, top+24, "start", report.TitleStyle, "Boot to userspace, every round (seconds; the bar is the median)")
	top += titleHeight
	bottom := top + float64(len(sides))*rowHeight
	for ms := 0.0; ms <= longest; ms += step {
		c.Line(at(ms), top, at(ms), bottom, colourAid, "")
		c.Text(at(ms), bottom+15, "middle", "", fmt.Sprintf("%.3g", ms/1000))
	}
	colours := map[string]string{keel: colourOwn, keelSNP: colourSNP, keelTDX: colourTDX, qemuOff: colourOff, qemuOn: colourOn}
	for i, s := range sides {
		y := top + (float64(i)+0.5)*rowHeight
		c.Text(plotLeft-10, y+4, "end", "", s.String())
		values := r.of(s, userspace)
		if len(values) == 0 {
			continue
		}
		for _, v := range values {
			c.Dot(at(v), y, 4, colours[s.Monitor], `fill-opacity="0.45"`)
		}
		m := report.Median(values)
		c.Line(at(m), y-9, at(m), y+9, colours[s.Monitor], `stroke-width="3"`)
		c.Text(plotRight+8, y+4, "start", "", fmt.Sprintf("%.2f s", m/1000))
	}
}
