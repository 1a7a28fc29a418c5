package main

import (
	"bytes"
	"testing"
)

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
