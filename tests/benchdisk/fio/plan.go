// Package fio is what the benchmark of disks and its program inside the VM agree on:
// what fio does, and what of its output counts.
package fio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Job is one pattern of access.
type Job struct {
	Name  string
	RW    string // as fio calls it
	Block int    // bytes of one I/O
	Depth int    // I/Os under way
}

// Jobs lists the patterns in the order in which they run.
var Jobs = []Job{
	{"randread-1", "randread", 4 << 10, 1},
	{"randread-32", "randread", 4 << 10, 32},
	{"randwrite-1", "randwrite", 4 << 10, 1},
	{"randwrite-32", "randwrite", 4 << 10, 32},
	{"read-1m-4", "read", 1 << 20, 4},
}

// Find returns the job of a name, or nil.
func Find(name string) *Job {
	for i := range Jobs {
		if Jobs[i].Name == name {
			return &Jobs[i]
		}
	}
	return nil
}

// Plan is what one boot runs.
type Plan struct {
	Jobs    []Job
	Seconds int // each job is measured for so long
	Ramp    int // seconds that each job runs before that
}

// String writes a plan as one word: names apart by commas, seconds, ramp.
func (p Plan) String() string {
	var names []string
	for _, j := range p.Jobs {
		names = append(names, j.Name)
	}
	return fmt.Sprintf("%s/%d/%d", strings.Join(names, ","), p.Seconds, p.Ramp)
}

// ErrPlan says that a text is no plan.
var ErrPlan = errors.New("no plan of jobs")

// ParsePlan reads what String writes. A plan may be without a job.
func ParsePlan(s string) (Plan, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Plan{}, fmt.Errorf("%w: %q", ErrPlan, s)
	}
	var p Plan
	var err [2]error
	p.Seconds, err[0] = strconv.Atoi(parts[1])
	p.Ramp, err[1] = strconv.Atoi(parts[2])
	if e := errors.Join(err[:]...); e != nil || p.Seconds < 1 || p.Ramp < 0 {
		return Plan{}, fmt.Errorf("%w: %q: %w", ErrPlan, s, e)
	}
	p.Jobs, err[0] = ParseJobs(parts[0])
	return p, err[0]
}

// ParseJobs reads names of jobs, apart by commas.
func ParseJobs(s string) ([]Job, error) {
	var jobs []Job
	for name := range strings.SplitSeq(s, ",") {
		if name == "" {
			continue
		}
		j := Find(name)
		if j == nil {
			return nil, fmt.Errorf("%w: no job %q", ErrPlan, name)
		}
		jobs = append(jobs, *j)
	}
	return jobs, nil
}

// Args returns fio's arguments for a job on a device. They are the same on every
// side: one thread, past the page cache, through io_submit(2), with the clock that
// all kernels offer and places that repeat from run to run.
func (p Plan) Args(j Job, device string) []string {
	return []string{
		"--name=" + j.Name, "--filename=" + device, "--rw=" + j.RW, "--bs=" + strconv.Itoa(j.Block), "--iodepth=" + strconv.Itoa(j.Depth),
		"--ioengine=libaio", "--direct=1", "--thread", "--norandommap", "--randrepeat=1", "--refill_buffers=0",
		"--time_based", "--runtime=" + strconv.Itoa(p.Seconds), "--ramp_time=" + strconv.Itoa(p.Ramp),
		"--clocksource=clock_gettime", "--disk_util=0", "--eta=never", "--output-format=json",
	}
}
