package fio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Figures are what fio measured of one job.
type Figures struct {
	IOs    float64 // done while it measured
	IOPS   float64
	MeanUS float64 // from submission to completion, microseconds
	P99US  float64 // 99 of 100 completions took no longer
}

// ErrOutput says that fio failed, or said what cannot be read.
var ErrOutput = errors.New("fio")

// direction is what fio says of reads or of writes.
type direction struct {
	IOs     float64 `json:"total_ios"`
	IOPS    float64 `json:"iops"`
	Latency struct {
		Mean float64 `json:"mean"`
	} `json:"lat_ns"`
	Completion struct {
		Percentile map[string]float64 `json:"percentile"`
	} `json:"clat_ns"`
}

// output is the part of fio's JSON that counts.
type output struct {
	Jobs []struct {
		Error int       `json:"error"`
		Read  direction `json:"read"`
		Write direction `json:"write"`
	} `json:"jobs"`
}

// p99 is how fio names the 99th percentile.
const p99 = "99.000000"

// Parse reads fio's JSON output of one job. fio may say things before it.
func Parse(text []byte) (Figures, error) {
	start := bytes.IndexByte(text, '{')
	if start < 0 {
		return Figures{}, fmt.Errorf("%w: no result in %.300q", ErrOutput, text)
	}
	var o output
	if err := json.NewDecoder(bytes.NewReader(text[start:])).Decode(&o); err != nil {
		return Figures{}, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	if len(o.Jobs) != 1 || o.Jobs[0].Error != 0 {
		return Figures{}, fmt.Errorf("%w: jobs and their errors: %.300v", ErrOutput, o.Jobs)
	}
	d := o.Jobs[0].Read
	if d.IOs == 0 {
		d = o.Jobs[0].Write
	}
	if d.IOs == 0 || d.IOPS <= 0 {
		return Figures{}, fmt.Errorf("%w: no I/O came to its end", ErrOutput)
	}
	return Figures{IOs: d.IOs, IOPS: d.IOPS, MeanUS: d.Latency.Mean / 1000, P99US: d.Completion.Percentile[p99] / 1000}, nil
}
