// Command load runs fio as a plan says, in a guest and in VTL2 alike, and reports in
// the words of package tests/guest:
//
//	KEEL-GUEST note window NAME begin   the job NAME is under way, and steady
//	KEEL-GUEST note window NAME end     it is still
//	KEEL-BENCH NAME.iops VALUE 1/s      and so on, for each job that came to its end
//	KEEL-GUEST result PASS load ...     all of them did
//
// The host looks at the time and at what the VM has cost between the two windows.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"keel/tests/benchdisk/fio"
)

// Where things are on every side.
const fioPath = "/usr/bin/fio"

// Times around a job.
const (
	deviceWait = time.Minute
	warmUp     = 1               // seconds, of a job that nobody looks at
	settle     = 2 * time.Second // from fio's start to a steady stream, on top of the ramp
	margin     = 2 * time.Second // the windows are so much narrower than the measurement
)

func main() {
	alone := flag.Bool("alone", false, "say also what /init of a guest says")
	text := flag.String("plan", "", "jobs, seconds and ramp, as package fio writes them")
	flag.Parse()
	if *alone {
		fmt.Println("KEEL-GUEST userspace")
	}
	err := run(*text, flag.Arg(0))
	if err != nil {
		fmt.Printf("KEEL-GUEST result FAIL load %q\n", err.Error())
	} else {
		fmt.Println("KEEL-GUEST result PASS load", *text)
	}
	if *alone {
		fmt.Println("KEEL-GUEST done")
	}
	if err != nil {
		os.Exit(1)
	}
}

func run(text, device string) error {
	p, err := fio.ParsePlan(text)
	if err != nil {
		return err
	}
	if err := await(device); err != nil {
		return err
	}
	if len(p.Jobs) == 0 {
		return nil
	}
	warm := fio.Plan{Seconds: warmUp}
	if _, err := job(warm, fio.Jobs[0], device, nil); err != nil {
		return err
	}
	for _, j := range p.Jobs {
		f, err := job(p, j, device, windows(p, j))
		if err != nil {
			return fmt.Errorf("%s: %w", j.Name, err)
		}
		for _, v := range []struct {
			name  string
			value float64
			unit  string
		}{{"iops", f.IOPS, "1/s"}, {"ios", f.IOs, "1"}, {"mean", f.MeanUS, "us"}, {"p99", f.P99US, "us"}} {
			fmt.Printf("KEEL-BENCH %s.%s %.1f %s\n", j.Name, v.name, v.value, v.unit)
		}
	}
	return nil
}

var errDevice = errors.New("no such device")

func await(device string) error {
	for deadline := time.Now().Add(deviceWait); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s, err := os.Stat(device); err == nil && s.Mode()&os.ModeDevice != 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errDevice, device)
}

// windows says when a job has become steady and when it is about to end.
func windows(p fio.Plan, j fio.Job) func() {
	return func() {
		time.Sleep(time.Duration(p.Ramp)*time.Second + settle)
		fmt.Println("KEEL-GUEST note window", j.Name, "begin")
		time.Sleep(max(time.Second, time.Duration(p.Seconds)*time.Second-settle-margin))
		fmt.Println("KEEL-GUEST note window", j.Name, "end")
	}
}

// job runs fio once, and calls during, if there is such, meanwhile.
func job(p fio.Plan, j fio.Job, device string, during func()) (fio.Figures, error) {
	var said bytes.Buffer
	c := exec.Command(fioPath, p.Args(j, device)...)
	c.Stdout, c.Stderr, c.Dir = &said, &said, "/tmp"
	if err := c.Start(); err != nil {
		return fio.Figures{}, err
	}
	if during != nil {
		during()
	}
	if err := c.Wait(); err != nil {
		return fio.Figures{}, fmt.Errorf("%w: %.300q", err, said.Bytes())
	}
	return fio.Parse(said.Bytes())
}
