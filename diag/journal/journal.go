// Package journal keeps the last lines of the paravisor's log in memory, for those who
// look into it, and redacts the lines of a confidential machine on their way out.
//
// A line is a constant message with attributes. An attribute is private unless it was
// made with inspect.PublicAttr.
package journal

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"keel/diag/inspect"
)

// Bounds of what is kept.
const (
	maxRecords = 1024
	maxBytes   = 128 << 10
	maxAttrs   = 32  // of a record; further ones are left out
	maxText    = 512 // bytes of a message or value; the rest is cut off
)

// Attr is an attribute. Those of a group are named after it, with a dot between.
type Attr struct {
	Key, Value  string
	Sensitivity inspect.Sensitivity
}

// Record is a line of the log.
type Record struct {
	Seq     uint64 // counts up from 1
	Time    time.Time
	Level   slog.Level
	Message string
	Attrs   []Attr
}

// size is about how much memory a record takes, in bytes.
func (r *Record) size() int {
	n := 96 + len(r.Message)
	for i := range r.Attrs {
		n += 40 + len(r.Attrs[i].Key) + len(r.Attrs[i].Value)
	}
	return n
}

// Journal keeps records. The zero value is empty and ready.
type Journal struct {
	mu      sync.Mutex
	records []Record // the last ones, in order
	bytes   int
	next    uint64        // the number of records so far
	changed chan struct{} // closed with the next record, nil while nobody waits
}

// add keeps a record, and forgets old ones to make room.
func (j *Journal) add(r Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	r.Seq = j.next
	j.records = append(j.records, r)
	j.bytes += r.size()
	for len(j.records) > maxRecords || j.bytes > maxBytes {
		j.bytes -= j.records[0].size()
		j.records[0] = Record{} // the array lives on
		j.records = j.records[1:]
	}
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// Next returns the first record after a number, from 0 on, and how many between them are
// forgotten. It waits for one, unless wait is false: then there may be none.
func (j *Journal) Next(ctx context.Context, after uint64, wait bool) (r Record, lost uint64, ok bool, err error) {
	for {
		j.mu.Lock()
		if n := len(j.records); n > 0 && j.next > after {
			first := j.records[0].Seq
			if after+1 < first {
				r, lost = j.records[0], first-after-1
			} else {
				r = j.records[after+1-first]
			}
			j.mu.Unlock()
			return r, lost, true, nil
		}
		if !wait {
			j.mu.Unlock()
			return Record{}, 0, false, nil
		}
		if j.changed == nil {
			j.changed = make(chan struct{})
		}
		changed := j.changed
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Record{}, 0, false, ctx.Err()
		}
	}
}

// Inspect writes how much there is.
func (j *Journal) Inspect(f *inspect.Fields) {
	j.mu.Lock()
	next, kept, bytes := j.next, len(j.records), j.bytes
	j.mu.Unlock()
	f.Uint("lines", inspect.Private, inspect.Count, next, "lines of the log so far")
	f.Gauge("kept", inspect.Private, inspect.Count, uint64(kept), "lines that are kept")
	f.Gauge("bytes", inspect.Private, inspect.Bytes, uint64(bytes), "memory that they take")
}
