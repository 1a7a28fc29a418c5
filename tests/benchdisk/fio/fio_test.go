package fio

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestPlanSurvivesAKernelsCommandLine(t *testing.T) {
	for _, p := range []Plan{{Jobs, 10, 2}, {Jobs[1:2], 1, 0}, {nil, 5, 1}} {
		got, err := ParsePlan(p.String())
		if err != nil || !slices.Equal(got.Jobs, p.Jobs) || got.Seconds != p.Seconds || got.Ramp != p.Ramp {
			t.Errorf("%q became %+v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "randread-1", "randread-1/10", "none/10/2", "randread-1/0/2", "randread-1/10/-1", "randread-1/x/2", "a/1/2/3"} {
		if p, err := ParsePlan(bad); !errors.Is(err, ErrPlan) {
			t.Errorf("%q gave %+v, %v", bad, p, err)
		}
	}
}

func TestArgs(t *testing.T) {
	args := Plan{nil, 10, 2}.Args(*Find("read-1m-4"), "/dev/sda")
	for _, want := range []string{"--filename=/dev/sda", "--rw=read", "--bs=1048576", "--iodepth=4", "--runtime=10", "--ramp_time=2", "--direct=1"} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
	if Find("none") != nil {
		t.Error("there is a job that nobody knows")
	}
}

// said is what fio 3.33 prints, cut to what matters and some of what does not.
const said = `fio: something before
{ "fio version" : "fio-3.33", "jobs" : [ { "jobname" : "x", "error" : 0,
 "read" : { "io_bytes" : 1, "iops" : 123.5, "total_ios" : 1235, "lat_ns" : { "min" : 1, "mean" : 8000.0 },
  "clat_ns" : { "percentile" : { "50.000000" : 7000, "99.000000" : 20000 } } },
 "write" : { "iops" : 0.0, "total_ios" : 0, "lat_ns" : { "mean" : 0 }, "clat_ns" : { } } } ] }`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(said))
	if want := (Figures{IOs: 1235, IOPS: 123.5, MeanUS: 8, P99US: 20}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	const write = `{"jobs":[{"error":0,"read":{"total_ios":0},"write":{"total_ios":10,"iops":1}}]}`
	if got, err := Parse([]byte(write)); err != nil || got.IOs != 10 {
		t.Errorf("%+v, %v of a job that writes", got, err)
	}
	for _, bad := range []string{
		"", "fio: device not found", "{", `{"jobs":[]}`,
		`{"jobs":[{"error":5,"read":{"total_ios":1,"iops":1}}]}`, `{"jobs":[{"error":0,"read":{"total_ios":0}}]}`,
	} {
		if got, err := Parse([]byte(bad)); !errors.Is(err, ErrOutput) {
			t.Errorf("%q gave %+v, %v", bad, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(said))
	f.Add([]byte(`{"jobs":[{"error":5}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text)
		if err == nil && (got.IOs == 0 || got.IOPS <= 0 || math.IsNaN(got.MeanUS)) {
			t.Errorf("%q gave %+v", text, got)
		}
	})
}

func FuzzParsePlan(f *testing.F) {
	f.Add("randread-1,read-1m-4/10/2")
	f.Add("//")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlan(text)
		if err != nil {
			return
		}
		if again, err := ParsePlan(p.String()); err != nil || again.String() != p.String() {
			t.Errorf("%q became %q, %v", p, again, err)
		}
	})
}
