package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"keel/tests/bench/report"
	"keel/tests/benchtpm/command"
)

// figures are what one side needed for an operation in one round, in µs.
type figures struct {
	Median    float64 `json:"median_us"`
	Mean      float64 `json:"mean_us"`
	Deviation float64 `json:"deviation_us"` // standard deviation
}

// summarize sums up the times of single commands.
func summarize(times []time.Duration) figures {
	if len(times) == 0 {
		return figures{}
	}
	us := make([]float64, len(times))
	var f figures
	for i, t := range times {
		us[i] = float64(t.Nanoseconds()) / 1e3
		f.Mean += us[i] / float64(len(times))
	}
	f.Median = report.Median(us)
	var squares float64
	for _, v := range us {
		squares += (v - f.Mean) * (v - f.Mean)
	}
	if len(us) > 1 {
		f.Deviation = math.Sqrt(squares / float64(len(us)-1))
	}
	return f
}

// sample is what one round measured of one operation.
type sample struct {
	Operation string   `json:"operation"`
	Round     int      `json:"round"`
	Count     int      `json:"commands"` // on each side
	Worker    figures  `json:"worker"`
	SWTPM     figures  `json:"swtpm"`
	Resets    *resets  `json:"resets,omitempty"`
	Memory    memories `json:"memory"` // after it
}

// resets are the times of the resets before the commands, which are not part of theirs.
type resets struct {
	Worker figures `json:"worker"`
	SWTPM  figures `json:"swtpm"`
}

// memories are the processes' memory.
type memories struct {
	Worker memory `json:"worker"`
	SWTPM  memory `json:"swtpm"`
}

// measure runs every operation in every round.
func (b *bench) measure(ctx context.Context, rounds int) (*results, error) {
	r := &results{Rounds: rounds, Fresh: memories{b.fresh[worker], b.fresh[swtpm]}}
	for _, op := range b.ops {
		r.Operations = append(r.Operations, op.Name)
	}
	for round := range rounds {
		for i := range b.ops {
			op := &b.ops[i]
			pair := b.warm
			if op.Cold {
				pair = b.cold
			}
			s, err := compare(ctx, op, pair, round)
			if err != nil {
				return nil, err
			}
			r.Samples = append(r.Samples, s)
			fmt.Fprintf(os.Stderr, "benchtpm: round %d of %d: %s\n", round+1, rounds, s.line())
		}
	}
	return r, nil
}

// line is a sample in short.
func (s *sample) line() string {
	ours, theirs := s.times()
	return fmt.Sprintf("%-16s %s µs, swtpm %s µs: %s", s.Operation, report.Number(ours), report.Number(theirs), report.Ratio(ours, theirs))
}

// compare runs an operation on both sides, command by command in turn. Each is the first
// every other time.
func compare(ctx context.Context, op *command.Operation, pair [sides]tpm, round int) (s sample, err error) {
	var commands [sides][]byte
	for i, t := range pair {
		k := &command.Kit{TPM: t}
		defer func() {
			if failed := k.Forget(); err == nil && failed != nil {
				err = fmt.Errorf("%s on %s: %w: %w", op.Name, sideNames[i], command.Err, failed)
			}
		}()
		if commands[i], err = op.Prepare(k); err != nil {
			return s, fmt.Errorf("%s on %s: %w", op.Name, sideNames[i], err)
		}
	}
	if !bytes.Equal(commands[worker], commands[swtpm]) {
		return s, fmt.Errorf("%s: %w: the sides would run different commands: %x, %x", op.Name, command.Err, commands[worker], commands[swtpm])
	}
	var times, gaps [sides][]time.Duration
	for n := range 1 + op.Count { // the first is not counted
		if op.Vary != nil {
			op.Vary(commands[worker], uint32(round*(1+op.Count)+n+1)) // both have 0 to begin with
		}
		for k := range pair {
			if err := ctx.Err(); err != nil {
				return s, err
			}
			i := (k + n) % sides
			gap, took, err := once(ctx, op, pair[i], commands[worker])
			if err != nil {
				return s, fmt.Errorf("%s on %s: %w", op.Name, sideNames[i], err)
			}
			if n > 0 {
				times[i], gaps[i] = append(times[i], took), append(gaps[i], gap)
			}
		}
	}
	s = sample{Operation: op.Name, Round: round, Count: op.Count, Worker: summarize(times[worker]), SWTPM: summarize(times[swtpm])}
	if op.Cold {
		s.Resets = &resets{summarize(gaps[worker]), summarize(gaps[swtpm])}
	}
	if s.Memory.Worker, err = memoryOf(pair[worker].Pid()); err != nil {
		return s, err
	}
	s.Memory.SWTPM, err = memoryOf(pair[swtpm].Pid())
	return s, err
}

// once runs a command and returns how long it took, and how long a reset before it.
func once(ctx context.Context, op *command.Operation, t tpm, bytes []byte) (reset, took time.Duration, err error) {
	if op.Cold {
		start := time.Now()
		if err := powerOff(ctx, t); err != nil {
			return 0, 0, err
		}
		reset = time.Since(start)
	}
	k := command.Kit{TPM: t}
	start := time.Now()
	err = k.Send(bytes)
	return reset, time.Since(start), err
}
