package main

import (
	"bytes"
	"io"
)

// stopWords is how QEMU begins to say that KVM failed. It then stops the guest but
// runs on. QEMU's emulation of SVM brings nested QEMU there at times: KVM does not
// emulate an access to the APIC while an event seems to be under way.
var stopWords = []byte("KVM internal error")

// listener passes on what QEMU says and hears when it gives up.
type listener struct {
	to      io.Writer
	last    []byte // the end of what was said, for words that come in pieces
	stopped chan struct{}
	given   bool // stopped is closed
}

// Write implements io.Writer.
func (l *listener) Write(b []byte) (int, error) {
	l.last = append(l.last, b...)
	if !l.given && bytes.Contains(l.last, stopWords) {
		l.given = true
		close(l.stopped)
	}
	l.last = l.last[max(0, len(l.last)-len(stopWords)):]
	return l.to.Write(b)
}
