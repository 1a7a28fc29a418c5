package main

import (
	"cmp"
	"slices"
	"strings"

	"keel/diag/client"
	"keel/diag/inspect"
)

// topView is what "keel diag top" shows of one interval.
type topView struct {
	UptimeSeconds float64           `json:"uptime_seconds"`
	Seconds       float64           `json:"seconds"` // of the interval, by the clock of the VM
	Confidential  bool              `json:"confidential"`
	Memory        map[string]uint64 `json:"memory"` // in bytes
	VPs           []topVP           `json:"vps"`
	Exits         []topExit         `json:"exits,omitempty"`
	Disks         []topDisk         `json:"disks,omitempty"`
}

// topVP is a virtual processor.
type topVP struct {
	Name  string   `json:"vp"`
	Busy  float64  `json:"busy"`                       // share of the time that it had a CPU
	Exits *float64 `json:"exits_per_second,omitempty"` // nil where they are private
}

// topExit is a kind of exits.
type topExit struct {
	Kind      string  `json:"kind"`
	PerSecond float64 `json:"per_second"`
}

// topDisk is a disk: as the guest uses it, or where that is private, as Keel uses its
// controllers. Numbers are of a second.
type topDisk struct {
	Name         string  `json:"disk"`
	Reads        float64 `json:"reads_per_second"`
	Writes       float64 `json:"writes_per_second"`
	ReadBytes    float64 `json:"read_bytes_per_second"`
	WrittenBytes float64 `json:"written_bytes_per_second"`
	Depth        uint64  `json:"depth"` // commands under way
	MedianUS     *uint64 `json:"median_us,omitempty"`
	P99US        *uint64 `json:"p99_us,omitempty"`
}

// child returns what is beneath a field along a path, nil if there is no such thing.
func child(f *inspect.Field, path string) *inspect.Field {
	for name := range strings.SplitSeq(path, "/") {
		if f == nil {
			return nil
		}
		i := slices.IndexFunc(f.Fields, func(below inspect.Field) bool { return below.Name == name })
		if i < 0 {
			return nil
		}
		f = &f.Fields[i]
	}
	return f
}

// value returns a number, 0 if there is none.
func value(f *inspect.Field, path string) uint64 {
	if f = child(f, path); f == nil {
		return 0
	}
	n, _ := f.Value.(uint64)
	return n
}

// pair is the same part of the tree before and after an interval.
type pair struct {
	before, after *inspect.Field
	seconds       float64
}

// at returns what is beneath the part.
func (p pair) at(path string) pair {
	return pair{child(p.before, path), child(p.after, path), p.seconds}
}

// gain returns what a number has gained in a second. A VM that says nonsense has gained
// nothing.
func (p pair) gain(path string) float64 {
	was, is := value(p.before, path), value(p.after, path)
	if is < was || p.seconds <= 0 {
		return 0
	}
	return float64(is-was) / p.seconds
}

// each calls do for every field beneath the part, as it is after the interval.
func (p pair) each(do func(name string, below pair)) {
	if p.after == nil {
		return
	}
	for i := range p.after.Fields {
		f := &p.after.Fields[i]
		below := pair{nil, f, p.seconds}
		if p.before != nil {
			below.before = child(p.before, f.Name)
		}
		do(f.Name, below)
	}
}

// topOf compares two looks at a VM.
func topOf(before, after *client.Tree) *topView {
	up := value(&after.Field, "uptime")
	v := &topView{Confidential: after.Confidential, UptimeSeconds: float64(up) / 1e6, Memory: map[string]uint64{}, VPs: []topVP{}}
	if was := value(&before.Field, "uptime"); up > was {
		v.Seconds = float64(up-was) / 1e6
	}
	all := pair{&before.Field, &after.Field, v.Seconds}
	all.at("memory").each(func(name string, f pair) { v.Memory[name], _ = f.after.Value.(uint64) })
	all.at("vp").each(func(name string, f pair) {
		vp := topVP{Name: name, Busy: f.gain("run") / 1e6}
		if kinds := f.at("exits"); kinds.after != nil && !kinds.after.Withheld {
			sum := 0.0
			kinds.each(func(kind string, _ pair) { sum += kinds.gain(kind) })
			vp.Exits = &sum
		}
		v.VPs = append(v.VPs, vp)
	})
	exits := all.at("exits")
	exits.each(func(kind string, _ pair) { v.Exits = append(v.Exits, topExit{kind, exits.gain(kind)}) })
	slices.SortStableFunc(v.Exits, func(a, b topExit) int { return cmp.Compare(b.PerSecond, a.PerSecond) })
	all.at("disks").each(func(name string, f pair) { v.Disks = append(v.Disks, disk(name, f)) })
	return v
}

// disk sums up what a disk did.
func disk(name string, p pair) topDisk {
	d := topDisk{Name: name}
	var latency inspect.Histogram
	add := func(p pair) {
		d.Reads += p.gain("reads")
		d.Writes += p.gain("writes")
		d.ReadBytes += p.gain("read_bytes")
		d.WrittenBytes += p.gain("written_bytes")
		d.Depth += value(p.after, "depth")
		latency = sum(latency, p.at("latency"))
	}
	if guest := p.at("guest"); guest.after != nil && len(guest.after.Fields) > 0 {
		add(guest)
	} else {
		p.at("members").each(func(_ string, member pair) { add(member) })
	}
	d.MedianUS, d.P99US = quantile(latency, 50), quantile(latency, 99)
	return d
}

// sum adds what a histogram has gained.
func sum(h inspect.Histogram, p pair) inspect.Histogram {
	if p.after == nil {
		return h
	}
	after, _ := p.after.Value.(inspect.Histogram)
	var before inspect.Histogram
	if p.before != nil {
		before, _ = p.before.Value.(inspect.Histogram)
	}
	if len(h.Counts) == 0 {
		h = inspect.Histogram{Bounds: after.Bounds, Counts: make([]uint64, len(after.Counts))}
	}
	if !slices.Equal(h.Bounds, after.Bounds) {
		return h
	}
	for i, n := range after.Counts {
		was := uint64(0)
		if i < len(before.Counts) {
			was = before.Counts[i]
		}
		if n > was {
			h.Counts[i] += n - was
		}
	}
	return h
}

// quantile returns a bound beneath which so many percent lie: the least that there is,
// nil where there is nothing, or no bound.
func quantile(h inspect.Histogram, percent float64) *uint64 {
	all := 0.0
	for _, n := range h.Counts {
		all += float64(n)
	}
	seen := 0.0
	for i, bound := range h.Bounds {
		if seen += float64(h.Counts[i]); all > 0 && seen >= all*percent/100 {
			return &bound
		}
	}
	return nil
}
