package qemu

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
)

// outputs are where the VM's channels go.
type outputs struct {
	console io.Writer
	log     io.Writer // nil for nowhere
	vtl2    io.Writer // nil for nowhere
	stdio   bool      // the console is the user's terminal
}

// openOutputs opens the files that the user named for output.
func openOutputs(o *Options, t *Terminal) (out outputs, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			_ = f.Close() // written without a buffer; errors showed up in Write
		}
	}
	create := func(flag, path string) *os.File {
		f, e := os.Create(path)
		if e != nil {
			err = &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot write " + flag, Remedy: "name a file that can be written", Err: e}
			return nil
		}
		files = append(files, f)
		return f
	}
	out.console, out.stdio = t.Out, o.Console == ConsoleStdio
	if !out.stdio {
		out.console = create("--console", o.Console)
	}
	if err == nil && o.Log != "" {
		out.log = create("--log", o.Log)
	}
	if err == nil && o.VTL2Log != "" {
		out.vtl2 = create("--vtl2-log", o.VTL2Log)
	}
	if err != nil {
		closeAll()
	}
	return out, closeAll, err
}

// copyConsole copies the console to its reader. Only an error of the reader
// counts: that of a VM which went away shows in the events.
func (s *session) copyConsole() {
	defer close(s.copied)
	_, _ = io.Copy(s.console, s.ch.console)
	if err := s.console.err; err != nil {
		s.output <- err
	}
}

// watched remembers the first error of a writer and counts its writes.
type watched struct {
	to            io.Writer
	err           error // of the first write that failed; for the writing goroutine
	began, passed atomic.Uint64
}

func (w *watched) Write(b []byte) (int, error) {
	w.began.Add(1)
	n, err := w.to.Write(b)
	w.passed.Add(1)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// quiet waits until nothing more is written, but not for longer than patience.
// The VM's last event can overtake its last words: they take different queues.
func (w *watched) quiet(patience time.Duration) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before := w.began.Load()
		time.Sleep(quietTime)
		if w.began.Load() == before && w.passed.Load() == before {
			return
		}
	}
}

// tee returns r with a copy of what is read going to w, unless that is nil.
func tee(r io.Reader, w io.Writer) io.Reader {
	if w == nil {
		return r
	}
	return io.TeeReader(r, lossy{w})
}

// lossy swallows the errors of a writer: a full disk under the log ends
// neither the log's reading nor the run.
type lossy struct{ io.Writer }

func (l lossy) Write(b []byte) (int, error) {
	_, _ = l.Writer.Write(b) // see above
	return len(b), nil
}
