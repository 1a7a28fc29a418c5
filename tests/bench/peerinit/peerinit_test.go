package main

import (
	"bytes"
	"testing"
)

func TestFreePages(t *testing.T) {
	const zoneinfo = "Node 0, zone    DMA32\n      nr_free_pages 1\n  pages free     12840\n        high     8448\n" +
		"    cpu: 0\n              count:    399\n    cpu: 1\n              count:    3564\nNode 0, zone   Normal\n  pages free     7\n"
	if got, want := freePages(zoneinfo), uint64(12840+399+3564+7); got != want {
		t.Errorf("%d free pages, want %d", got, want)
	}
}

func TestListener(t *testing.T) {
	var log bytes.Buffer
	l := &listener{to: &log, stopped: make(chan struct{})}
	said := ""
	for _, part := range []string{"warning: x\n", "KVM int", "ernal error. Sub", "error: 3\n", "KVM internal error\n"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		said += part
		select {
		case <-l.stopped:
			if !bytes.Contains([]byte(said), stopWords) {
				t.Errorf("stopped after %q", said)
			}
		default:
			if bytes.Contains([]byte(said), stopWords) {
				t.Errorf("not stopped after %q", said)
			}
		}
	}
	if log.String() != said {
		t.Errorf("passed on %q", log.String())
	}
}
