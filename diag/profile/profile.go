// Package profile takes profiles and execution traces of the program that it is part of,
// in the formats of "go tool pprof" and "go tool trace".
//
// A profile has code addresses, names of functions and files, and counts. Nobody labels
// goroutines here: labels would be in it, too (a test watches over that). A trace has what
// the program itself says in it besides.
package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// MaxTime is how long a profile or a trace is taken at most.
const MaxTime = 5 * time.Minute

// Errors of Write and Trace.
var (
	ErrKind = errors.New("no such profile")
	ErrTime = errors.New("impossible time")
	ErrBusy = errors.New("another one is being taken")
	ErrSize = errors.New("the profile is too large")
)

// maxProfile bounds a profile, which is in memory until it is complete, in bytes. Its size
// is that of the code that ran, not of the time.
const maxProfile = 4 << 20

// Rates of what is sampled while somebody asks. It costs too much at other times.
const (
	blockRate = 10_000 // ns that a goroutine waits for each sample
	mutexRate = 10     // contentions for each sample
)

// kind is a kind of profile.
type kind struct {
	name  string
	timed bool   // it is of a stretch of time
	start func() // samples from here on; nil where that is always so
	stop  func()
}

// cpu is the profile that is not one of pprof's tables.
const cpu = "cpu"

// kinds are all that there are. What a table has seen stays in it: those of blocks and
// mutexes add up over all the times that somebody asked.
var kinds = []kind{
	{name: cpu, timed: true},
	{name: "heap"},
	{name: "allocs"},
	{name: "goroutine"},
	{name: "threadcreate"},
	{name: "block", timed: true, start: func() { runtime.SetBlockProfileRate(blockRate) }, stop: func() { runtime.SetBlockProfileRate(0) }},
	{name: "mutex", timed: true, start: func() { runtime.SetMutexProfileFraction(mutexRate) }, stop: func() { runtime.SetMutexProfileFraction(0) }},
}

// Kinds returns the names of the profiles that there are.
func Kinds() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// Timed tells whether a profile is of a stretch of time.
func Timed(name string) bool {
	i := find(name)
	return i >= 0 && kinds[i].timed
}

func find(name string) int {
	return slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
}

// one is held while a profile or a trace of a stretch of time is taken: each costs time.
var one sync.Mutex

// Write writes a profile. One of a stretch of time takes that long; for the others it is
// 0. Errors: ErrKind, ErrTime, ErrBusy, ErrSize, that of ctx when it ended early, and
// those of w.
func Write(ctx context.Context, name string, d time.Duration, w io.Writer) error {
	i := find(name)
	if i < 0 {
		return fmt.Errorf("%w: %q; there are %q", ErrKind, name, Kinds())
	}
	k := &kinds[i]
	if k.timed != (d > 0) || d < 0 || d > MaxTime {
		return fmt.Errorf("%w: %v; 0 for what is as it is now, up to %v for what happens", ErrTime, d, MaxTime)
	}
	var b bounded
	err := k.write(ctx, d, &b)
	if err == nil && b.over {
		err = fmt.Errorf("%w: more than %d bytes", ErrSize, maxProfile)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (k *kind) write(ctx context.Context, d time.Duration, b *bounded) error {
	if !k.timed {
		return pprof.Lookup(k.name).WriteTo(b, 0)
	}
	if !one.TryLock() {
		return ErrBusy
	}
	defer one.Unlock()
	if k.name == cpu {
		if err := pprof.StartCPUProfile(b); err != nil {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
		err := pass(ctx, d)
		pprof.StopCPUProfile()
		return err
	}
	k.start()
	err := pass(ctx, d)
	k.stop()
	if err != nil {
		return err
	}
	return pprof.Lookup(k.name).WriteTo(b, 0)
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bounded is memory with a bound; what is beyond that is lost.
type bounded struct {
	bytes.Buffer
	over bool
}

// Write keeps what there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || b.Len()+len(p) > maxProfile; !b.over {
		b.Buffer.Write(p)
	}
	return len(p), nil
}
